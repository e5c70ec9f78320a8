//! Runs Internet Computer canisters inside a test process: no server, no port, no download.
//!
//! ```
//! use bedstone::Network;
//! use candid::Nat;
//!
//! # fn main() -> Result<(), bedstone::Error> {
//! let wasm = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../canisters/prebuilt/btreemap.wasm")).unwrap();
//! let network = Network::new()?;
//! let map = network.create_canister()?;
//! network.install(map, &wasm, ())?;
//!
//! let before: (Option<Nat>,) = network.update(map, "insert", (Nat::from(1_u8), Nat::from(10_u8)))?;
//! assert_eq!(before, (None,));
//!
//! // New code, same data: it lives in stable memory.
//! network.upgrade(map, &wasm, ())?;
//! let after: (Option<Nat>,) = network.query(map, "get", (Nat::from(1_u8),))?;
//! assert_eq!(after, (Some(Nat::from(10_u8)),));
//! # Ok(())
//! # }
//! ```
//!
//! Everything is synchronous. A [`Network`] owns one thread with a stack large enough for Wasm and hands it whole requests;
//! it can be shared between threads. [`Network::call`] gives a [`Receipt`] with what a call cost.
#![forbid(unsafe_code)]

mod engines;
mod error;
mod export;
mod import;
mod interface;
mod messages;
mod network;
mod snapshot_directory;
mod snapshots;
mod worker;

pub use bedstone_subnet::engine::store::{Durability, Progress};
pub use bedstone_subnet::engine::{
    Counter, CyclePrices, GlobalValue, InstallMode, LogRecord, LowWasmMemoryHook, Principal, SnapshotSource,
    StableAccess, WasmMemoryPersistence,
};
pub use bedstone_subnet::{
    Call, CallKind, CanisterStatus, Install, MessageId, Reject, Round, SNAPSHOTS_MAX, SnapshotId,
    SnapshotIdError, SnapshotInfo, SnapshotMetadata,
};
pub use error::Error;
pub use interface::Interface;
pub use network::{Network, NetworkBuilder, Receipt, StableMemory};
pub use snapshot_directory::METADATA_FILE;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
