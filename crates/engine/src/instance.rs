//! A live instance: a Wasmtime store with one instance of one compiled form, kept between messages.
//!
//! Invariants:
//! - The memories belong to the engine; any number of instances can be made on them, one at a time runs.
//! - Before a run the lengths that the instance caches are those of the mappings ([`Live::refresh`]).

use std::collections::HashMap;

use bedstone_instrument::Counter;
use bedstone_instrument::abi::INJECTED;
use wasmtime::{ExternRef, Global, Instance, Memory, Ref, Store, Table, TypedFunc, WasmBacktrace};

use crate::compile::Compiled;
use crate::compiler::Tier;
use crate::error::Error;
use crate::ic0::slow_functions;
use crate::message::Closure;
use crate::outcome::Fault;
use crate::state::{Handles, Memories, MessageState};
use crate::sys::{handle_faults, with_memories};
use crate::system::SystemState;
use crate::touched::StableTouched;

type EntryFunction = TypedFunc<(), ()>;
/// Takes a place in the table and an environment.
type CallbackFunction = TypedFunc<(u64, u64), ()>;

/// See the module's documentation.
pub(crate) struct Live {
    pub store: Store<MessageState>,
    instance: Instance,
    /// Which of the module's forms it runs.
    pub tier: Tier,
    pub counter_form: Counter,
    counter: Global,
    /// Those that can grow: the declared memories and, in native mode, stable memory.
    growing: Vec<Memory>,
    save_globals: TypedFunc<(), i32>,
    restore_globals: TypedFunc<(), i32>,
    start: Option<EntryFunction>,
    /// The table of functions, and what calls one of them.
    callbacks: Option<(Table, CallbackFunction)>,
    updates: HashMap<String, EntryFunction>,
    queries: HashMap<String, EntryFunction>,
    composite_queries: HashMap<String, EntryFunction>,
    /// Lengths of the declared memories and of stable memory that the instance knows.
    known_heaps: Vec<usize>,
    known_stable: usize,
}

/// What to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Start,
    System(&'static str),
    Update(&'a str),
    Query(&'a str),
    CompositeQuery(&'a str),
    Closure(Closure),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub fault: Option<Fault>,
    /// Instructions used, page charges of the heap not included.
    pub used: u64,
    /// Whether `used` is exact: not so after a Wasm trap if the counter was in a register.
    pub exact: bool,
}

impl Live {
    /// Instantiates on memories whose contents are up to date. Globals have their initial values.
    pub fn new(compiled: &Compiled, memories: &Memories, system: &SystemState) -> Result<Self, Error> {
        let manifest = &compiled.manifest;
        let names = &manifest.names;
        let heap_name = names.heaps.first().cloned().unwrap_or_default();
        let subnet = compiled.subnet.clone();
        let state =
            MessageState::new(memories.clone(), system.clone(), subnet, manifest.memory64(), heap_name);
        let touched = StableTouched::with_areas(compiled.undo_areas.clone());
        let state = MessageState { touched, ..state };
        let mut store = Store::new(compiled.pre.module().engine(), state);

        if manifest.external_references {
            // Makes Wasmtime's own heap for references now, while a memory that it asks for cannot be taken for ours.
            ExternRef::new(&mut store, ()).map_err(Error::machine)?;
        }
        // In the order of the memory index space.
        let mut mappings = memories.heaps.clone();
        if names.stable.is_some() {
            mappings.push(memories.stable.clone());
        }
        mappings.push(memories.tracking.mapping.clone());
        let instance =
            with_memories(&mappings, || compiled.pre.instantiate(&mut store)).map_err(|error| {
                match error.is::<wasmtime::Trap>() {
                    true => Error::module(trap_fault(&error).detail), // an element segment beyond its table
                    false => Error::machine(error),
                }
            })?;

        handle_faults(&mut store, &mappings);

        const CONTRACT: &str = "the manifest names what the rewriter exported";
        let counter = instance.get_global(&mut store, &names.counter).expect(CONTRACT);
        let growing: Vec<Memory> = names
            .heaps
            .iter()
            .chain(&names.stable)
            .map(|name| instance.get_memory(&mut store, name).expect(CONTRACT))
            .collect();
        let heap = if names.heaps.is_empty() { None } else { growing.first().copied() };
        let functions = slow_functions(&mut store);
        let slow = instance.get_table(&mut store, &names.slow).expect(CONTRACT);
        for (index, function) in (0..).zip(functions) {
            slow.set(&mut store, index, function.into()).map_err(Error::machine)?;
        }
        let save_globals = instance.get_typed_func(&mut store, &names.save_globals).expect(CONTRACT);
        let restore_globals = instance.get_typed_func(&mut store, &names.restore_globals).expect(CONTRACT);
        let start =
            names.start.as_ref().map(|name| instance.get_typed_func(&mut store, name).expect(CONTRACT));
        let callbacks = names.table.as_ref().zip(names.callback.as_ref()).map(|(table, callback)| {
            let table = instance.get_table(&mut store, table).expect(CONTRACT);
            (table, instance.get_typed_func(&mut store, callback).expect(CONTRACT))
        });
        store.data_mut().handles = Some(Handles { counter, heap });
        let mut live = Self {
            store,
            instance,
            tier: compiled.tier,
            counter_form: compiled.counter,
            counter,
            growing,
            save_globals,
            restore_globals,
            start,
            callbacks,
            updates: HashMap::new(),
            queries: HashMap::new(),
            composite_queries: HashMap::new(),
            known_heaps: memories.heaps.iter().map(|heap| heap.len()).collect(),
            known_stable: memories.stable.len(),
        };
        live.find_methods(compiled);
        Ok(live)
    }

    fn find_methods(&mut self, compiled: &Compiled) {
        for export in compiled.pre.module().exports() {
            let name = export.name();
            let (map, method) = if let Some(method) = name.strip_prefix("canister_update ") {
                (&mut self.updates, method)
            } else if let Some(method) = name.strip_prefix("canister_query ") {
                (&mut self.queries, method)
            } else if let Some(method) = name.strip_prefix("canister_composite_query ") {
                (&mut self.composite_queries, method)
            } else {
                continue;
            };
            if let Ok(function) = self.instance.get_typed_func(&mut self.store, name) {
                map.insert(method.to_owned(), function);
            }
        }
    }

    /// Whether the module has what `target` names.
    pub fn has(&mut self, target: Target<'_>) -> bool {
        self.function(target).is_some()
    }

    fn function(&mut self, target: Target<'_>) -> Option<EntryFunction> {
        match target {
            Target::Start => self.start.clone(),
            Target::System(name) => self.instance.get_typed_func(&mut self.store, name).ok(),
            Target::Update(name) => self.updates.get(name).cloned(),
            Target::Query(name) => self.queries.get(name).cloned(),
            Target::CompositeQuery(name) => self.composite_queries.get(name).cloned(),
            Target::Closure(_) => None,
        }
    }

    /// Calls `target`, which exists unless it is a callback.
    fn call(&mut self, target: Target<'_>) -> wasmtime::Result<()> {
        let Target::Closure(closure) = target else {
            let function = self.function(target).expect("the caller looked for it");
            return function.call(&mut self.store, ());
        };
        let Closure { function, environment } = closure;
        let found = self.callbacks.as_ref().and_then(|(table, callback)| {
            let entry = table.get(&mut self.store, function)?;
            matches!(entry, Ref::Func(Some(_))).then(|| callback.clone())
        });
        let state = self.store.data_mut();
        if !state.heap64 && u32::try_from(environment).is_err() {
            let text = format!("error converting environment {environment} of a callback to 32 bits");
            return Err(state.fail(Fault::contract(text)));
        }
        match found {
            Some(callback) => callback.call(&mut self.store, (function, environment)),
            None => {
                let text = format!(
                    "Canister requested to invoke a non-existent Wasm function {function} from table 0"
                );
                Err(state.fail(Fault::new(513, text)))
            }
        }
    }

    /// Makes the instance see the mappings' lengths: growing by nothing rewrites the cached one.
    fn refresh(&mut self) -> Result<(), Error> {
        let memories = &self.store.data().memories;
        let known = memories.heaps.iter().zip(&self.known_heaps).all(|(heap, known)| heap.len() == *known);
        if known && memories.stable.len() == self.known_stable {
            return Ok(());
        }
        for memory in &self.growing {
            memory.grow(&mut self.store, 0).map_err(Error::machine)?;
        }
        self.know_lengths();
        Ok(())
    }

    fn know_lengths(&mut self) {
        let memories = &self.store.data().memories;
        for (known, heap) in self.known_heaps.iter_mut().zip(&memories.heaps) {
            *known = heap.len();
        }
        self.known_stable = memories.stable.len();
    }

    /// Runs `target`, which exists unless it is a callback, with `MessageState` prepared.
    pub fn run(&mut self, target: Target<'_>) -> Result<Ended, Error> {
        self.refresh()?;
        let limit = self.store.data().limits.instructions;
        let start = i64::try_from(limit).expect("limits are below 2^63");
        self.counter.set(&mut self.store, start.into()).map_err(Error::machine)?;
        let result = self.call(target);
        self.know_lengths();
        self.store.data().memories.check_protection()?;
        let left = self.counter.get(&mut self.store).i64().expect("the counter is an i64");
        let used = start.saturating_sub(left).clamp(0, start).cast_unsigned();
        let Err(error) = result else {
            return Ok(Ended { fault: None, used, exact: true });
        };
        let told = self.store.data_mut().fault.take();
        let exact = told.is_some();
        let mut fault = told.unwrap_or_else(|| trap_fault(&error));
        let used = if fault.code == 522 { limit } else { used };
        fault.backtrace = error.downcast_ref::<WasmBacktrace>().and_then(format_backtrace);
        Ok(Ended { fault: Some(fault), used, exact })
    }

    /// Stores the globals in the tracking memory; whether a segment was dropped since instantiation.
    pub fn save_globals(&mut self) -> Result<bool, Error> {
        Ok(self.save_globals.call(&mut self.store, ()).map_err(Error::machine)? != 0)
    }

    /// Loads the globals from the tracking memory; whether a segment was dropped since instantiation.
    pub fn restore_globals(&mut self) -> Result<bool, Error> {
        Ok(self.restore_globals.call(&mut self.store, ()).map_err(Error::machine)? != 0)
    }
}

/// A trap of Wasmtime's in the IC's words.
fn trap_fault(error: &wasmtime::Error) -> Fault {
    use wasmtime::Trap;
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => Fault::trapped("unreachable"),
        Some(Trap::MemoryOutOfBounds) => Fault::trapped("heap out of bounds"),
        Some(Trap::TableOutOfBounds) => Fault::trapped("table out of bounds"),
        Some(Trap::IntegerDivisionByZero) => Fault::trapped("integer division by 0"),
        Some(Trap::StackOverflow) => Fault::trapped("stack overflow"),
        Some(Trap::BadSignature) => Fault::contract("function invocation does not match its signature"),
        _ => Fault::trapped("unknown"),
    }
}

/// The IC's form: a frame per line, innermost first; nothing if no frame has a name. Of injected functions only those that
/// take a stable function's place are shown, each call of one as one frame, however many functions make it up.
fn format_backtrace(backtrace: &WasmBacktrace) -> Option<String> {
    let mut lines = Vec::new();
    let mut named = false;
    let mut inside_stable = false;
    for frame in backtrace.frames() {
        let name = frame.func_name();
        let injected = name.and_then(|name| name.strip_prefix(INJECTED));
        if injected.is_some_and(|name| !name.starts_with("stable")) {
            continue;
        }
        if injected.is_some() && inside_stable {
            lines.pop();
        }
        inside_stable = injected.is_some();
        named |= name.is_some();
        lines.push(match injected.or(name) {
            Some(name) => format!("\n{:#}", rustc_demangle::demangle(name)),
            None => format!("\nunknown function at index {}", frame.func_index()),
        });
    }
    named.then(|| format!("Canister Backtrace:{}", lines.concat()))
}
