//! Rewrites Internet Computer canisters for Wasm-native stable memory.
//!
//! [`instrument`] is a pure function: Wasm in, Wasm and a [`Manifest`] out. The output counts instructions as the IC
//! does, reaches stable memory directly (or through host functions, as before), marks every heap page that it writes,
//! and is otherwise the canister that it was.
//!
//! A stable write, before:
//!
//! ```wat
//! (module
//!   (import "ic0" "stable64_write" (func $stable64_write (param i64 i64 i64)))
//!   (memory 1)
//!   (func (export "canister_update t")
//!     (call $stable64_write (i64.const 0) (i64.const 0) (i64.const 8))))
//! ```
//!
//! and after, shortened:
//!
//! ```wat
//! (module
//!   (import "ic0" "stable64_write" (func (param i64 i64 i64)))     ;; kept, never called
//!   (memory 1)                                                     ;; 0: the canister's own
//!   (memory i64 0 8192000)                                         ;; 1: stable memory
//!   (memory 2129 2129)                                             ;; 2: tracking
//!   (global $counter (export "bedstone:counter") (mut i64) (i64.const 0))
//!   (func (export "canister_update t")
//!     …charge 9…
//!     (call $write (i64.const 0) (i64.const 0) (i64.const 8)))
//!   (func $write (param $off i64) (param $src i64) (param $len i64)
//!     …checks…  (i64.store (memory 1) (local.get $off) (i64.load (local.get $src)))))
//! ```
//!
//! Reading order: `parse` makes [`info`]; `validate` refuses what the IC refuses and, in the same `walk`, hands each
//! function to `body`, which applies `meter` and `barrier` to it; `stable`, `tracking` and `wrappers` write the functions
//! that are added, `memories` says what the canister declares itself; `encode` writes the module.
#![forbid(unsafe_code)]

pub mod abi;
mod barrier;
mod body;
pub mod cost;
mod encode;
pub mod entry_points;
mod error;
pub mod explain;
mod globals;
pub mod info;
pub mod limits;
mod memories;
mod meter;
mod names;
mod parse;
mod stable;
pub mod system_api;
mod tracking;
mod validate;
mod walk;
mod wrappers;

use std::collections::HashMap;

use wasm_encoder::{InstructionSink, ValType};

pub use abi::{Counter, Manifest, StableAccess, Tracker};
pub use cost::CostTable;
pub use error::{Error, ErrorKind};
pub use explain::Explanation;

use abi::{ActiveData, GlobalKind, Summary};
use encode::{AddedFunction, Layout, Parts, Types};
use entry_points::EntryPoints;
use info::ModuleInfo;
use stable::Direction;
use tracking::Place;

/// What to make of a module.
#[derive(Debug, Clone)]
pub struct Config {
    /// How stable memory is reached.
    pub stable: StableAccess,
    /// Where the instruction counter is kept.
    pub counter: Counter,
    /// How written pages are found.
    pub tracker: Tracker,
    /// The price list.
    pub prices: CostTable,
    /// Whether a module may declare several memories. The IC refuses such modules; here they are a preview of declared
    /// memories, each of which lives as long as the heap ([`abi::Lifetime`]).
    pub allow_multi_memory: bool,
    /// Whether to validate the output again. Its cost is about that of validating the input.
    pub revalidate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stable: StableAccess::default(),
            counter: Counter::default(),
            tracker: Tracker::default(),
            prices: CostTable::ic_2025_10(),
            allow_multi_memory: false,
            revalidate: true,
        }
    }
}

/// Rewrites a module (plain Wasm, not compressed).
///
/// # Errors
/// If the bytes are not a module that the IC accepts; the error says what and at which byte.
///
/// # Panics
/// If the output does not validate, which would be a defect of this crate.
pub fn instrument(wasm: &[u8], config: &Config) -> Result<(Vec<u8>, Manifest), Error> {
    let (module, manifest, _) = rewrite(wasm, config, false)?;
    Ok((module, manifest))
}

/// Rewrites a module like [`instrument`], and tells what was done to which part of it.
///
/// # Errors
/// As for [`instrument`].
///
/// # Panics
/// As for [`instrument`].
pub fn explain(wasm: &[u8], config: &Config) -> Result<(Vec<u8>, Manifest, Explanation), Error> {
    let (module, manifest, explanation) = rewrite(wasm, config, true)?;
    Ok((module, manifest, explanation.expect("it was asked for")))
}

fn rewrite(
    wasm: &[u8],
    config: &Config,
    explain: bool,
) -> Result<(Vec<u8>, Manifest, Option<Explanation>), Error> {
    let info = parse::parse(wasm)?;
    let mut types = Types::new(&info);
    let counter = counter_form(&info, config.counter);
    let layout = Layout::new(&info, counter, config, &mut types);

    let mut rewriter = body::BodyRewriter::new(&info, &layout, &config.prices, types, explain);
    let (entry_points, metadata) =
        validate::validate(&info, config.allow_multi_memory, |body| rewriter.rewrite(body))?;
    let body::Rewritten { mut types, mut code, stats, notes } = rewriter.finish()?;
    let function_types = match counter {
        Counter::Global | Counter::None => info.functions.clone(),
        Counter::Threaded => info.functions.iter().map(|ty| types.threaded(&info, *ty)).collect(),
    };
    let globals = globals::mutable(&info);
    let mut added = helpers(&layout, &config.prices, &globals, &mut types);
    added.extend(helpers_elsewhere(&layout, &mut types));
    added.extend(wrappers(&info, &layout, &config.prices, &mut types));
    let entry_wrappers = entry_wrappers(&info, &layout, &entry_points, &mut types, &mut added);
    let callback = callback(&layout, &mut types, &mut added);
    let names = encode::names(&info, &layout);
    for function in &added {
        code.push(&[], &function.body);
    }
    let code_bytes_after = code.bytes.len();
    let explanation = notes.map(|notes| explain::explanation(&info, &layout, &added, notes));
    let functions_added = u32::try_from(added.len()).expect("bounded by imports and exports");
    let parts = Parts {
        info: &info,
        layout: &layout,
        types: &types,
        function_types,
        code,
        added,
        callback,
        entry_wrappers,
        entry_points: &entry_points,
    };
    let output = encode::encode(&parts, &names)?;
    if config.revalidate
        && let Err(error) = validate::features_of_output().validate_all(&output)
    {
        panic!("a rewritten module does not validate: {error}");
    }
    let summary = Summary {
        code_bytes: (info.code_section.as_ref().map_or(0, ExactSizeIterator::len), code_bytes_after),
        module_bytes: (wasm.len(), output.len()),
        functions_added,
        stable_calls: stats.stable_calls,
        stores_marked: stats.stores_marked,
        stores_elided: stats.stores_elided,
        blocks: stats.blocks,
    };
    let manifest = Manifest {
        enhanced_orthogonal_persistence: metadata
            .iter()
            .any(|section| section.name == "enhanced-orthogonal-persistence"),
        entry_points,
        names,
        counter,
        tracking: layout.tracking,
        memories: layout.memories,
        mutable_globals: globals.iter().map(|(_, kind)| *kind).collect(),
        listed_globals: globals::listed(&info, &globals),
        data: active_data(&info),
        metadata,
        imports: info.imported_functions.iter().map(|import| import.api.name).collect(),
        external_references: stats.external_references || external_references(&info),
        compile_charge: compile_charge(&info, &config.prices, stats.compiled_instructions),
        summary,
    };
    Ok((output, manifest, explanation))
}

/// Engines accept functions of at most 1,000 parameters and results; the counter needs one of each.
fn counter_form(info: &ModuleInfo<'_>, wanted: Counter) -> Counter {
    const MOST: usize = 1000;
    let full = info.types.iter().any(|ty| ty.params().len() >= MOST || ty.results().len() >= MOST);
    if full && wanted == Counter::Threaded { Counter::Global } else { wanted }
}

fn active_data(info: &ModuleInfo<'_>) -> Vec<ActiveData> {
    info.data
        .iter()
        .filter_map(|data| {
            let (memory, offset) = data.active?;
            Some(ActiveData { memory, offset, range: data.range.clone() })
        })
        .collect()
}

/// Whether types, tables or element segments have external references; function bodies are looked at as they are
/// rewritten.
fn external_references(info: &ModuleInfo<'_>) -> bool {
    let external = |ty: &wasmparser::ValType| info::is_external_reference(*ty);
    info.types.iter().any(|ty| ty.params().iter().chain(ty.results()).any(external))
        || info.tables.iter().any(|table| table.element_type.is_extern_ref())
        || info.element_section.as_ref().is_some_and(|range| encode::has_external_elements(info, range))
}

/// The IC's compile charge, from production's own count of instructions after instrumentation.
fn compile_charge(info: &ModuleInfo<'_>, prices: &CostTable, instructions: u64) -> u64 {
    let stable: u64 =
        info.imported_functions.iter().map(|import| prices.compiled_stable_import(import.api.name)).sum();
    prices.compile(info.globals.len() as u64, instructions + stable)
}

/// A function body from local types and operators.
fn body_of((locals, code): (Vec<ValType>, Vec<u8>)) -> Vec<u8> {
    let mut function = wasm_encoder::Function::new_with_locals_types(locals);
    function.raw(code);
    function.into_raw_body()
}

fn function(name: &str, type_index: u32, body: Vec<u8>) -> AddedFunction {
    AddedFunction { type_index, body, name: name.to_owned() }
}

fn with_locals(locals: &[ValType], write: &dyn Fn(&mut InstructionSink<'_>)) -> Vec<u8> {
    let mut code = Vec::new();
    write(&mut InstructionSink::new(&mut code));
    body_of((locals.to_vec(), code))
}

/// The helpers, in the order of [`encode::Helpers`].
fn helpers(
    layout: &Layout,
    prices: &CostTable,
    globals: &[(u32, GlobalKind)],
    types: &mut Types,
) -> Vec<AddedFunction> {
    use ValType::{I32, I64};
    let heap = layout.heap_type();
    let counter = layout.counter;
    let out_of_instructions = with_locals(&[], &|code| {
        code.i32_const(abi::TrapCode::OutOfInstructions as i32);
        layout.slow_call(code, abi::SlowCall::Trap);
        code.end();
    });
    let (save, restore) = tracking::globals_bodies(layout, globals);
    let access = |direction, slow: bool| {
        if layout.stable == StableAccess::Host {
            // Never called; the place is kept so that indices do not depend on the mode.
            return with_locals(&[], &|code| {
                layout.counter_in(3).push_result(code);
                code.end();
            });
        }
        body_of(if slow || !layout.has_heap {
            stable::slow_access_body(direction, layout, prices)
        } else {
            stable::access_body(direction, layout, prices)
        })
    };
    let three = types.helper(counter, &[I64; 3], &[]);
    vec![
        function("out_of_instructions", types.intern(&[], &[]), out_of_instructions),
        function(
            "mark_range",
            types.intern(&[I64, I64], &[]),
            with_locals(&[I64], &|code| tracking::mark_range_body(code, layout, Place::Heap)),
        ),
        function(
            "bulk",
            types.helper(counter, &[I64, I64], &[]),
            with_locals(&[], &|code| tracking::bulk_body(code, layout, Place::Heap)),
        ),
        function(
            "heap_grown",
            types.helper(counter, &[heap], &[heap]),
            body_of(wrappers::heap_grown_body(layout, heap)),
        ),
        function("save_globals", types.intern(&[], &[I32]), save),
        function("restore_globals", types.intern(&[], &[I32]), restore),
        function("stable64_read", three, access(Direction::Read, false)),
        function("stable64_write", three, access(Direction::Write, false)),
        function("stable64_read", three, access(Direction::Read, true)),
        function("stable64_write", three, access(Direction::Write, true)),
    ]
}

/// The helpers for memories other than memory 0, in the order of [`encode::Helpers`]; none if there are no such memories.
fn helpers_elsewhere(layout: &Layout, types: &mut Types) -> Vec<AddedFunction> {
    use ValType::{I32, I64};
    if layout.memories.len() < 2 {
        return Vec::new();
    }
    let place = [I64, I64, I64, I32];
    // Memories as wide as memory 0 share its helper.
    let other = if layout.memory64 { I32 } else { I64 };
    vec![
        function(
            "mark_range_elsewhere",
            types.intern(&place, &[]),
            with_locals(&[I64], &|code| tracking::mark_range_body(code, layout, Place::Elsewhere)),
        ),
        function(
            "bulk_elsewhere",
            types.helper(layout.counter, &place, &[]),
            with_locals(&[], &|code| tracking::bulk_body(code, layout, Place::Elsewhere)),
        ),
        function(
            "grown_elsewhere",
            types.helper(layout.counter, &[other], &[other]),
            body_of(wrappers::heap_grown_body(layout, other)),
        ),
    ]
}

/// One function for each import, in order.
fn wrappers(
    info: &ModuleInfo<'_>,
    layout: &Layout,
    prices: &CostTable,
    types: &mut Types,
) -> Vec<AddedFunction> {
    let native = layout.stable == StableAccess::Native;
    (0..)
        .zip(&info.imported_functions)
        .map(|(index, import)| {
            let type_index = match layout.counter {
                Counter::Global | Counter::None => import.type_index,
                Counter::Threaded => types.threaded(info, import.type_index),
            };
            let body = match import.api.name {
                "stable64_size" if native => body_of((Vec::new(), stable::size64_body(layout))),
                "stable64_grow" if native => body_of(stable::grow64_body(layout, prices)),
                "stable_size" if native => body_of((Vec::new(), stable::size32_body(layout))),
                "stable_grow" if native => body_of(stable::grow32_body(layout, prices)),
                "stable_read" if native => body_of(stable::access32_body(Direction::Read, layout, prices)),
                "stable_write" if native => body_of(stable::access32_body(Direction::Write, layout, prices)),
                "stable64_read" if native => forward(layout, layout.helpers.read),
                "stable64_write" if native => forward(layout, layout.helpers.write),
                _ => body_of(wrappers::wrapper_body(index, import, layout, prices)),
            };
            AddedFunction { type_index, body, name: import.api.name.to_owned() }
        })
        .collect()
}

/// A function of three i64 that is another one: reached only through tables; direct calls go to the helper.
fn forward(layout: &Layout, helper: u32) -> Vec<u8> {
    let counter = layout.counter_in(3);
    let mut code = Vec::new();
    let mut sink = InstructionSink::new(&mut code);
    sink.local_get(0).local_get(1).local_get(2);
    counter.call(&mut sink, helper);
    counter.push_result(&mut sink);
    sink.end();
    body_of((Vec::new(), code))
}

/// The function that calls callbacks, the last of all; none without a table of functions. Returns its index.
fn callback(layout: &Layout, types: &mut Types, added: &mut Vec<AddedFunction>) -> Option<u32> {
    if !layout.has_functions {
        return None;
    }
    let called = types.helper(layout.counter, &[layout.heap_type()], &[]);
    let type_index = types.intern(&[ValType::I64; 2], &[]);
    let body = body_of((Vec::new(), wrappers::callback_body(layout, called)));
    let index = layout.helpers.out_of_instructions + u32::try_from(added.len()).expect("bounded by imports");
    added.push(AddedFunction { type_index, body, name: "callback".to_owned() });
    Some(index)
}

/// Threaded: `() -> ()` functions around the entry points and the start function. Returns them by wrapped function.
fn entry_wrappers(
    info: &ModuleInfo<'_>,
    layout: &Layout,
    entry_points: &EntryPoints,
    types: &mut Types,
    added: &mut Vec<AddedFunction>,
) -> HashMap<u32, u32> {
    let mut wrappers = HashMap::new();
    if layout.counter != Counter::Threaded {
        return wrappers;
    }
    let type_index = types.intern(&[], &[]);
    let exported = info.exports.iter().filter(|export| export.kind == info::ExportKind::Function);
    let entries = exported.filter(|export| entry_points.is_entry(export.name)).map(|export| export.index);
    for function in entries.chain(info.start) {
        let own = layout.function(function);
        let next = layout.entries + u32::try_from(wrappers.len()).expect("bounded by exports");
        wrappers.entry(own).or_insert_with(|| {
            let body = body_of((Vec::new(), wrappers::entry_body(layout, own)));
            added.push(AddedFunction { type_index, body, name: "entry".to_owned() });
            next
        });
    }
    wrappers
}
