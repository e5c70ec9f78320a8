//! A deterministic subnet on one node: canisters by id, their messages in order, and time that moves when told.
//!
//! Same inputs, same outcomes: no clock, no randomness, no files. Reading order: `reject` is how calls fail; `subnet` holds
//! the canisters; `calls` are the words for what is under way between them, `deliver` is one message and what follows from
//! it, `round` whose turn it is; `ingress` and `query` are the ways in from outside, `management` the canister that manages
//! the others, `lifecycle` their beginning and end; `saved` and `journal` are the way to the store; `snapshots` are canisters
//! at one moment, and `fork` makes canisters of them.
#![forbid(unsafe_code)]

mod calls;
mod certificate;
mod deliver;
mod fork;
mod hash;
mod import;
mod ingress;
mod journal;
mod lifecycle;
mod management;
mod query;
mod reject;
mod round;
mod saved;
mod snapshot_id;
mod snapshot_requests;
mod snapshot_transfer;
mod snapshots;
mod subnet;
mod twin;
mod upkeep;

pub use bedstone_engine as engine;
pub use certificate::subnet_info;
pub use import::Import;
pub use ingress::MessageId;
pub use management::{HttpHeader, HttpResponse, PendingHttp, Transform};
pub use query::Replicas;
pub use reject::Reject;
pub use round::Round;
pub use snapshot_id::{SnapshotId, SnapshotIdError};
pub use snapshot_requests::SnapshotInfo;
pub use snapshot_transfer::{SNAPSHOT_SLICE_BYTES_MAX, SnapshotData, SnapshotMetadata, SnapshotTarget};
pub use snapshots::{RequestError, SNAPSHOTS_MAX};
pub use subnet::{Call, CallKind, CanisterStatus, Install, Receipt, Subnet, SubnetConfig};
