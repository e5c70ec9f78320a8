//! Executes one message on one Internet Computer canister, on Wasmtime.
//!
//! An [`Engine`] compiles modules; a [`Canister`] holds one canister's memories and executes [`Message`]s, each as a whole or
//! not at all; an [`Outcome`] says what became of it.
//!
//! Reading order: `message` and `outcome` are the words; `compile` makes machine code; `memory` and `dirty` hold the bytes
//! and what changed of them; `instance` is a live Wasmtime instance; `execute` runs one entry point; `canister`,
//! `process` and `install` are messages and installations made of such runs, `aside` is what a composite query did while
//! another one runs; `commit` is the way to the store; `snapshot`,
//! `restore` and `upload` are canisters at one moment, with `image` for their memories and `globals` for their globals;
//! `ic0` are the host functions; `sys` is all the unsafe code.
//!
//! What is absent: clocks, randomness, files with names, threads. Wasm may use 5 MiB of stack: call in on threads with at
//! least 8 MiB.
#![deny(unsafe_code)]

/// Whether a seeded mistake of that name is active: never, in what is shipped.
macro_rules! mutant {
    ($name:ident) => {
        cfg!(feature = "mutants") && crate::mutant_is_active(stringify!($name))
    };
}

mod aside;
mod background;
mod cache;
mod canister;
mod commit;
mod compile;
mod compiler;
mod dirty;
mod error;
mod execute;
mod globals;
mod ic0;
mod image;
mod install;
mod instance;
mod memory;
mod message;
mod outcome;
mod pages;
mod prices;
mod process;
mod replica;
mod restore;
mod snapshot;
mod state;
mod sys;
mod system;
mod touched;
mod upload;

#[cfg(feature = "mutants")]
use bedstone_store::mutants::is_active as mutant_is_active;
#[cfg(not(feature = "mutants"))]
const fn mutant_is_active(_: &str) -> bool {
    false
}

pub use aside::QueryAside;
pub use bedstone_instrument::entry_points::Visibility as MetadataVisibility;
pub use bedstone_instrument::{Counter, Manifest, StableAccess, Tracker};
pub use bedstone_store as store;
pub use cache::CompileCache;
pub use canister::Canister;
pub use commit::{CANISTER_KEYS, Summary};
pub use compile::{Engine, EngineConfig, InstructionLimits, Module};
pub use compiler::Compiler;
pub use error::{Error, ErrorKind};
pub use globals::GlobalValue;
pub use ic_principal::Principal;
pub use image::Keeping;
pub use install::Installation;
pub use message::{
    CallInfo, Callback, Closure, Context, Entry, InstallMode, Message, OutgoingCall, WasmMemoryPersistence,
};
pub use outcome::{Fault, Outcome, Response};
pub use prices::{Certifier, CyclePrices, SubnetInfo};
pub use replica::Replica;
pub use snapshot::{Snapshot, SnapshotDetails, SnapshotPart, SnapshotSource, Unfinished};
pub use sys::{is_private, next_data};
pub use system::{Log, LogRecord, LowWasmMemoryHook, RunState, Settings, SystemState, Visibility};
pub use upload::{SnapshotBytes, UploadedModule};
