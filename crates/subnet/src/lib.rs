//! A deterministic subnet on one node: canisters by id, their messages in order, and time that moves when told.
//!
//! Same inputs, same outcomes: no clock, no randomness, no files. Reading order: `reject` is how calls fail, `subnet` holds
//! the canisters and routes calls to them, `saved` is the way to the store.
#![forbid(unsafe_code)]

mod reject;
mod saved;
mod subnet;

pub use bedstone_engine as engine;
pub use reject::Reject;
pub use subnet::{Call, CallKind, CanisterStatus, Install, Receipt, Subnet, SubnetConfig};
