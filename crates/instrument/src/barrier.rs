//! The store barrier of the heap: which stores mark their page, and the code of a mark.
//!
//! The heap map holds one byte per page. A store to `base + offset` sets the byte of the page that `base + offset` lies
//! in; the byte of page `p` stands for `p` **and** `p + 1`, so one mark covers every byte in
//! `base + [offset, offset + 4096]`, and a store that straddles two pages needs no second one. There is no branch and
//! no call:
//!
//! ```wat
//! ;; before                      ;; after
//! local.get $base                local.get $base
//! local.get $value               local.get $value
//! i32.store offset=8             local.set $v  local.tee $a
//!                                (i32.store8 $tracking (i32.shr_u (i32.add (local.get $a) (i32.const 8))
//!                                                                 (i32.const 12)) (i32.const 1))
//!                                local.get $v
//!                                i32.store offset=8
//! ```
//!
//! A store needs no mark of its own if a mark off the *same base value* that dominates it covers it. Base values are
//! numbered; numbers survive `local.get`, `local.set` and `local.tee`. Invariants:
//! - Constants added to a base make a new value: the addition may wrap. Only memarg offsets of one value compare.
//! - A mark counts only in code that it dominates: facts made inside a block that can be left early, or in an arm of
//!   an `if`, are forgotten at its end; a local set there has a new value after it.
//! - Each of the canister's memories has a map of its own: a mark counts for stores to the same memory only.
//! - Marking too much is harmless, since contents decide what changed. Marking too little never happens.

use wasm_encoder::{InstructionSink, ValType};
use wasmparser::Operator;

use crate::abi::{PAGE_BYTES, tracking};
use crate::encode::{Layout, at};
use crate::info::ModuleInfo;

/// What to do about one store, in the order of the stores in a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreMark {
    /// Mark the page of `base + offset`.
    Mark {
        /// At most the store's own offset; lower if that lets one mark cover more stores.
        offset: u64,
    },
    /// The mark of an earlier store covers it.
    Covered {
        /// The earlier store's place among the stores.
        by: usize,
    },
}

/// Number of a value; equal numbers mean equal values.
type Value = u32;

/// A mark that has been made: `base value + [offset, offset + PAGE_BYTES]` is covered.
#[derive(Debug, Clone, Copy)]
struct Fact {
    base: Value,
    memory: u32,
    /// Index in `marks` of the store that makes it.
    mark: usize,
    /// The highest byte, relative to the base, that some store relies on.
    high: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Block,
    Loop,
    If,
    Else,
}

#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    /// Stack height below the frame's parameters.
    height: usize,
    results: usize,
    params: usize,
    /// Facts known when the frame was entered.
    facts: usize,
    /// When the frame was entered.
    entered: u32,
    /// Whether some branch targets its end.
    left_early: bool,
}

/// A local's value and when it got it.
#[derive(Debug, Clone, Copy)]
struct LocalValue {
    value: Value,
    since: u32,
}

/// Follows one function and decides about its stores.
pub(crate) struct BarrierPlan<'a, 'm> {
    info: &'a ModuleInfo<'m>,
    marks: Vec<StoreMark>,
    stack: Vec<Value>,
    frames: Vec<Frame>,
    facts: Vec<Fact>,
    locals: Vec<LocalValue>,
    /// Spans of time in which a set local may have been skipped, disjoint and ascending: a local whose value dates
    /// from inside one has an unknown value.
    merges: Vec<(u32, u32)>,
    next_value: Value,
    now: u32,
}

/// How many of the newest facts are compared with a store. Bounds the work per store.
const FACTS_SEEN: usize = 32;

impl<'a, 'm> BarrierPlan<'a, 'm> {
    /// A plan for modules like `info`; `begin` starts each function.
    pub fn new(info: &'a ModuleInfo<'m>) -> Self {
        Self {
            info,
            marks: Vec::new(),
            stack: Vec::new(),
            frames: Vec::new(),
            facts: Vec::new(),
            locals: Vec::new(),
            merges: Vec::new(),
            next_value: 0,
            now: 0,
        }
    }

    /// Starts a function with so many locals (parameters included) and results.
    pub fn begin(&mut self, locals: usize, results: usize) {
        self.marks.clear();
        self.stack.clear();
        self.frames.clear();
        self.facts.clear();
        self.merges.clear();
        self.now = 1;
        self.next_value = 0;
        self.locals.clear();
        self.locals.extend((0..locals).map(|index| LocalValue {
            value: u32::try_from(index).expect("the validator bounds locals at 50,000"),
            since: 0,
        }));
        self.next_value = u32::try_from(locals).expect("the validator bounds locals at 50,000");
        self.push_frame(FrameKind::Block, 0, results);
    }

    /// The decisions about the function's stores, in order.
    pub fn marks(&self) -> &[StoreMark] {
        &self.marks
    }

    fn fresh(&mut self) -> Value {
        self.next_value += 1;
        self.next_value
    }

    fn pop(&mut self) -> Value {
        let floor = self.frames.last().map_or(0, |frame| frame.height);
        if self.stack.len() > floor {
            self.stack.pop().expect("the stack is above the frame's floor")
        } else {
            self.fresh() // unreachable code: any value
        }
    }

    fn pop_many(&mut self, count: usize) {
        let floor = self.frames.last().map_or(0, |frame| frame.height);
        let keep = self.stack.len().saturating_sub(count).max(floor);
        self.stack.truncate(keep);
    }

    fn push_fresh(&mut self, count: usize) {
        for _ in 0..count {
            let value = self.fresh();
            self.stack.push(value);
        }
    }

    fn local(&mut self, index: u32) -> Value {
        let local = self.locals[index as usize];
        let span = self.merges.partition_point(|&(from, _)| from <= local.since);
        let stale = span > 0 && local.since < self.merges[span - 1].1;
        if !stale {
            return local.value;
        }
        let value = self.fresh();
        self.locals[index as usize] = LocalValue { value, since: self.now };
        value
    }

    fn set_local(&mut self, index: u32, value: Value) {
        self.locals[index as usize] = LocalValue { value, since: self.now };
    }

    /// Control may arrive here without having passed what was done since `from`.
    fn merge(&mut self, from: u32) {
        while self.merges.last().is_some_and(|&(start, _)| start >= from) {
            self.merges.pop();
        }
        match self.merges.last_mut() {
            Some((_, end)) if *end >= from => *end = self.now,
            _ => self.merges.push((from, self.now)),
        }
    }

    fn push_frame(&mut self, kind: FrameKind, params: usize, results: usize) {
        let floor = self.frames.last().map_or(0, |frame| frame.height);
        let height = self.stack.len().saturating_sub(params).max(floor);
        self.frames.push(Frame {
            kind,
            height,
            results,
            params,
            facts: self.facts.len(),
            entered: self.now,
            left_early: false,
        });
    }

    fn block_type(&self, block: wasmparser::BlockType) -> (usize, usize) {
        match block {
            wasmparser::BlockType::Empty => (0, 0),
            wasmparser::BlockType::Type(_) => (0, 1),
            wasmparser::BlockType::FuncType(index) => {
                let ty = &self.info.types[index as usize];
                (ty.params().len(), ty.results().len())
            }
        }
    }

    fn enter(&mut self, kind: FrameKind, block: wasmparser::BlockType) {
        let (params, results) = self.block_type(block);
        if kind == FrameKind::If {
            self.pop();
        }
        self.push_frame(kind, params, results);
        if kind == FrameKind::Loop {
            // The header is reached from below as well: what any local holds is not known there.
            self.merge(0);
        }
        if params > 0 {
            // Parameters keep their stack slots; a loop's may differ in each round.
            self.pop_many(params);
            self.push_fresh(params);
        }
    }

    fn dead(&mut self) {
        if let Some(frame) = self.frames.last() {
            let height = frame.height;
            self.stack.truncate(height);
        }
    }

    fn branch_to(&mut self, depth: u32) {
        let depth = depth as usize;
        if depth < self.frames.len() {
            let index = self.frames.len() - 1 - depth;
            self.frames[index].left_early = true;
        }
    }

    fn arm_ends(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.kind = FrameKind::Else;
        let (entered, facts, height, params) = (frame.entered, frame.facts, frame.height, frame.params);
        self.facts.truncate(facts);
        self.stack.truncate(height);
        self.push_fresh(params);
        self.merge(entered);
    }

    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.stack.truncate(frame.height);
        self.push_fresh(frame.results);
        let falls_through_only =
            matches!(frame.kind, FrameKind::Loop) || (frame.kind == FrameKind::Block && !frame.left_early);
        if !falls_through_only {
            self.facts.truncate(frame.facts);
            self.merge(frame.entered);
        }
    }

    fn store(&mut self, store: Store) {
        self.pop();
        let base = self.pop();
        let Store { memory, offset, width } = store;
        let high = offset.saturating_add(width - 1);
        let newest = self.facts.len().saturating_sub(FACTS_SEEN);
        for fact in self.facts[newest..].iter_mut().rev() {
            if fact.base != base || fact.memory != memory {
                continue;
            }
            let StoreMark::Mark { offset: low } = &mut self.marks[fact.mark] else { continue };
            // The earlier mark may start lower if that still reaches everything it is relied on for.
            let from = offset.min(*low);
            let to = high.max(fact.high);
            if to <= from.saturating_add(PAGE_BYTES) {
                *low = from;
                fact.high = to;
                let by = fact.mark;
                self.marks.push(StoreMark::Covered { by });
                return;
            }
        }
        self.facts.push(Fact { base, memory, mark: self.marks.len(), high });
        self.marks.push(StoreMark::Mark { offset });
    }

    /// Follows one operator. If it is a store, [`BarrierPlan::marks`] has a decision more: the memory that it writes.
    #[inline(always)]
    pub fn step(&mut self, operator: &Operator<'_>) -> Option<u32> {
        self.now += 1;
        match operator {
            Operator::LocalGet { local_index } => {
                let value = self.local(*local_index);
                self.stack.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.set_local(*local_index, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.set_local(*local_index, value);
                self.stack.push(value);
            }
            Operator::Block { blockty } => self.enter(FrameKind::Block, *blockty),
            Operator::Loop { blockty } => self.enter(FrameKind::Loop, *blockty),
            Operator::If { blockty } => self.enter(FrameKind::If, *blockty),
            Operator::Else => self.arm_ends(),
            Operator::End => self.leave(),
            Operator::Br { relative_depth } => {
                self.branch_to(*relative_depth);
                self.dead();
            }
            Operator::BrIf { relative_depth } => {
                self.pop();
                self.branch_to(*relative_depth);
            }
            Operator::BrTable { targets } => {
                self.branch_to(targets.default());
                for target in targets.targets().flatten() {
                    self.branch_to(target);
                }
                self.dead();
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. } => self.dead(),
            Operator::Call { function_index } => {
                let ty = self.info.function_type(*function_index);
                let (params, results) = (ty.params().len(), ty.results().len());
                self.pop_many(params);
                self.push_fresh(results);
            }
            Operator::CallIndirect { type_index, .. } => {
                let ty = &self.info.types[*type_index as usize];
                let (params, results) = (ty.params().len(), ty.results().len());
                self.pop_many(params + 1);
                self.push_fresh(results);
            }
            other => {
                let (pops, pushes) = fixed_arity(other);
                // Of what pops two and pushes nothing nearly everything is a store.
                if (pops, pushes) == (2, 0)
                    && let Some(store) = store_shape(other)
                {
                    self.store(store);
                    return Some(store.memory);
                }
                self.pop_many(pops);
                self.push_fresh(pushes);
            }
        }
        None
    }
}

/// Operands popped and results pushed by operators whose arity does not depend on the module.
#[inline(always)]
fn fixed_arity(operator: &Operator<'_>) -> (usize, usize) {
    macro_rules! arity {
        (arity $pops:tt -> $pushes:tt) => {
            ($pops, $pushes)
        };
        (arity custom) => {
            (0, 0) // control, calls and proposals that the IC does not accept
        };
    }
    macro_rules! table {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match operator {
                $( Operator::$op $({ $($arg: _),* })? => arity!($($ann)*), )*
                _ => (0, 0),
            }
        };
    }
    wasmparser::for_each_operator!(table)
}

/// A store of `width` bytes at `base + offset`.
#[derive(Debug, Clone, Copy)]
struct Store {
    memory: u32,
    offset: u64,
    width: u64,
}

/// What an operator stores that pops `[base, value]`; `None` if it does not write memory.
#[inline(always)]
fn store_shape(operator: &Operator<'_>) -> Option<Store> {
    use Operator as O;
    let (memarg, width) = match operator {
        O::I32Store8 { memarg } | O::I64Store8 { memarg } | O::V128Store8Lane { memarg, .. } => (memarg, 1),
        O::I32Store16 { memarg } | O::I64Store16 { memarg } | O::V128Store16Lane { memarg, .. } => {
            (memarg, 2)
        }
        O::I32Store { memarg }
        | O::F32Store { memarg }
        | O::I64Store32 { memarg }
        | O::V128Store32Lane { memarg, .. } => (memarg, 4),
        O::I64Store { memarg } | O::F64Store { memarg } | O::V128Store64Lane { memarg, .. } => (memarg, 8),
        O::V128Store { memarg } => (memarg, 16),
        _ => return None,
    };
    Some(Store { memory: memarg.memory, offset: memarg.offset, width })
}

/// Type of the value that a store pops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Stored {
    pub fn val_type(self) -> ValType {
        match self {
            Self::I32 => ValType::I32,
            Self::I64 => ValType::I64,
            Self::F32 => ValType::F32,
            Self::F64 => ValType::F64,
            Self::V128 => ValType::V128,
        }
    }

    /// What an operator stores; `None` if it is no store.
    #[inline(always)]
    pub fn by(operator: &Operator<'_>) -> Option<Self> {
        use Operator as O;
        Some(match operator {
            O::I32Store8 { .. } | O::I32Store16 { .. } | O::I32Store { .. } => Self::I32,
            O::I64Store8 { .. } | O::I64Store16 { .. } | O::I64Store32 { .. } | O::I64Store { .. } => {
                Self::I64
            }
            O::F32Store { .. } => Self::F32,
            O::F64Store { .. } => Self::F64,
            O::V128Store { .. }
            | O::V128Store8Lane { .. }
            | O::V128Store16Lane { .. }
            | O::V128Store32Lane { .. }
            | O::V128Store64Lane { .. } => Self::V128,
            _ => return None,
        })
    }
}

/// Cuts the page index on the stack to the map of a 64-bit memory.
pub(crate) fn cut_to_map(code: &mut InstructionSink<'_>) {
    code.i32_const(i32::try_from(tracking::HEAP64_MAP_BYTES - 1).expect("4 MiB - 1")).i32_and();
}

/// Marks the page of the base in local `base` plus `offset`, in the map of `memory`.
pub(crate) fn emit_mark(
    code: &mut InstructionSink<'_>,
    layout: &Layout,
    memory: u32,
    base: u32,
    offset: u64,
) {
    code.local_get(base);
    if layout.address_type(memory) == ValType::I64 {
        if offset > 0 {
            code.i64_const(offset.cast_signed()).i64_add();
        }
        // An address beyond the heap traps in the store itself; until then its mark must stay inside the map.
        code.i64_const(12).i64_shr_u().i32_wrap_i64();
        cut_to_map(code);
    } else {
        if offset > 0 {
            // Wraps only where the store itself traps.
            let offset = u32::try_from(offset).expect("the validator bounds 32-bit offsets");
            code.i32_const(offset.cast_signed()).i32_add();
        }
        code.i32_const(12).i32_shr_u();
    }
    let map = layout.tracking.heap_maps[memory as usize];
    code.i32_const(1).i32_store8(at(layout.tracking_memory, map, 0));
}
