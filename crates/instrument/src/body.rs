//! Rewrites one function body: meters it, marks its stores, re-points its calls.
//!
//! Two walks over the operators. The first adds up block costs (`meter`) and decides about stores (`barrier`); the
//! second copies the bytes of everything that does not change and writes the rest anew. Nothing of the function's own
//! is renumbered except, under [`Counter::Threaded`], its locals after the parameters, which move up by one.
//!
//! Under [`Counter::Threaded`] the whole body stands in one block, so that branches to the function's own label keep
//! their depth and land before the code that returns the counter.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, InstructionSink, ValType};
use wasmparser::Operator;

use crate::abi::{Counter, StableAccess};
use crate::barrier::{BarrierPlan, StoreMark, emit_mark, store_shape, stored_type};
use crate::cost::CostTable;
use crate::encode::{Layout, Types};
use crate::error::Error;
use crate::info::{FunctionCode, ModuleInfo};
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
    costs: Vec<u64>,
    pub stats: BodyStats,
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
        Self { info, layout, prices, plan, costs: Vec::new(), stats: BodyStats::default() }
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
        self.plan.begin((params + declared) as usize, ty.results().len());
        self.analyse(function)?;

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
        self.emit(function, &mut Emission { code: &mut code, counter, params, outer, types, temporaries: &mut temporaries })?;

        // Threaded: the counter is the parameter after the function's own; locals follow it.
        locals.extend(temporaries.types.iter().map(|ty| (1, *ty)));
        let mut body = wasm_encoder::Function::new(locals);
        body.raw(code);
        Ok(body.into_raw_body())
    }

    /// First walk: costs of the blocks, decisions about the stores.
    fn analyse(&mut self, function: &FunctionCode<'_>) -> Result<(), Error> {
        self.costs.clear();
        let memory64 = self.layout.memory64;
        let mut cost = 1; // entering a function
        let mut reentrant = 1;
        let mut charged = 0;
        let mut operators = 0;
        let mut start = BlockStart::Reentrant;
        let mut extra = 0;
        let mut reader = function.body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            operators += 1;
            cost += self.prices.operator(&operator, memory64);
            extra += compile_extra(&operator, memory64);
            self.plan.step(&operator);
            if let Some(next) = cut(&operator) {
                self.costs.push(cost);
                charged += u64::from(start == BlockStart::Straight && cost > 0);
                cost = 0;
                start = next;
                reentrant += u64::from(next == BlockStart::Reentrant);
            }
        }
        self.stats.blocks += self.costs.len() as u64;
        self.stats.compiled_instructions += operators + 10 * reentrant + 4 * charged + extra;
        for mark in self.plan.marks() {
            match mark {
                StoreMark::Mark { .. } => self.stats.stores_marked += 1,
                StoreMark::Covered => self.stats.stores_elided += 1,
            }
        }
        Ok(())
    }

    /// Second walk: writes the new operators.
    fn emit(&mut self, function: &FunctionCode<'_>, out: &mut Emission<'_>) -> Result<(), Error> {
        let bytes = self.info.bytes;
        let mut reader = function.body.get_operators_reader()?;
        let mut copied = reader.original_position();
        let mut block = 0;
        let mut store = 0;
        out.charge(self.costs[block], BlockStart::Reentrant);
        if let Some(ty) = out.outer {
            out.sink().block(ty);
        }
        while !reader.eof() {
            let from = reader.original_position();
            let operator = reader.read()?;
            let to = reader.original_position();
            let last = reader.eof();
            if self.changes(&operator) {
                out.code.extend_from_slice(&bytes[copied..from]);
                copied = to;
                self.replace(&operator, &bytes[from..to], &mut store, out);
            }
            if let Some(start) = cut(&operator) {
                out.code.extend_from_slice(&bytes[copied..to]);
                copied = to;
                block += 1;
                if !last {
                    out.charge(self.costs[block], start);
                }
            }
        }
        out.code.extend_from_slice(&bytes[copied..reader.original_position()]);
        if out.outer.is_some() {
            let counter = out.counter;
            counter.push_result(&mut out.sink());
            out.sink().end();
        }
        Ok(())
    }

    /// Whether an operator is written anew rather than copied.
    fn changes(&self, operator: &Operator<'_>) -> bool {
        let threaded = self.layout.counter == Counter::Threaded;
        match operator {
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            => threaded || *function_index < self.info.import_count(),
            Operator::RefFunc { function_index } => *function_index < self.info.import_count(),
            Operator::CallIndirect { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::Return
            | Operator::LocalGet { .. }
            | Operator::LocalSet { .. }
            | Operator::LocalTee { .. } => threaded,
            Operator::MemoryGrow { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
            | Operator::ElemDrop { .. } => true,
            other => store_shape(other).is_some(),
        }
    }

    fn replace(&mut self, operator: &Operator<'_>, raw: &[u8], store: &mut usize, out: &mut Emission<'_>) {
        let counter = out.counter;
        let layout = self.layout;
        match *operator {
            Operator::Call { function_index } if self.is_stable64_size(function_index) => {
                self.stats.stable_calls += 1;
                out.sink().memory_size(layout.stable_memory);
            }
            Operator::Call { function_index } => {
                let target = self.target(function_index);
                counter.call(&mut out.sink(), target);
            }
            Operator::ReturnCall { function_index } => {
                let target = self.target(function_index);
                counter.push_result(&mut out.sink());
                out.sink().return_call(target);
            }
            Operator::RefFunc { function_index } => {
                let target = self.target(function_index);
                out.sink().ref_func(target);
            }
            Operator::CallIndirect { type_index, table_index } => {
                let ty = out.counter_under_index(self.info, type_index, table_index);
                out.sink().call_indirect(table_index, ty);
                counter.set(&mut out.sink());
            }
            Operator::ReturnCallIndirect { type_index, table_index } => {
                let ty = out.counter_under_index(self.info, type_index, table_index);
                out.sink().return_call_indirect(table_index, ty);
            }
            Operator::Return => {
                counter.push_result(&mut out.sink());
                out.sink().return_();
            }
            Operator::LocalGet { local_index } => {
                let local = out.moved(local_index);
                out.sink().local_get(local);
            }
            Operator::LocalSet { local_index } => {
                let local = out.moved(local_index);
                out.sink().local_set(local);
            }
            Operator::LocalTee { local_index } => {
                let local = out.moved(local_index);
                out.sink().local_tee(local);
            }
            Operator::MemoryGrow { .. } => {
                out.code.extend_from_slice(raw);
                counter.call(&mut out.sink(), layout.helpers.heap_grown);
            }
            Operator::DataDrop { .. } | Operator::ElemDrop { .. } => {
                out.code.extend_from_slice(raw);
                out.sink().i32_const(1).global_set(layout.dropped_global);
            }
            Operator::MemoryFill { .. } => out.bulk(layout, ValType::I32, layout.heap_type(), raw),
            Operator::MemoryCopy { .. } => out.bulk(layout, layout.heap_type(), layout.heap_type(), raw),
            Operator::MemoryInit { .. } => out.bulk(layout, ValType::I32, ValType::I32, raw),
            _ => {
                let mark = self.plan.marks()[*store];
                *store += 1;
                if let StoreMark::Mark { offset } = mark {
                    let ty = stored_type(operator);
                    let value = out.temporaries.get(Purpose::Stored(ty), ty);
                    let address = out.temporaries.get(Purpose::Address, layout.heap_type());
                    let mut code = out.sink();
                    code.local_set(value).local_tee(address);
                    emit_mark(&mut code, layout.tracking_memory, layout.memory64, address, offset);
                    code.local_get(value);
                }
                out.code.extend_from_slice(raw);
            }
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
    /// Parameters of the original function.
    params: u32,
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

    /// A local's index after the counter took the place behind the parameters.
    fn moved(&self, local: u32) -> u32 {
        if local < self.params { local } else { local + 1 }
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

/// What production's instrumentation adds for one operator (facts of the compile charge).
fn compile_extra(operator: &Operator<'_>, memory64: bool) -> u64 {
    match operator {
        Operator::MemoryInit { .. } => 3,
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } => {
            if memory64 { 1 } else { 3 }
        }
        Operator::MemoryGrow { .. } => 3,
        _ => 0,
    }
}
