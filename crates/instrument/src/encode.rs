//! Puts the rewritten module together: the original sections with the injected items at the end of each.
//!
//! Invariants:
//! - Type, function, global, memory and table indices of the original mean the same in the output. An imported memory
//!   or table becomes a definition at the same index.
//! - References to imported functions (calls, elements, exports, `ref.func`) become references to their wrappers;
//!   nothing but a wrapper calls an import.
//! - The start function is not run at instantiation but exported; applied (active) data segments become empty passive
//!   ones, so that `memory.init` on them still traps.

use std::collections::{HashMap, HashSet};

use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection, Encode, EntityType,
    ExportKind, ExportSection, FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink,
    MemArg, MemorySection, MemoryType, Module, RefType, Section, SectionId, TableSection, TableType,
    TypeSection, ValType,
};

use wasmparser::RefType as ParsedRefType;

use crate::Config;
use crate::abi::tracking::TrackingLayout;
use crate::abi::{
    Counter, DeclaredMemory, INJECTED, Names, SLOW_CALLS, STABLE_WASM_PAGES_MAX, SlowCall, StableAccess,
    Tracker,
};
use crate::body::CodeBytes;
use crate::entry_points::EntryPoints;
use crate::error::Error;
use crate::info::{self, ModuleInfo};
use crate::memories;
use crate::meter::CounterAccess;
use crate::stable::Direction;

/// About what is added outside the code section; only saves the output from moving while it grows.
const ADDED_BYTES: usize = 4096;

/// The type of tables that hold functions.
const FUNCREF: ParsedRefType = ParsedRefType::FUNCREF;

/// A memory argument.
pub(crate) fn at(memory_index: u32, offset: u64, align: u32) -> MemArg {
    MemArg { offset, align, memory_index }
}

/// Function indices of the injected helpers, in the order in which they are appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Helpers {
    pub out_of_instructions: u32,
    pub mark_range: u32,
    pub bulk: u32,
    pub heap_grown: u32,
    pub save_globals: u32,
    pub restore_globals: u32,
    pub read: u32,
    pub write: u32,
    pub read_slow: u32,
    pub write_slow: u32,
    /// Only where the module declares several memories, like the following.
    pub mark_range_elsewhere: u32,
    pub bulk_elsewhere: u32,
    pub grown_elsewhere: u32,
}

/// Number of [`Helpers`] that every module has.
const HELPERS: u32 = 10;
/// Number of [`Helpers`] besides, for declared memories other than memory 0.
const HELPERS_ELSEWHERE: u32 = 3;

impl Helpers {
    fn from(first: u32) -> Self {
        Self {
            out_of_instructions: first,
            mark_range: first + 1,
            bulk: first + 2,
            heap_grown: first + 3,
            save_globals: first + 4,
            restore_globals: first + 5,
            read: first + 6,
            write: first + 7,
            read_slow: first + 8,
            write_slow: first + 9,
            mark_range_elsewhere: first + 10,
            bulk_elsewhere: first + 11,
            grown_elsewhere: first + 12,
        }
    }

    pub fn access(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        }
    }

    pub fn slow_access(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Read => self.read_slow,
            Direction::Write => self.write_slow,
        }
    }
}

/// Indices of everything injected; fixed before any code is written.
#[derive(Debug)]
pub(crate) struct Layout {
    pub counter: Counter,
    pub stable: StableAccess,
    pub tracker: Tracker,
    /// The canister's own memories, by index.
    pub memories: Vec<DeclaredMemory>,
    pub has_heap: bool,
    /// Whether memory 0 is a 64-bit one.
    pub memory64: bool,
    /// Addresses in the tracking memory.
    pub tracking: TrackingLayout,
    /// Native mode only; meaningless otherwise.
    pub stable_memory: u32,
    pub tracking_memory: u32,
    pub counter_global: u32,
    pub dropped_global: u32,
    pub slow_table: u32,
    pub imports: u32,
    /// Function index of the first wrapper; the wrapper of import `i` is `wrappers + i`.
    pub wrappers: u32,
    pub helpers: Helpers,
    /// First function after the wrappers: entry wrappers ([`Counter::Threaded`]).
    pub entries: u32,
    /// Whether table 0 is one of functions.
    pub has_functions: bool,
    /// Whether that table is addressed with i64.
    pub table64: bool,
    slow_types: [u32; SLOW_CALLS as usize],
    /// Type `(i64) -> (i64)`.
    pub i64_to_i64: u32,
}

impl Layout {
    /// The layout of a module's rewritten form, whose counter is kept in `counter` whatever the configuration says.
    pub fn new(info: &ModuleInfo<'_>, counter: Counter, config: &Config, types: &mut Types) -> Self {
        let Config { stable, tracker, .. } = *config;
        let count = |length: usize| u32::try_from(length).expect("the parser bounds every index space");
        let own = count(info.memories.len());
        let native = u32::from(stable == StableAccess::Native);
        let globals = count(info.globals.len());
        let imports = info.import_count();
        let helpers = imports + count(info.functions.len());
        let wrappers = helpers + HELPERS + if own > 1 { HELPERS_ELSEWHERE } else { 0 };
        let memories = memories::declared(info);
        use ValType::{I32, I64};
        Self {
            counter,
            stable,
            tracker,
            has_heap: own > 0,
            memory64: info.memory64(),
            tracking: TrackingLayout::new(&memories),
            memories,
            stable_memory: own,
            tracking_memory: own + native,
            counter_global: globals,
            dropped_global: globals + 1,
            slow_table: count(info.tables.len()),
            imports,
            helpers: Helpers::from(helpers),
            wrappers,
            entries: wrappers + imports,
            has_functions: info.tables.first().is_some_and(|table| table.element_type == FUNCREF),
            table64: info.tables.first().is_some_and(|table| table.table64),
            slow_types: [
                types.intern(&[I32], &[]),
                types.intern(&[I64, I64], &[]),
                types.intern(&[I64, I64], &[I64]),
                types.intern(&[I64], &[]),
            ],
            i64_to_i64: types.intern(&[I64], &[I64]),
        }
    }

    /// How a function with so many parameters of its own reaches the counter.
    pub fn counter_in(&self, params: u32) -> CounterAccess {
        CounterAccess {
            form: self.counter,
            global: self.counter_global,
            local: params,
            out_of_instructions: self.helpers.out_of_instructions,
        }
    }

    /// Whether code that writes the canister's memories marks what it writes.
    pub fn marks(&self) -> bool {
        self.tracker == Tracker::Barrier
    }

    /// Index of the first local after the parameters, the counter among them.
    pub fn first_local(&self, params: u32) -> u32 {
        params + u32::from(self.counter == Counter::Threaded)
    }

    /// Type of heap addresses.
    pub fn heap_type(&self) -> ValType {
        if self.memory64 { ValType::I64 } else { ValType::I32 }
    }

    /// Type of addresses in one of the canister's memories, which exists.
    pub fn address_type(&self, memory: u32) -> ValType {
        if self.memories[memory as usize].memory64 { ValType::I64 } else { ValType::I32 }
    }

    /// The helper for `memory.grow` of one of the canister's memories.
    pub fn grown(&self, memory: u32) -> u32 {
        let usual = self.address_type(memory) == self.heap_type();
        if usual { self.helpers.heap_grown } else { self.helpers.grown_elsewhere }
    }

    /// Calls the engine; the arguments are on the stack.
    pub fn slow_call(&self, code: &mut InstructionSink<'_>, call: SlowCall) {
        code.i32_const(call as i32).call_indirect(self.slow_table, self.slow_types[call as usize]);
    }

    /// The function that stands for `function` in the output.
    pub fn function(&self, function: u32) -> u32 {
        if function < self.imports { self.wrappers + function } else { function }
    }
}

/// The type section's appended part.
#[derive(Debug, Default)]
pub(crate) struct Types {
    first: u32,
    added: Vec<(Vec<ValType>, Vec<ValType>)>,
    by_shape: HashMap<(Vec<ValType>, Vec<ValType>), u32>,
    threaded: HashMap<u32, u32>,
}

impl Types {
    pub fn new(info: &ModuleInfo<'_>) -> Self {
        let first = u32::try_from(info.types.len()).expect("the validator bounds types at 1,000,000");
        Self { first, added: Vec::new(), by_shape: HashMap::new(), threaded: HashMap::new() }
    }

    /// Index of an appended type.
    pub fn intern(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let shape = (params.to_vec(), results.to_vec());
        if let Some(index) = self.by_shape.get(&shape) {
            return *index;
        }
        let index =
            self.first + u32::try_from(self.added.len()).expect("as many as distinct types in the module");
        self.added.push(shape.clone());
        self.by_shape.insert(shape, index);
        index
    }

    /// The type with the counter as last parameter and last result.
    pub fn threaded(&mut self, info: &ModuleInfo<'_>, type_index: u32) -> u32 {
        if let Some(index) = self.threaded.get(&type_index) {
            return *index;
        }
        let (mut params, mut results) = shape(&info.types[type_index as usize]);
        params.push(ValType::I64);
        results.push(ValType::I64);
        let index = self.intern(&params, &results);
        self.threaded.insert(type_index, index);
        index
    }

    /// The block type with a function type's results and no parameters.
    pub fn results_only(&mut self, info: &ModuleInfo<'_>, type_index: u32) -> BlockType {
        let (_, results) = shape(&info.types[type_index as usize]);
        match results.as_slice() {
            [] => BlockType::Empty,
            [one] => BlockType::Result(*one),
            many => BlockType::FunctionType(self.intern(&[], many)),
        }
    }

    /// The type of a function with so many parameters and results in the module's counter form.
    pub fn helper(&mut self, counter: Counter, params: &[ValType], results: &[ValType]) -> u32 {
        let (mut params, mut results) = (params.to_vec(), results.to_vec());
        if counter == Counter::Threaded {
            params.push(ValType::I64);
            results.push(ValType::I64);
        }
        self.intern(&params, &results)
    }
}

fn shape(ty: &wasmparser::FuncType) -> (Vec<ValType>, Vec<ValType>) {
    let convert = |types: &[wasmparser::ValType]| {
        types
            .iter()
            .map(|ty| {
                RoundtripReencoder.val_type(*ty).expect("the validator accepts numbers and plain references")
            })
            .collect()
    };
    (convert(ty.params()), convert(ty.results()))
}

/// An appended function.
#[derive(Debug)]
pub(crate) struct AddedFunction {
    pub type_index: u32,
    /// Locals and operators, as in the code section.
    pub body: Vec<u8>,
    /// For the name section.
    pub name: String,
}

/// Maps function references to wrappers while re-encoding what else refers to functions.
struct ToWrappers<'a>(&'a Layout);

impl Reencode for ToWrappers<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.0.function(function))
    }
}

/// Everything that the output is made from.
pub(crate) struct Parts<'a, 'm> {
    pub info: &'a ModuleInfo<'m>,
    pub layout: &'a Layout,
    pub types: &'a Types,
    /// Type index of each defined function of the original, in the output.
    pub function_types: Vec<u32>,
    /// New bodies of the original's functions, and those of the added ones.
    pub code: CodeBytes,
    pub added: Vec<AddedFunction>,
    /// Function that calls callbacks, where there can be any.
    pub callback: Option<u32>,
    /// Function index to export instead of an entry point's own ([`Counter::Threaded`]).
    pub entry_wrappers: HashMap<u32, u32>,
    pub entry_points: &'a EntryPoints,
}

/// Chooses names that the module does not export.
pub(crate) fn names(info: &ModuleInfo<'_>, layout: &Layout) -> Names {
    let names = info.exports.iter().map(|export| export.name);
    let used: HashSet<&str> = names.filter(|name| name.starts_with(INJECTED)).collect();
    let free = |base: &str| {
        let mut name = format!("{INJECTED}{base}");
        while used.contains(name.as_str()) {
            name.push('\'');
        }
        name
    };
    Names {
        counter: free("counter"),
        heaps: layout.memories.iter().map(|memory| free(&heap_name(memory.index))).collect(),
        stable: (layout.stable == StableAccess::Native).then(|| free("stable")),
        tracking: free("tracking"),
        slow: free("slow"),
        start: info.start.map(|_| free("start")),
        table: layout.has_functions.then(|| free("table")),
        callback: layout.has_functions.then(|| free("callback")),
        save_globals: free("save_globals"),
        restore_globals: free("restore_globals"),
    }
}

fn heap_name(memory: u32) -> String {
    if memory == 0 { "heap".to_owned() } else { format!("heap {memory}") }
}

/// Encodes the module.
pub(crate) fn encode(parts: &Parts<'_, '_>, names: &Names) -> Result<Vec<u8>, Error> {
    let info = parts.info;
    let code_before = info.code_section.as_ref().map_or(0, ExactSizeIterator::len);
    let mut module =
        Vec::with_capacity(info.bytes.len() - code_before + parts.code.bytes.len() + ADDED_BYTES);
    module.extend_from_slice(&Module::HEADER);
    types(parts).append_to(&mut module);
    if !info.imported_functions.is_empty() {
        let mut section = ImportSection::new();
        for import in &info.imported_functions {
            section.import("ic0", import.api.name, EntityType::Function(import.type_index));
        }
        section.append_to(&mut module);
    }
    let mut functions = FunctionSection::new();
    for ty in parts.function_types.iter().chain(parts.added.iter().map(|added| &added.type_index)) {
        functions.function(*ty);
    }
    functions.append_to(&mut module);
    tables(parts)?.append_to(&mut module);
    memory_section(parts)?.append_to(&mut module);
    globals(parts)?.append_to(&mut module);
    exports(parts, names).append_to(&mut module);
    if let Some(range) = &info.element_section {
        elements(parts, range)?.append_to(&mut module);
    }
    if info.has_data_count {
        let count = u32::try_from(info.data.len()).expect("the validator bounds data segments");
        DataCountSection { count }.append_to(&mut module);
    }
    code(functions.len(), &parts.code.bytes, &mut module);
    if !info.data.is_empty() {
        let mut section = DataSection::new();
        for data in &info.data {
            let bytes: &[u8] = if data.active.is_some() { &[] } else { data.bytes };
            section.passive(bytes.iter().copied());
        }
        section.append_to(&mut module);
    }
    for custom in &info.custom {
        let named = (custom.name == "name").then(|| crate::names::with_added(custom.data, parts)).flatten();
        let data = named.as_deref().unwrap_or(custom.data);
        CustomSection { name: custom.name.into(), data: data.into() }.append_to(&mut module);
    }
    // Injected functions have names in backtraces even where the canister's own have none.
    if info.custom.iter().all(|custom| custom.name != "name")
        && let Some(data) = crate::names::with_added(&[], parts)
    {
        CustomSection { name: "name".into(), data: data.into() }.append_to(&mut module);
    }
    Ok(module)
}

/// The code section, of which the bodies are there.
fn code(count: u32, bodies: &[u8], module: &mut Vec<u8>) {
    let mut count_bytes = Vec::new();
    count.encode(&mut count_bytes);
    module.push(SectionId::Code.into());
    (count_bytes.len() + bodies.len()).encode(module);
    module.extend_from_slice(&count_bytes);
    module.extend_from_slice(bodies);
}

fn types(parts: &Parts<'_, '_>) -> TypeSection {
    let mut section = TypeSection::new();
    for ty in &parts.info.types {
        let (params, results) = shape(ty);
        section.ty().function(params, results);
    }
    for (params, results) in &parts.types.added {
        section.ty().function(params.iter().copied(), results.iter().copied());
    }
    section
}

fn tables(parts: &Parts<'_, '_>) -> Result<TableSection, Error> {
    let mut section = TableSection::new();
    for table in &parts.info.tables {
        section.table(RoundtripReencoder.table_type(*table).map_err(Error::from_reencode)?);
    }
    section.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: SLOW_CALLS.into(),
        maximum: Some(SLOW_CALLS.into()),
        shared: false,
    });
    Ok(section)
}

fn memory_section(parts: &Parts<'_, '_>) -> Result<MemorySection, Error> {
    let mut section = MemorySection::new();
    for memory in &parts.info.memories {
        section.memory(RoundtripReencoder.memory_type(*memory).map_err(Error::from_reencode)?);
    }
    let injected = |memory64, minimum, maximum| MemoryType {
        minimum,
        maximum: Some(maximum),
        memory64,
        shared: false,
        page_size_log2: None,
    };
    if parts.layout.stable == StableAccess::Native {
        section.memory(injected(true, 0, STABLE_WASM_PAGES_MAX));
    }
    let pages = parts.layout.tracking.wasm_pages;
    section.memory(injected(false, pages, pages));
    Ok(section)
}

fn globals(parts: &Parts<'_, '_>) -> Result<GlobalSection, Error> {
    let mut section = GlobalSection::new();
    let mut reencoder = ToWrappers(parts.layout);
    for global in &parts.info.globals {
        let ty = reencoder.global_type(global.ty).map_err(Error::from_reencode)?;
        let init = reencoder.const_expr(global.init.clone()).map_err(Error::from_reencode)?;
        section.global(ty, &init);
    }
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    section.global(mutable(ValType::I64), &ConstExpr::i64_const(0));
    section.global(mutable(ValType::I32), &ConstExpr::i32_const(0));
    Ok(section)
}

fn exports(parts: &Parts<'_, '_>, names: &Names) -> ExportSection {
    let layout = parts.layout;
    let mut section = ExportSection::new();
    for export in &parts.info.exports {
        let (kind, index) = match export.kind {
            info::ExportKind::Function => {
                let own = layout.function(export.index);
                let is_entry = parts.entry_points.is_entry(export.name);
                let wrapper = parts.entry_wrappers.get(&own).filter(|_| is_entry);
                (ExportKind::Func, *wrapper.unwrap_or(&own))
            }
            info::ExportKind::Table => (ExportKind::Table, export.index),
            info::ExportKind::Memory => (ExportKind::Memory, export.index),
            info::ExportKind::Global => (ExportKind::Global, export.index),
        };
        section.export(export.name, kind, index);
    }
    section.export(&names.counter, ExportKind::Global, layout.counter_global);
    for (index, name) in (0..).zip(&names.heaps) {
        section.export(name, ExportKind::Memory, index);
    }
    if let Some(name) = &names.stable {
        section.export(name, ExportKind::Memory, layout.stable_memory);
    }
    section.export(&names.tracking, ExportKind::Memory, layout.tracking_memory);
    section.export(&names.slow, ExportKind::Table, layout.slow_table);
    if let (Some(name), Some(start)) = (&names.start, parts.info.start) {
        let own = layout.function(start);
        section.export(name, ExportKind::Func, *parts.entry_wrappers.get(&own).unwrap_or(&own));
    }
    if let Some(name) = &names.table {
        section.export(name, ExportKind::Table, 0);
    }
    if let (Some(name), Some(function)) = (&names.callback, parts.callback) {
        section.export(name, ExportKind::Func, function);
    }
    section.export(&names.save_globals, ExportKind::Func, layout.helpers.save_globals);
    section.export(&names.restore_globals, ExportKind::Func, layout.helpers.restore_globals);
    section
}

/// Whether an element segment is of external references.
pub(crate) fn has_external_elements(info: &ModuleInfo<'_>, range: &std::ops::Range<usize>) -> bool {
    let bytes = &info.bytes[range.clone()];
    let reader = wasmparser::ElementSectionReader::new(wasmparser::BinaryReader::new(bytes, range.start));
    reader.is_ok_and(|section| {
        section.into_iter().flatten().any(|element| {
            matches!(element.items, wasmparser::ElementItems::Expressions(ty, _) if ty.is_extern_ref())
        })
    })
}

fn elements(parts: &Parts<'_, '_>, range: &std::ops::Range<usize>) -> Result<ElementSection, Error> {
    let mut section = ElementSection::new();
    let bytes = &parts.info.bytes[range.clone()];
    let reader = wasmparser::ElementSectionReader::new(wasmparser::BinaryReader::new(bytes, range.start))?;
    ToWrappers(parts.layout).parse_element_section(&mut section, reader).map_err(Error::from_reencode)?;
    Ok(section)
}
