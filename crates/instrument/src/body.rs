//! Rewrites one function body: meters it, marks its stores, re-points its calls.
//!
//! The walk that validates the operators also adds up block costs (`meter`), decides about stores (`barrier`) and lists
//! what must change: [`Event`]s, few and small. Then the new code is written: stretches of unchanged bytes are copied, events are written
//! anew. Nothing of the function's own is renumbered except, under [`Counter::Threaded`], the first local after the
//! parameters: it gives its place to the counter, which is a parameter, and becomes the last.
//!
//! Code that can never run (from an unconditional branch to the end of its block) is left out: it needs no charge and no
//! mark, and a function made of nothing else could make the list of events large.
//!
//! Under [`Counter::Threaded`] the whole body stands in one block, so that branches to the function's own label keep
//! their depth and land before the code that returns the counter.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};
use wasmparser::{FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, ValidatorResources};

use crate::abi::{Counter, StableAccess};
use crate::barrier::{BarrierPlan, StoreMark, Stored, emit_mark};
use crate::cost::CostTable;
use crate::encode::{Layout, Types};
use crate::error::Error;
use crate::info::ModuleInfo;
use crate::limits;
use crate::meter::{BlockStart, Charges, CounterAccess, cut};
use crate::tracking::push_place;
use crate::validate::{self, Bodies, Seen};
use crate::walk::{self, Observer};

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
    walk: Walk,
    types: Types,
    code: CodeBytes,
    /// The first function that became too large, reported after all other faults.
    fault: Option<Error>,
    /// One function's new code.
    buffer: Vec<u8>,
    stats: BodyStats,
}

/// What rewriting all bodies gives.
pub(crate) struct Rewritten {
    pub types: Types,
    pub code: CodeBytes,
    pub stats: BodyStats,
}

/// The contents of a code section without its count.
#[derive(Debug, Default)]
pub(crate) struct CodeBytes {
    pub bytes: Vec<u8>,
}

impl CodeBytes {
    /// Appends a body: its locals and its operators, each encoded.
    pub fn push(&mut self, locals: &[u8], operators: &[u8]) {
        (locals.len() + operators.len()).encode(&mut self.bytes);
        self.bytes.extend_from_slice(locals);
        self.bytes.extend_from_slice(operators);
    }
}

/// Where a walk over one function stands.
#[derive(Debug)]
struct Walk {
    seen: Seen,
    params: u32,
    /// Cost of the block that is open.
    cost: u64,
    start: BlockStart,
    /// Index of the event that opened it.
    block: usize,
    /// Cost of the block at function entry.
    entry_cost: u64,
    compiled: u64,
    /// The operator seen last has an event, which lacks its position.
    edited: bool,
    /// The operator seen last ends a block.
    cut: Option<BlockStart>,
    /// Blocks, loops and ifs that were entered since the last unconditional branch, that branch included: 0 in code
    /// that may run.
    dead: u32,
    /// The function is refused whatever follows; nothing more is listed.
    refused: bool,
}

impl Walk {
    fn new(params: u32) -> Self {
        Self {
            seen: Seen::default(),
            params,
            cost: 1, // entering a function
            start: BlockStart::Reentrant,
            block: BLOCK_AT_ENTRY,
            entry_cost: 0,
            compiled: 0,
            edited: false,
            cut: None,
            dead: 0,
            refused: false,
        }
    }

    /// Whether the operator may run.
    #[inline(always)]
    fn lives(&mut self, operator: &Operator<'_>) -> bool {
        if self.dead == 0 {
            return !self.refused;
        }
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => self.dead += 1,
            Operator::Else if self.dead == 1 => self.dead = 0,
            Operator::End => self.dead -= 1,
            _ => {}
        }
        self.dead == 0 && !self.refused
    }
}

/// Whether what follows an operator is reached by branches only.
#[inline(always)]
fn diverges(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Br { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
    )
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
    /// Code that never runs, from the event's position to position `a`.
    Dead,
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
    Address(ValType),
    Stored(ValType),
    TableIndex(ValType),
    BulkStart(ValType),
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
    /// `types` are those of the module so far.
    pub fn new(info: &'a ModuleInfo<'m>, layout: &'a Layout, prices: &'a CostTable, types: Types) -> Self {
        Self {
            info,
            layout,
            prices,
            plan: BarrierPlan::new(info),
            events: Vec::new(),
            walk: Walk::new(0),
            types,
            code: CodeBytes {
                bytes: Vec::with_capacity(info.code_section.as_ref().map_or(0, |code| code.len() * 7 / 4)),
            },
            fault: None,
            buffer: Vec::new(),
            stats: BodyStats::default(),
        }
    }

    /// What came of the bodies, all of which were handed to it.
    ///
    /// # Errors
    /// If a function is too large for what must be added.
    pub fn finish(self) -> Result<Rewritten, Error> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Rewritten { types: self.types, code: self.code, stats: self.stats }),
        }
    }

    /// Walks over a function, then writes it anew.
    fn rewrite(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        index: usize,
        allocations: &mut FuncValidatorAllocations,
    ) -> Result<Option<Error>, Error> {
        let info = self.info;
        let type_index = info.functions[index];
        let ty = &info.types[type_index as usize];
        let params = u32::try_from(ty.params().len()).expect("the validator bounds parameters at 1,000");
        let mut groups = Vec::new();
        let mut declared = 0_u64;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            declared += u64::from(count);
            groups.push((count, ty));
        }
        let all = u64::from(params) + declared;
        if all > limits::FUNCTION_LOCALS_MAX {
            let fault = validate::validate_body(function, body, index, allocations)?;
            let most = limits::FUNCTION_LOCALS_MAX;
            self.fault.get_or_insert_with(|| too_large(index, all, "locals", most).at(body.range().start));
            return Ok(fault);
        }
        let all = u32::try_from(all).expect("compared with the limit");

        self.plan.begin(all as usize, ty.results().len());
        self.events.clear();
        self.walk = Walk::new(params);
        walk::walk(function, body, allocations, self)?;
        self.stats.compiled_instructions += self.walk.compiled;
        for mark in self.plan.marks() {
            match mark {
                StoreMark::Mark { .. } => self.stats.stores_marked += 1,
                StoreMark::Covered => self.stats.stores_elided += 1,
            }
        }
        let fault = self.walk.seen.fault(index, body.range().start);
        if fault.is_none() && self.fault.is_none() {
            self.write(body, index, type_index, all, groups)?;
        }
        Ok(fault)
    }

    /// Appends the new body to the code: locals and operators.
    fn write(
        &mut self,
        body: &FunctionBody<'_>,
        index: usize,
        type_index: u32,
        own_locals: u32,
        groups: Vec<(u32, wasmparser::ValType)>,
    ) -> Result<(), Error> {
        let counter = self.layout.counter_in(self.walk.params);
        let added = u32::from(self.layout.counter == Counter::Threaded);
        let mut temporaries =
            Temporaries { next: own_locals + added, types: Vec::new(), by_purpose: Vec::new() };
        let outer = match self.layout.counter {
            Counter::Global => None,
            Counter::Threaded => Some(self.types.results_only(self.info, type_index)),
        };
        let mut code = std::mem::take(&mut self.buffer);
        let mut types = std::mem::take(&mut self.types);
        code.clear();
        self.emit(
            body,
            &mut Emission {
                code: &mut code,
                counter,
                charges: counter.charges(),
                outer,
                moved: own_locals,
                types: &mut types,
                temporaries: &mut temporaries,
            },
        )?;
        self.types = types;

        let mut all = Vec::with_capacity(groups.len() + 1 + temporaries.types.len());
        for (count, ty) in groups {
            all.push((count, RoundtripReencoder.val_type(ty).map_err(Error::from_reencode)?));
        }
        if self.layout.counter == Counter::Threaded
            && let Some((count, ty)) = all.iter_mut().find(|(count, _)| *count > 0)
        {
            *count -= 1;
            let moved = (1, *ty);
            all.push(moved);
            all.retain(|(count, _)| *count > 0);
        }
        all.extend(temporaries.types.iter().map(|ty| (1, *ty)));
        let mut locals = Vec::new();
        all.len().encode(&mut locals);
        for (count, ty) in all {
            count.encode(&mut locals);
            ty.encode(&mut locals);
        }
        let bytes = (locals.len() + code.len()) as u64;
        let most = limits::REWRITTEN_FUNCTION_BYTES_MAX;
        if bytes > most {
            let text = "bytes after rewriting";
            self.fault = Some(too_large(index, bytes, text, most).at(body.range().start));
        } else {
            self.code.push(&locals, &code);
        }
        self.buffer = code;
        Ok(())
    }

    /// A block ends with the operator at `from..to`.
    fn cut(&mut self, next: BlockStart, from: usize, to: usize) {
        // Now the block is known as a whole: it is charged where it started.
        self.close_block(self.walk.block, self.walk.cost, from);
        self.walk.compiled += block_extra(self.walk.start, self.walk.cost);
        self.stats.blocks += 1;
        self.walk.cost = 0;
        self.walk.start = next;
        self.walk.refused |= self.walk.seen.is_refused();
        if self.walk.refused {
            return;
        }
        let inside_dead = self.events.last().is_some_and(|last| last.edit == Edit::Dead && last.a == 0);
        if inside_dead {
            return;
        }
        self.walk.block = self.events.len();
        let edit = match next {
            _ if self.walk.dead > 0 => Edit::Dead,
            BlockStart::Reentrant => Edit::Loop,
            BlockStart::Straight => Edit::Block,
        };
        self.events.push(Event { at: position(to), len: 0, edit, a: 0, b: 0 });
    }

    /// Writes a block's cost where the block starts.
    fn close_block(&mut self, block: usize, cost: u64, end: usize) {
        match self.events.get_mut(block) {
            None => self.walk.entry_cost = cost,
            Some(start) if start.edit == Edit::Dead => {
                if self.walk.dead == 0 {
                    start.a = position(end);
                }
            }
            Some(start) => {
                start.a = u32::try_from(cost & 0xffff_ffff).expect("masked");
                start.b = u32::try_from(cost >> 32).expect("a block has at most 1,000,000 operators");
            }
        }
    }

    /// Writes the new operators.
    fn emit(&mut self, body: &FunctionBody<'_>, out: &mut Emission<'_>) -> Result<(), Error> {
        let bytes = self.info.bytes;
        let reader = body.get_operators_reader()?;
        let mut copied = reader.original_position();
        let end = body.range().end;
        let mut store = 0;
        out.charge(self.walk.entry_cost, BlockStart::Reentrant);
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
                Edit::Dead => copied = event.a as usize,
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
    #[inline(always)]
    fn edit(&self, operator: &Operator<'_>, params: u32) -> Option<(Edit, u32, u32)> {
        let threaded = self.layout.counter == Counter::Threaded;
        let moved = |index: u32| threaded && index == params;
        Some(match *operator {
            Operator::LocalGet { local_index } if moved(local_index) => (Edit::LocalGet, 0, 0),
            Operator::LocalSet { local_index } if moved(local_index) => (Edit::LocalSet, 0, 0),
            Operator::LocalTee { local_index } if moved(local_index) => (Edit::LocalTee, 0, 0),
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
            Operator::MemoryGrow { mem } => (Edit::MemoryGrow, mem, 0),
            Operator::MemoryFill { mem } => (Edit::MemoryFill, mem, 0),
            Operator::MemoryCopy { dst_mem, src_mem } => (Edit::MemoryCopy, dst_mem, src_mem),
            Operator::MemoryInit { mem, .. } => (Edit::MemoryInit, mem, 0),
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
                let moved = out.moved;
                out.sink().local_get(moved);
            }
            Edit::LocalSet => {
                let moved = out.moved;
                out.sink().local_set(moved);
            }
            Edit::LocalTee => {
                let moved = out.moved;
                out.sink().local_tee(moved);
            }
            Edit::MemoryGrow => {
                out.code.extend_from_slice(raw);
                counter.call(&mut out.sink(), layout.grown(event.a));
            }
            Edit::Drop => {
                out.code.extend_from_slice(raw);
                out.sink().i32_const(1).global_set(layout.dropped_global);
            }
            Edit::MemoryFill => out.bulk(layout, event.a, [ValType::I32, layout.address_type(event.a)], raw),
            Edit::MemoryCopy => {
                let (to, from) = (layout.address_type(event.a), layout.address_type(event.b));
                // The length has the smaller of the two index types.
                let bytes = if to == ValType::I32 { to } else { from };
                out.bulk(layout, event.a, [from, bytes], raw);
            }
            Edit::MemoryInit => out.bulk(layout, event.a, [ValType::I32; 2], raw),
            Edit::Store(stored) => {
                let ty = stored.val_type();
                let mark = self.plan.marks()[*store];
                *store += 1;
                if let StoreMark::Mark { offset } = mark {
                    let value = out.temporaries.get(Purpose::Stored(ty), ty);
                    let address_type = layout.address_type(event.a);
                    let address = out.temporaries.get(Purpose::Address(address_type), address_type);
                    let mut code = out.sink();
                    code.local_set(value).local_tee(address);
                    emit_mark(&mut code, layout, event.a, address, offset);
                    code.local_get(value);
                }
                out.code.extend_from_slice(raw);
            }
            Edit::Block | Edit::Loop | Edit::Dead => unreachable!("charged by the caller"),
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

impl Observer for BodyRewriter<'_, '_> {
    #[inline(always)]
    fn operator(&mut self, operator: &Operator<'_>) {
        let memory64 = self.layout.memory64;
        self.walk.seen.operator(operator);
        self.walk.compiled += 1 + compile_extra(operator, memory64);
        self.walk.cost += self.prices.operator(operator, memory64);
        if self.walk.lives(operator) {
            let edit = if let Some(memory) = self.plan.step(operator) {
                Stored::by(operator).map(|stored| (Edit::Store(stored), memory, 0))
            } else {
                self.edit(operator, self.walk.params)
            };
            if let Some((edit, a, b)) = edit {
                self.events.push(Event { at: 0, len: 0, edit, a, b });
                self.walk.edited = true;
            }
            if diverges(operator) {
                self.walk.dead = 1;
            }
        }
        if let Some(next) = cut(operator) {
            self.walk.cut = Some(next);
        }
    }

    #[inline]
    fn took(&mut self, from: usize, to: usize) {
        self.walk.seen.took(from, to);
        if std::mem::take(&mut self.walk.edited)
            && let Some(event) = self.events.last_mut()
        {
            event.at = position(from);
            event.len = u8::try_from(to - from).expect("no edited operator is long");
        }
        if let Some(next) = self.walk.cut.take() {
            self.cut(next, from, to);
        }
    }
}

impl Bodies for BodyRewriter<'_, '_> {
    fn body(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        index: usize,
        only_validate: bool,
        allocations: &mut FuncValidatorAllocations,
    ) -> Result<Option<Error>, Error> {
        if only_validate {
            return validate::validate_body(function, body, index, allocations);
        }
        self.rewrite(function, body, index, allocations)
    }
}

/// Where one function's new code goes.
struct Emission<'e> {
    code: &'e mut Vec<u8>,
    counter: CounterAccess,
    charges: Charges,
    /// Threaded: type of the block around the body.
    outer: Option<BlockType>,
    /// Threaded: the new index of the local that stood where the counter is.
    moved: u32,
    types: &'e mut Types,
    temporaries: &'e mut Temporaries,
}

impl Emission<'_> {
    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(self.code)
    }

    fn charge(&mut self, cost: u64, start: BlockStart) {
        self.charges.charge_block(self.code, cost, start);
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

    /// Charges and marks before a bulk instruction that writes `memory` and whose operands `[start, middle, bytes]` are on
    /// the stack, the last two of these types.
    fn bulk(&mut self, layout: &Layout, memory: u32, [middle, size]: [ValType; 2], raw: &[u8]) {
        let start_type = layout.address_type(memory);
        let bytes = self.temporaries.get(Purpose::BulkBytes(size), size);
        let other = self.temporaries.get(Purpose::BulkMiddle(middle), middle);
        let start = self.temporaries.get(Purpose::BulkStart(start_type), start_type);
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
        if memory == 0 {
            counter.call(&mut code, layout.helpers.bulk);
        } else {
            push_place(&mut code, layout, memory);
            counter.call(&mut code, layout.helpers.bulk_elsewhere);
        }
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
