//! Rewrites one function body: meters it, marks its stores, re-points its calls.
//!
//! One walk over the operators adds up block costs (`meter`), decides about stores (`barrier`) and lists what must change:
//! [`Event`]s, few and small. Then the new code is written: stretches of unchanged bytes are copied, events are written
//! anew. Nothing of the function's own is renumbered except, under [`Counter::Threaded`], its locals after the
//! parameters, which move up by one.
//!
//! Under [`Counter::Threaded`] the whole body stands in one block, so that branches to the function's own label keep
//! their depth and land before the code that returns the counter.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, InstructionSink, ValType};
use wasmparser::Operator;

use crate::abi::{Counter, StableAccess};
use crate::barrier::{BarrierPlan, StoreMark, Stored, emit_mark};
use crate::cost::CostTable;
use crate::encode::{Layout, Types};
use crate::error::Error;
use crate::info::{FunctionCode, ModuleInfo};
use crate::limits;
use crate::meter::{BlockStart, CounterAccess, cut};

/// Numbers gathered over all functions.
#[derive(Debug, Default)]
pub(crate) struct BodyStats {
    pub stores_marked: u64,
    pub stores_elided: u64,
    pub blocks: u64,
    pub stable_calls: u32,
    /// Production's count of instructions after its own instrumentation, the base of the compile charge.
    pub compiled_instructions: u64,
}

/// Rewrites bodies of one module, reusing its buffers.
pub(crate) struct BodyRewriter<'a, 'm> {
    info: &'a ModuleInfo<'m>,
    layout: &'a Layout,
    prices: &'a CostTable,
    plan: BarrierPlan<'a, 'm>,
    events: Vec<Event>,
    /// Cost of the block at function entry.
    entry_cost: u64,
    pub stats: BodyStats,
}

/// Something in a body that is not just copied.
#[derive(Debug, Clone, Copy)]
struct Event {
    /// Position in the module: of the operator, or, for a block, of its first one.
    at: u32,
    /// Bytes of the operator; none for a block.
    len: u8,
    edit: Edit,
    /// Indices that the operator names, or the low and high half of a block's cost.
    a: u32,
    b: u32,
}

const _: () = assert!(size_of::<Event>() <= 20, "a hostile body may consist of nothing but events");

impl Event {
    fn cost(self) -> u64 {
        u64::from(self.b) << 32 | u64::from(self.a)
    }
}

/// What to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// The charge of a block that is not re-entered.
    Block,
    /// The charge of a loop's header.
    Loop,
    Call,
    ReturnCall,
    RefFunc,
    CallIndirect,
    ReturnCallIndirect,
    Return,
    LocalGet,
    LocalSet,
    LocalTee,
    MemoryGrow,
    MemoryFill,
    MemoryCopy,
    MemoryInit,
    Drop,
    Store(Stored),
}

/// In place of an event's index: the block at function entry has none.
const BLOCK_AT_ENTRY: usize = usize::MAX;

/// Positions fit: modules have at most 100 MiB.
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("modules are smaller than 4 GiB")
}

/// Locals added to a function, made when first needed.
struct Temporaries {
    next: u32,
    types: Vec<ValType>,
    by_purpose: Vec<(Purpose, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Address,
    Stored(ValType),
    TableIndex(ValType),
    BulkStart,
    BulkMiddle(ValType),
    BulkBytes(ValType),
}

impl Temporaries {
    fn get(&mut self, purpose: Purpose, ty: ValType) -> u32 {
        if let Some((_, local)) = self.by_purpose.iter().find(|(known, _)| *known == purpose) {
            return *local;
        }
        let local = self.next;
        self.next += 1;
        self.types.push(ty);
        self.by_purpose.push((purpose, local));
        local
    }
}

impl<'a, 'm> BodyRewriter<'a, 'm> {
    pub fn new(info: &'a ModuleInfo<'m>, layout: &'a Layout, prices: &'a CostTable) -> Self {
        let plan = BarrierPlan::new(info);
        Self { info, layout, prices, plan, events: Vec::new(), entry_cost: 0, stats: BodyStats::default() }
    }

    /// The new body of defined function `index`: locals and operators.
    pub fn rewrite(&mut self, index: usize, types: &mut Types) -> Result<Vec<u8>, Error> {
        let info = self.info;
        let function = &info.code[index];
        let type_index = info.functions[index];
        let ty = &info.types[type_index as usize];
        let params = u32::try_from(ty.params().len()).expect("the validator bounds parameters at 1,000");

        let mut locals: Vec<(u32, ValType)> = Vec::new();
        let mut declared = 0;
        for group in function.body.get_locals_reader()? {
            let (count, ty) = group?;
            declared += count;
            locals.push((count, RoundtripReencoder.val_type(ty).map_err(Error::from_reencode)?));
        }
        let all = u64::from(params) + u64::from(declared);
        if all > limits::FUNCTION_LOCALS_MAX {
            return Err(too_large(index, all, "locals", limits::FUNCTION_LOCALS_MAX).at(function.range.start));
        }
        self.plan.begin((params + declared) as usize, ty.results().len());
        self.analyse(function, params)?;

        let counter = self.layout.counter_in(params);
        let mut temporaries = Temporaries {
            next: self.layout.first_local(params) + declared,
            types: Vec::new(),
            by_purpose: Vec::new(),
        };
        let mut code = Vec::with_capacity(function.range.len() * 2);
        let outer = match self.layout.counter {
            Counter::Global => None,
            Counter::Threaded => Some(types.results_only(info, type_index)),
        };
        self.emit(
            function,
            &mut Emission { code: &mut code, counter, outer, types, temporaries: &mut temporaries },
        )?;

        // Threaded: the counter is the parameter after the function's own; locals follow it.
        locals.extend(temporaries.types.iter().map(|ty| (1, *ty)));
        let mut body = wasm_encoder::Function::new(locals);
        body.raw(code);
        let body = body.into_raw_body();
        if body.len() as u64 > limits::REWRITTEN_FUNCTION_BYTES_MAX {
            let (bytes, most) = (body.len() as u64, limits::REWRITTEN_FUNCTION_BYTES_MAX);
            return Err(too_large(index, bytes, "bytes after rewriting", most).at(function.range.start));
        }
        Ok(body)
    }

    /// The walk: what must change, what blocks cost, which stores mark.
    fn analyse(&mut self, function: &FunctionCode<'_>, params: u32) -> Result<(), Error> {
        self.events.clear();
        let memory64 = self.layout.memory64;
        let mut cost = 1; // entering a function
        let mut start = BlockStart::Reentrant;
        let mut compiled = 0;
        let mut block = BLOCK_AT_ENTRY;
        self.entry_cost = 0;
        let mut reader = function.body.get_operators_reader()?;
        while !reader.eof() {
            let from = reader.original_position();
            let operator = reader.read()?;
            let to = reader.original_position();
            compiled += 1;
            cost += self.prices.operator(&operator, memory64);
            let edit = if self.plan.step(&operator) {
                Stored::by(&operator).map(|stored| (Edit::Store(stored), 0, 0))
            } else {
                self.edit(&operator, params)
            };
            if let Some((edit, a, b)) = edit {
                let (at, len) =
                    (position(from), u8::try_from(to - from).expect("no edited operator is long"));
                self.events.push(Event { at, len, edit, a, b });
                compiled += compile_extra(&operator, memory64);
            }
            if let Some(next) = cut(&operator) {
                // Now the block that ends here is known as a whole: it is charged where it started.
                self.close_block(block, cost);
                compiled += block_extra(start, cost);
                cost = 0;
                start = next;
                block = self.events.len();
                let edit = if next == BlockStart::Reentrant { Edit::Loop } else { Edit::Block };
                self.events.push(Event { at: position(to), len: 0, edit, a: 0, b: 0 });
                self.stats.blocks += 1;
            }
        }
        self.stats.compiled_instructions += compiled;
        for mark in self.plan.marks() {
            match mark {
                StoreMark::Mark { .. } => self.stats.stores_marked += 1,
                StoreMark::Covered => self.stats.stores_elided += 1,
            }
        }
        Ok(())
    }

    /// Writes a block's cost where the block starts.
    fn close_block(&mut self, block: usize, cost: u64) {
        match self.events.get_mut(block) {
            None => self.entry_cost = cost,
            Some(start) => {
                start.a = u32::try_from(cost & 0xffff_ffff).expect("masked");
                start.b = u32::try_from(cost >> 32).expect("a block has at most 1,000,000 operators");
            }
        }
    }

    /// Writes the new operators.
    fn emit(&mut self, function: &FunctionCode<'_>, out: &mut Emission<'_>) -> Result<(), Error> {
        let bytes = self.info.bytes;
        let reader = function.body.get_operators_reader()?;
        let mut copied = reader.original_position();
        let end = function.range.end;
        let mut store = 0;
        out.charge(self.entry_cost, BlockStart::Reentrant);
        if let Some(ty) = out.outer {
            out.sink().block(ty);
        }
        for index in 0..self.events.len() {
            let event = self.events[index];
            let at = event.at as usize;
            out.code.extend_from_slice(&bytes[copied..at]);
            copied = at + usize::from(event.len);
            match event.edit {
                // After the last operator no block follows.
                Edit::Block | Edit::Loop if at == end => {}
                Edit::Block => out.charge(event.cost(), BlockStart::Straight),
                Edit::Loop => out.charge(event.cost(), BlockStart::Reentrant),
                _ => self.replace(event, &bytes[at..copied], &mut store, out),
            }
        }
        out.code.extend_from_slice(&bytes[copied..end]);
        if out.outer.is_some() {
            let counter = out.counter;
            counter.push_result(&mut out.sink());
            out.sink().end();
        }
        Ok(())
    }

    /// How an operator that is no store is written anew, if it is.
    #[inline]
    fn edit(&self, operator: &Operator<'_>, params: u32) -> Option<(Edit, u32, u32)> {
        let threaded = self.layout.counter == Counter::Threaded;
        let moved = |index: u32| threaded && index >= params;
        Some(match *operator {
            Operator::LocalGet { local_index } if moved(local_index) => (Edit::LocalGet, local_index, 0),
            Operator::LocalSet { local_index } if moved(local_index) => (Edit::LocalSet, local_index, 0),
            Operator::LocalTee { local_index } if moved(local_index) => (Edit::LocalTee, local_index, 0),
            Operator::Call { function_index } if threaded || function_index < self.layout.imports => {
                (Edit::Call, function_index, 0)
            }
            Operator::ReturnCall { function_index } if threaded || function_index < self.layout.imports => {
                (Edit::ReturnCall, function_index, 0)
            }
            Operator::RefFunc { function_index } if function_index < self.layout.imports => {
                (Edit::RefFunc, function_index, 0)
            }
            Operator::CallIndirect { type_index, table_index } if threaded => {
                (Edit::CallIndirect, type_index, table_index)
            }
            Operator::ReturnCallIndirect { type_index, table_index } if threaded => {
                (Edit::ReturnCallIndirect, type_index, table_index)
            }
            Operator::Return if threaded => (Edit::Return, 0, 0),
            Operator::MemoryGrow { .. } => (Edit::MemoryGrow, 0, 0),
            Operator::MemoryFill { .. } => (Edit::MemoryFill, 0, 0),
            Operator::MemoryCopy { .. } => (Edit::MemoryCopy, 0, 0),
            Operator::MemoryInit { .. } => (Edit::MemoryInit, 0, 0),
            Operator::DataDrop { .. } | Operator::ElemDrop { .. } => (Edit::Drop, 0, 0),
            _ => return None,
        })
    }

    fn replace(&mut self, event: Event, raw: &[u8], store: &mut usize, out: &mut Emission<'_>) {
        let counter = out.counter;
        let layout = self.layout;
        match event.edit {
            Edit::Call if self.is_stable64_size(event.a) => {
                self.stats.stable_calls += 1;
                out.sink().memory_size(layout.stable_memory);
            }
            Edit::Call => {
                let target = self.target(event.a);
                counter.call(&mut out.sink(), target);
            }
            Edit::ReturnCall => {
                let target = self.target(event.a);
                counter.push_result(&mut out.sink());
                out.sink().return_call(target);
            }
            Edit::RefFunc => {
                let target = layout.function(event.a);
                out.sink().ref_func(target);
            }
            Edit::CallIndirect => {
                let ty = out.counter_under_index(self.info, event.a, event.b);
                out.sink().call_indirect(event.b, ty);
                counter.set(&mut out.sink());
            }
            Edit::ReturnCallIndirect => {
                let ty = out.counter_under_index(self.info, event.a, event.b);
                out.sink().return_call_indirect(event.b, ty);
            }
            Edit::Return => {
                counter.push_result(&mut out.sink());
                out.sink().return_();
            }
            // The counter took the place behind the parameters.
            Edit::LocalGet => {
                out.sink().local_get(event.a + 1);
            }
            Edit::LocalSet => {
                out.sink().local_set(event.a + 1);
            }
            Edit::LocalTee => {
                out.sink().local_tee(event.a + 1);
            }
            Edit::MemoryGrow => {
                out.code.extend_from_slice(raw);
                counter.call(&mut out.sink(), layout.helpers.heap_grown);
            }
            Edit::Drop => {
                out.code.extend_from_slice(raw);
                out.sink().i32_const(1).global_set(layout.dropped_global);
            }
            Edit::MemoryFill => out.bulk(layout, ValType::I32, layout.heap_type(), raw),
            Edit::MemoryCopy => out.bulk(layout, layout.heap_type(), layout.heap_type(), raw),
            Edit::MemoryInit => out.bulk(layout, ValType::I32, ValType::I32, raw),
            Edit::Store(stored) => {
                let ty = stored.val_type();
                let mark = self.plan.marks()[*store];
                *store += 1;
                if let StoreMark::Mark { offset } = mark {
                    let value = out.temporaries.get(Purpose::Stored(ty), ty);
                    let address = out.temporaries.get(Purpose::Address, layout.heap_type());
                    let mut code = out.sink();
                    code.local_set(value).local_tee(address);
                    emit_mark(&mut code, layout.tracking_memory, layout.memory64, address, offset);
                    code.local_get(value);
                }
                out.code.extend_from_slice(raw);
            }
            Edit::Block | Edit::Loop => unreachable!("charged by the caller"),
        }
    }

    /// `stable64_size` costs nothing but its call, so it is one instruction at the call site.
    fn is_stable64_size(&self, function: u32) -> bool {
        self.layout.stable == StableAccess::Native
            && function < self.info.import_count()
            && self.info.imported_functions[function as usize].api.name == "stable64_size"
    }

    /// The function to call instead of `function`.
    fn target(&mut self, function: u32) -> u32 {
        if function >= self.info.import_count() {
            return function;
        }
        let name = self.info.imported_functions[function as usize].api.name;
        self.stats.stable_calls += u32::from(name.starts_with("stable"));
        match name {
            "stable64_read" if self.layout.stable == StableAccess::Native => self.layout.helpers.read,
            "stable64_write" if self.layout.stable == StableAccess::Native => self.layout.helpers.write,
            _ => self.layout.function(function),
        }
    }
}

/// Where one function's new code goes.
struct Emission<'e> {
    code: &'e mut Vec<u8>,
    counter: CounterAccess,
    /// Threaded: type of the block around the body.
    outer: Option<BlockType>,
    types: &'e mut Types,
    temporaries: &'e mut Temporaries,
}

impl Emission<'_> {
    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(self.code)
    }

    fn charge(&mut self, cost: u64, start: BlockStart) {
        let counter = self.counter;
        counter.charge_block(&mut self.sink(), cost, start);
    }

    /// Puts the counter under the table index on the stack; returns the type with the counter.
    fn counter_under_index(&mut self, info: &ModuleInfo<'_>, type_index: u32, table_index: u32) -> u32 {
        let table64 = info.tables.get(table_index as usize).is_some_and(|table| table.table64);
        let ty = if table64 { ValType::I64 } else { ValType::I32 };
        let index = self.temporaries.get(Purpose::TableIndex(ty), ty);
        let counter = self.counter;
        let mut code = self.sink();
        code.local_set(index);
        counter.get(&mut code);
        code.local_get(index);
        self.types.threaded(info, type_index)
    }

    /// Charges and marks before a bulk instruction whose operands `[start, middle, bytes]` are on the stack.
    fn bulk(&mut self, layout: &Layout, middle: ValType, size: ValType, raw: &[u8]) {
        let start_type = layout.heap_type();
        let bytes = self.temporaries.get(Purpose::BulkBytes(size), size);
        let other = self.temporaries.get(Purpose::BulkMiddle(middle), middle);
        let start = self.temporaries.get(Purpose::BulkStart, start_type);
        let counter = self.counter;
        let mut code = self.sink();
        code.local_set(bytes).local_set(other).local_tee(start);
        if start_type == ValType::I32 {
            code.i64_extend_i32_u();
        }
        code.local_get(bytes);
        if size == ValType::I32 {
            code.i64_extend_i32_u();
        }
        counter.call(&mut code, layout.helpers.bulk);
        code.local_get(start).local_get(other).local_get(bytes);
        self.code.extend_from_slice(raw);
    }
}

fn too_large(function: usize, count: u64, what: &str, most: u64) -> Error {
    let text =
        format!("Wasm module has a function, number {function}, of {count} {what}; the maximum is {most}.");
    Error::refused(text)
}

/// What production's instrumentation adds for one operator (facts of the compile charge).
fn compile_extra(operator: &Operator<'_>, memory64: bool) -> u64 {
    match operator {
        Operator::MemoryInit { .. } | Operator::MemoryGrow { .. } => 3,
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } if memory64 => 1,
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } => 3,
        _ => 0,
    }
}

/// What production's instrumentation adds for one block.
fn block_extra(start: BlockStart, cost: u64) -> u64 {
    match start {
        BlockStart::Reentrant => 10,
        BlockStart::Straight if cost > 0 => 4,
        BlockStart::Straight => 0,
    }
}
