//! A deterministic subnet on one node: canisters by id, their messages in order, and time that moves when told.
//!
//! Same inputs, same outcomes: no clock, no randomness, no files. Reading order: `reject` is how calls fail; `subnet` holds
//! the canisters; `calls` are the words for what is under way between them, `deliver` is one message and what follows from
//! it, `round` whose turn it is; `ingress` and `query` are the ways in from outside, `management` the canister that manages
//! the others, `lifecycle` their beginning and end; `saved` and `journal` are the way to the store.
#![forbid(unsafe_code)]

mod calls;
mod deliver;
mod ingress;
mod journal;
mod lifecycle;
mod management;
mod query;
mod reject;
mod round;
mod saved;
mod subnet;

pub use bedstone_engine as engine;
pub use ingress::MessageId;
pub use reject::Reject;
pub use round::Round;
pub use subnet::{Call, CallKind, CanisterStatus, Install, Receipt, Subnet, SubnetConfig};
