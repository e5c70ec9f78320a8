//! The rewritten canister against the original on plain Wasmtime.
//!
//! Counting cannot matter here: a message that runs out of instructions ends the case. Up to and including the first trap
//! both must do the same; a trap must be the same trap.

use bedstone_engine::{Entry, Response};
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Module, Store, Trap};

use crate::canister::{Seen, install, overflowed, send};
use crate::generate;

/// What the original's host functions keep.
#[derive(Default)]
struct Host {
    stable: Vec<u8>,
    /// A stable access was out of bounds.
    fault: Option<&'static str>,
}

/// One case; `false` if there was nothing to compare.
pub fn run(seed: u64) -> bool {
    let Some(wasm) = generate::canister(seed) else { return false };
    let Some((mut canister, outcome)) = install(0, &wasm) else { return false };
    if !matches!(outcome.response, Response::None) {
        return true; // a start function that traps or loops; `agree` looks at it
    }
    let Some((mut store, instance)) = original(&wasm) else { return true };
    for (index, method) in ["a", "b", "a", "b"].into_iter().enumerate() {
        let outcome = send(&mut canister, Entry::Update(method));
        let fault = match &outcome.response {
            Response::Trapped(fault) if overflowed(&outcome) || fault.code == 522 => return true,
            Response::Trapped(fault) => Some(fault.detail.clone()),
            _ => None,
        };
        let expected = call(&mut store, &instance, &format!("canister_update {method}"));
        assert_eq!(fault, expected, "seed {seed}, message {index}, {method}");
        if fault.is_some() {
            return true; // ours is rolled back, the original is not
        }
        let seen = Seen::of(&canister);
        assert!(seen.stable == store.data().stable, "seed {seed}, message {index}: stable memory");
        for (memory, heap) in seen.heaps.iter().enumerate() {
            let expected = contents(&mut store, &instance, memory);
            assert!(*heap == expected, "seed {seed}, message {index}: memory {memory}");
        }
    }
    true
}

/// Exports of the original do not include its memories, so they are added for the comparison, under these names.
fn memory_name(memory: usize) -> String {
    format!("memory {memory}")
}

fn original(wasm: &[u8]) -> Option<(Store<Host>, Instance)> {
    thread_local! {
        static ENGINE: Engine = {
            let mut config = Config::new();
            config.wasm_memory64(true).wasm_multi_memory(true).wasm_relaxed_simd(false).cranelift_nan_canonicalization(true);
            Engine::new(&config).expect("this machine runs Wasm")
        };
    }
    let wasm = with_memories_exported(wasm)?;
    ENGINE.with(|engine| {
        let module = Module::new(engine, &wasm).expect("the canister was accepted");
        let mut store = Store::new(engine, Host::default());
        let linker = linker(engine);
        let instance = linker.instantiate(&mut store, &module).ok()?;
        let init = instance.get_typed_func::<(), ()>(&mut store, "canister_init").expect("appended");
        init.call(&mut store, ()).ok()?;
        Some((store, instance))
    })
}

fn with_memories_exported(wasm: &[u8]) -> Option<Vec<u8>> {
    use wasm_encoder::reencode::Reencode;
    /// How many memories there are: their section comes before that of the exports.
    struct AddExports(u32);
    impl Reencode for AddExports {
        type Error = std::convert::Infallible;

        fn parse_memory_section(
            &mut self,
            memories: &mut wasm_encoder::MemorySection,
            section: wasmparser::MemorySectionReader<'_>,
        ) -> Result<(), wasm_encoder::reencode::Error<Self::Error>> {
            self.0 = section.count();
            wasm_encoder::reencode::utils::parse_memory_section(self, memories, section)
        }

        fn parse_export_section(
            &mut self,
            exports: &mut wasm_encoder::ExportSection,
            section: wasmparser::ExportSectionReader<'_>,
        ) -> Result<(), wasm_encoder::reencode::Error<Self::Error>> {
            for memory in 0..self.0 {
                exports.export(&memory_name(memory as usize), wasm_encoder::ExportKind::Memory, memory);
            }
            wasm_encoder::reencode::utils::parse_export_section(self, exports, section)
        }
    }
    let mut module = wasm_encoder::Module::new();
    AddExports(0).parse_core_module(&mut module, wasmparser::Parser::new(0), wasm).ok()?;
    Some(module.finish())
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    let wrapped = "distinct names";
    linker
        .func_wrap("ic0", "stable64_size", |caller: Caller<'_, Host>| caller.data().stable.len() as u64 >> 16)
        .expect(wrapped);
    linker
        .func_wrap("ic0", "stable64_grow", |mut caller: Caller<'_, Host>, pages: u64| {
            let stable = &mut caller.data_mut().stable;
            let old = stable.len() as u64 >> 16;
            match old.checked_add(pages).filter(|pages| *pages <= 1 << 10) {
                Some(pages) => {
                    stable.resize((pages << 16) as usize, 0);
                    old
                }
                None => u64::MAX,
            }
        })
        .expect(wrapped);
    linker
        .func_wrap("ic0", "stable64_read", |mut caller: Caller<'_, Host>, to: u64, from: u64, len: u64| {
            copy(&mut caller, to, from, len, false)
        })
        .expect(wrapped);
    linker
        .func_wrap("ic0", "stable64_write", |mut caller: Caller<'_, Host>, to: u64, from: u64, len: u64| {
            copy(&mut caller, from, to, len, true)
        })
        .expect(wrapped);
    linker
}

fn copy(
    caller: &mut Caller<'_, Host>,
    heap: u64,
    stable: u64,
    len: u64,
    write: bool,
) -> wasmtime::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let memory = caller.get_export(&memory_name(0)).and_then(Extern::into_memory).expect("exported");
    let (bytes, host) = memory.data_and_store_mut(caller);
    let range = |at: u64, size: usize| {
        let end = at.checked_add(len).filter(|end| *end <= size as u64)?;
        Some(at as usize..end as usize)
    };
    let Some(stable) = range(stable, host.stable.len()) else {
        host.fault = Some("Canister trapped: stable memory out of bounds");
        wasmtime::bail!("stable memory out of bounds");
    };
    let Some(heap) = range(heap, bytes.len()) else {
        host.fault = Some("Canister trapped: heap out of bounds");
        wasmtime::bail!("heap out of bounds");
    };
    if write {
        host.stable[stable].copy_from_slice(&bytes[heap]);
    } else {
        bytes[heap].copy_from_slice(&host.stable[stable]);
    }
    Ok(())
}

/// Calls a method; the trap in the IC's words, if there was one.
fn call(store: &mut Store<Host>, instance: &Instance, name: &str) -> Option<String> {
    let function = instance.get_typed_func::<(), ()>(&mut *store, name).expect("exported");
    let error = function.call(&mut *store, ()).err()?;
    if let Some(fault) = store.data_mut().fault.take() {
        return Some(fault.to_owned());
    }
    let text = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "Canister trapped: unreachable",
        Some(Trap::MemoryOutOfBounds) => "Canister trapped: heap out of bounds",
        Some(Trap::TableOutOfBounds) => "Canister trapped: table out of bounds",
        Some(Trap::IntegerDivisionByZero) => "Canister trapped: integer division by 0",
        Some(Trap::BadSignature) => {
            "Canister violated contract: function invocation does not match its signature"
        }
        _ => "Canister trapped: unknown",
    };
    Some(text.to_owned())
}

fn contents(store: &mut Store<Host>, instance: &Instance, memory: usize) -> Vec<u8> {
    let name = memory_name(memory);
    instance.get_memory(&mut *store, &name).expect("exported").data(&*store).to_vec()
}
