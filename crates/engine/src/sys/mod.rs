//! All unsafe code of the project: memory mappings, the object through which Wasmtime uses them, and loading machine code.
//!
//! Invariants:
//! - A [`Mapping`] owns its address range from `mmap` to `munmap`. No reference into it ever exists: bytes are copied in
//!   and copied out, because Wasm code changes them behind Rust's back.
//! - A mapping is touched by one thread at a time: by the Wasm code of the instance that uses it, by the host functions
//!   that this code calls, or, between messages, by the owner of the canister (`&mut Canister`). Or it is read by any
//!   number of them while nobody writes: those who answer queries from memories of their own (`&Canister`).
//! - Bytes past a mapping's length are inaccessible, so an access there faults inside the range that Wasmtime knows as
//!   the memory's own and becomes a trap.
//! - A page that is write-protected is written by Wasm alone, or by what Wasm called: there is a handler only then.
//!
#![allow(
    unsafe_code,
    reason = "the one place where mappings are made and given to Wasmtime, and where code is loaded"
)]

mod anonymous;
mod artefact;
mod bytes;
mod code;
mod creator;
mod fault;
mod images;
mod mapping;
mod protect;

pub(crate) use anonymous::AnonymousFile;
pub use anonymous::next_data;
pub use artefact::is_private;
pub(crate) use artefact::{Authentic, Key, SerialisedModule, touch};
pub(crate) use code::LoadedCode;
pub(crate) use creator::{Creator, with_memories};
pub(crate) use fault::handle_faults;
pub(crate) use mapping::{Mapping, PAGE, Shape};
pub(crate) use protect::Protected;
