//! The walk over one function: what must change in it, as a list of events, and what its blocks cost.
//!
//! Invariants:
//! - Events are in the order of their positions, and few: what is only copied has none.
//! - Code that can never run has one event, however long it is.

use wasmparser::{BlockType, Operator};

use super::BodyRewriter;
use crate::abi::Counter;
use crate::barrier::Stored;
use crate::info::is_external_reference;
use crate::meter::{BlockStart, cut};
use crate::stable::{self, Direction};
use crate::validate::Seen;
use crate::walk::Observer;

/// Something in a body that is not just copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// Position in the module: of the operator, or, for a block, of its first one.
    pub at: u32,
    /// Bytes of the operator; none for a block.
    pub len: u8,
    pub edit: Edit,
    /// Indices that the operator names, or the low and high half of a block's cost.
    pub a: u32,
    pub b: u32,
}

const _: () = assert!(size_of::<Event>() <= 20, "a hostile body may consist of nothing but events");

impl Event {
    pub fn cost(self) -> u64 {
        u64::from(self.b) << 32 | u64::from(self.a)
    }
}

/// What to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// The charge of a block that is not re-entered.
    Block,
    /// The charge of a loop's header.
    Loop,
    /// Code that never runs, from the event's position to position `a`.
    Dead,
    Call,
    /// A call of a stable access of `a` bytes, to be written in its place.
    StableAccess(Direction),
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

/// Where a walk over one function stands.
#[derive(Debug)]
pub(super) struct Walk {
    pub seen: Seen,
    pub params: u32,
    /// Cost of the block that is open.
    pub cost: u64,
    pub start: BlockStart,
    /// Index of the event that opened it.
    pub block: usize,
    /// Cost of the block at function entry.
    pub entry_cost: u64,
    pub compiled: u64,
    /// The operator seen last has an event, which lacks its position.
    pub edited: bool,
    /// The operator seen last ends a block.
    pub cut: Option<BlockStart>,
    /// What the operator seen last pushed, if it is an `i64.const`.
    pub constant: Option<u64>,
    /// Blocks, loops and ifs that were entered since the last unconditional branch, that branch included: 0 in code
    /// that may run.
    pub dead: u32,
    /// The function is refused whatever follows; nothing more is listed.
    pub refused: bool,
}

impl Walk {
    pub fn new(params: u32) -> Self {
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
            constant: None,
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

impl BodyRewriter<'_, '_> {
    /// How an operator that is no store is written anew, if it is.
    #[inline(always)]
    fn edit(&self, operator: &Operator<'_>, params: u32) -> Option<(Edit, u32, u32)> {
        let threaded = self.layout.counter == Counter::Threaded;
        let moved = |index: u32| threaded && index == params;
        Some(match *operator {
            Operator::LocalGet { local_index } if moved(local_index) => (Edit::LocalGet, 0, 0),
            Operator::LocalSet { local_index } if moved(local_index) => (Edit::LocalSet, 0, 0),
            Operator::LocalTee { local_index } if moved(local_index) => (Edit::LocalTee, 0, 0),
            Operator::Call { function_index } if function_index < self.layout.imports => {
                match self.access_at_call_site(function_index) {
                    Some((direction, bytes)) => (Edit::StableAccess(direction), bytes, 0),
                    None => (Edit::Call, function_index, 0),
                }
            }
            Operator::Call { function_index } if threaded => (Edit::Call, function_index, 0),
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

    /// Which access of how many bytes a call of import `function` is, if it is to be written in the call's place.
    fn access_at_call_site(&self, function: u32) -> Option<(Direction, u32)> {
        let bytes = self.walk.constant?;
        let direction = match self.info.imported_functions[function as usize].api.name {
            "stable64_read" => Direction::Read,
            "stable64_write" => Direction::Write,
            _ => return None,
        };
        let written = stable::is_written_at_call_site(self.layout, bytes);
        written.then(|| (direction, u32::try_from(bytes).expect("few bytes")))
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
            self.walk.constant = match *operator {
                Operator::I64Const { value } => Some(value.cast_unsigned()),
                _ => None,
            };
        }
        self.stats.external_references |= names_external_reference(operator);
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

/// Whether an operator names `externref`, so that one may be on the stack after it.
#[inline(always)]
fn names_external_reference(operator: &Operator<'_>) -> bool {
    match operator {
        Operator::RefNull { hty } => *hty == wasmparser::HeapType::EXTERN,
        Operator::TypedSelect { ty }
        | Operator::Block { blockty: BlockType::Type(ty) }
        | Operator::Loop { blockty: BlockType::Type(ty) }
        | Operator::If { blockty: BlockType::Type(ty) } => is_external_reference(*ty),
        Operator::TypedSelectMulti { tys } => tys.iter().any(|ty| is_external_reference(*ty)),
        _ => false,
    }
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
