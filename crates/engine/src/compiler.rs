//! Wasmtime's two compilers, set up alike: Cranelift, whose code is fast, and Winch, which is fast itself.
//!
//! Invariants:
//! - Both give the same results, bit for bit, not-a-numbers included, and the same traps; only how deep a stack may become
//!   before it overflows is different.
//! - What Winch cannot take (tail calls, a few vector operators) it refuses, and Cranelift gets.

use std::sync::Arc;

use wasmtime::{InstancePre, Linker, Module, Strategy, WasmBacktraceDetails};

use crate::error::Error;
use crate::ic0::{self, HostFunctions};
use crate::memory::{GUARD_BYTES, RESERVATION_BYTES};
use crate::state::MessageState;
use crate::sys::{Creator, LoadedCode};

/// Bytes of stack that Wasm code may use, as in production.
const WASM_STACK_BYTES: usize = 5 << 20;

/// Which compilers modules go through. Replies, counts of instructions and saved states are the same; only how deep a stack
/// may become before it overflows is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compiler {
    /// Cranelift: code that is fast, after a wait.
    #[default]
    Optimising,
    /// Winch, where it can: code that runs sooner and slower. Cranelift for other modules.
    Baseline,
    /// Winch first; Cranelift meanwhile on a thread of its own. A canister changes to the faster code between two messages.
    BaselineThenOptimising,
}

/// One of Wasmtime's compilers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tier {
    Baseline,
    Optimising,
}

/// A compiler, and what its modules are linked with.
pub(crate) struct Backend {
    pub engine: wasmtime::Engine,
    /// Host functions for 32-bit and 64-bit heaps.
    linkers: [Linker<MessageState>; 2],
    /// Where modules that are not compiled but loaded run.
    pub loaded: Arc<LoadedCode>,
}

impl Backend {
    /// # Errors
    /// If this machine cannot run what the compiler makes.
    pub fn new(tier: Tier, functions: HostFunctions) -> Result<Self, Error> {
        let loaded = Arc::<LoadedCode>::default();
        let mut config = wasmtime_config(tier);
        loaded.serve(&mut config);
        let engine = wasmtime::Engine::new(&config).map_err(Error::machine)?;
        let mut linkers = [Linker::new(&engine), Linker::new(&engine)];
        ic0::link::<u32>(&mut linkers[0], functions).map_err(Error::machine)?;
        ic0::link::<u64>(&mut linkers[1], functions).map_err(Error::machine)?;
        Ok(Self { engine, linkers, loaded })
    }

    /// The module with its host functions.
    pub fn link(&self, module: &Module, memory64: bool) -> Result<InstancePre<MessageState>, Error> {
        self.linkers[usize::from(memory64)].instantiate_pre(module).map_err(Error::machine)
    }
}

fn wasmtime_config(tier: Tier) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .strategy(match tier {
            Tier::Baseline => Strategy::Winch,
            Tier::Optimising => Strategy::Cranelift,
        })
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        // Winch has none, and refuses modules that do.
        .wasm_tail_call(tier == Tier::Optimising)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        // Both compilers heed it.
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        // Backtraces name functions, which is all the IC shows; the rest would be a seventh of what is compiled, and kept.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Unused (nothing is async), but it must not be smaller.
        .async_stack_size(2 * WASM_STACK_BYTES)
        .with_host_memory(Arc::new(Creator))
        .memory_reservation(RESERVATION_BYTES)
        .memory_guard_size(GUARD_BYTES)
        // They never move, but `false` would also say that no memory outgrows the reservation: compiled code would refuse
        // every access beyond 4 GiB.
        .memory_may_move(true)
        .memory_init_cow(false);
    config
}
