//! Runs Internet Computer canisters inside a test process: no server, no port, no download.
//!
//! # From `cargo add` to an upgrade test
//!
//! ```console
//! cargo add --dev bedstone candid
//! ```
//!
//! ```
//! use bedstone::Network;
//! use candid::Nat;
//!
//! # fn main() -> Result<(), bedstone::Error> {
//! # const WASM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../canisters/prebuilt/btreemap.wasm");
//! let wasm = std::fs::read(WASM).expect("built by `cargo build --target wasm32-unknown-unknown`");
//! let network = Network::new()?;
//! let map = network.create_canister()?;
//! network.install(map, &wasm, ())?;
//!
//! let before: (Option<Nat>,) = network.update(map, "insert", (Nat::from(1_u8), Nat::from(10_u8)))?;
//! assert_eq!(before, (None,));
//!
//! // A copy for each thing to try; what they share is in memory once.
//! let fork = network.fork()?;
//! let _: (Option<Nat>,) = fork.update(map, "insert", (Nat::from(1_u8), Nat::from(0_u8)))?;
//!
//! // New code, same data: it lives in stable memory.
//! network.upgrade(map, &wasm, ())?;
//! let after: (Option<Nat>,) = network.query(map, "get", (Nat::from(1_u8),))?;
//! assert_eq!(after, (Some(Nat::from(10_u8)),));
//! # Ok(())
//! # }
//! ```
//!
//! # What else there is
//!
//! - [`Network::call`] takes any caller and raw bytes, and gives a [`Receipt`]: instructions, pages, time, printed lines.
//! - Canisters call each other within a call. [`Network::submit`], [`Network::tick`] and [`Network::await_call`] take that apart.
//! - Time stands still until [`Network::advance_time`] moves it, and due timers fire.
//! - [`NetworkBuilder`] says where state is kept and how durably, what things cost in cycles, how stable memory is reached
//!   and written pages are found.
//! - [`Network::take_snapshot`] and [`Network::export_snapshot`] carry a canister's state through time, and to the IC.
//!
//! Everything is synchronous, and a network can be shared between threads: what changes something happens in order, queries
//! are answered beside each other. Same calls in the same order give the same results, to the bit.
#![forbid(unsafe_code)]

mod compile_cache;
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
    Compiler, Counter, CyclePrices, GlobalValue, InstallMode, LogRecord, LowWasmMemoryHook, Principal,
    SnapshotSource, StableAccess, Tracker, WasmMemoryPersistence,
};
pub use bedstone_subnet::{
    Call, CallKind, CanisterStatus, HttpHeader, HttpResponse, Install, MessageId, PendingHttp, Reject, Round,
    SNAPSHOTS_MAX, SnapshotId, SnapshotIdError, SnapshotInfo, SnapshotMetadata,
};
pub use compile_cache::CompileCache;
pub use error::Error;
pub use interface::Interface;
pub use network::{Network, NetworkBuilder, Receipt, StableMemory};
pub use snapshot_directory::METADATA_FILE;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
