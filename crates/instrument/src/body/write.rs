//! Writes a function anew: stretches of unchanged bytes are copied, events are written as code.
//!
//! Invariants:
//! - Locals that are added come after the function's own.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};
use wasmparser::FunctionBody;

use super::events::{Edit, Event};
use super::{BodyRewriter, too_large};
use crate::abi::{Counter, StableAccess};
use crate::barrier::{StoreMark, emit_mark};
use crate::encode::{Layout, Types};
use crate::error::Error;
use crate::info::ModuleInfo;
use crate::limits;
use crate::meter::{BlockStart, Charges, CounterAccess};
use crate::stable::{self, FastLocals};
use crate::tracking::push_place;

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
    StableOffset,
    StableHeap,
    StableCharged,
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

    /// The locals that a stable access needs.
    fn stable_locals(&mut self) -> FastLocals {
        let mut get = |purpose| self.temporaries.get(purpose, ValType::I64);
        let (stable, heap, charged) =
            (get(Purpose::StableOffset), get(Purpose::StableHeap), get(Purpose::StableCharged));
        FastLocals { stable, heap, charged }
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

impl BodyRewriter<'_, '_> {
    /// Appends the new body to the code: locals and operators.
    pub(super) fn write(
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
            Counter::Global | Counter::None => None,
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
            self.note(body, index, locals.len() + code.len());
        }
        self.buffer = code;
        Ok(())
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

    fn replace(&mut self, event: Event, raw: &[u8], store: &mut usize, out: &mut Emission<'_>) {
        let counter = out.counter;
        let layout = self.layout;
        match event.edit {
            Edit::Call if self.is_stable64_size(event.a) => {
                self.stats.stable_calls += 1;
                out.sink().memory_size(layout.stable_memory);
            }
            Edit::StableAccess(direction) => {
                self.stats.stable_calls += 1;
                let locals = out.stable_locals();
                let bytes = event.a.into();
                let mut code = out.sink();
                stable::emit_at_call_site(&mut code, direction, bytes, locals, counter, layout, self.prices);
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
                if let StoreMark::Mark { offset } = mark
                    && layout.marks()
                {
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
