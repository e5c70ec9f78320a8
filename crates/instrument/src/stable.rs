//! The stable-memory functions, native: what each `ic0.stable*` call becomes.
//!
//! `stable64_size` is `memory.size` on the injected memory. `stable64_read` and `stable64_write` have two paths. The **fast
//! path** serves accesses of at most a page that are affordable and on pages that this message has touched in that way
//! before; two branches decide that, then loads and stores copy. Where the length is a constant of at most 64 bytes, as it
//! nearly always is, the fast path stands at the call site:
//!
//! ```wat
//! ;; before                                  ;; after
//! (call $stable64_read                       (block $done (block $slow
//!   (local.get $dst) (local.get $off)          (br_if $slow … any of: instructions short, off ≥ 2³⁹, dst ≥ 2³² …)
//!   (i64.const 8))                             (br_if $slow (i32.eqz (i32.and (load8 map[off >> 12])
//!                                                                             (load8 map[(off + 7) >> 12]))))
//!                                              …charge, mark the destination…
//!                                              (i64.store $dst (i64.load (memory $stable) $off))
//!                                              (br $done))
//!                                              (call $stable64_read_slow $dst $off (i64.const 8)))
//! ```
//!
//! Otherwise it is an injected function, in which a ladder of loads and stores copies, or `memory.copy` from 65 bytes on. There is
//! no test of the bounds: a page that was touched lies inside stable memory, which consists of whole pages.
//!
//! The **slow path** is the specification, step by step, and ends in `memory.copy`.
//!
//! Invariants:
//! - The fast path refuses everything that could trap before the copy, so order and texts of errors are the slow path's.
//! - All loads come before the first store and the tail is stored before the head: a store that traps has changed
//!   nothing before it.
//! - The stable map is read here and written by the engine alone.

mod copy;

use wasm_encoder::{BlockType, InstructionSink, ValType};

use crate::abi::{Counter, PAGE_BYTES, SlowCall, StableAccess, Tracker, TrapCode, WASM_PAGE_BYTES, tracking};
use crate::cost::CostTable;
use crate::encode::{Layout, at};
use crate::limits;
use crate::meter::CounterAccess;
use crate::tracking::push_page;

use copy::{LADDER_BYTES, Ladder, Side, copy_pieces, memory_copy, pieces};

/// Which way an access copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Stable memory to heap.
    Read,
    /// Heap to stable memory.
    Write,
}

/// Largest access of the fast path: its first and its last page are all that it touches, and one mark covers them.
const FAST_BYTES: u64 = PAGE_BYTES;
const FAST_SHIFT: i64 = FAST_BYTES.trailing_zeros() as i64;
/// Offsets from `1 << OFFSET_SHIFT` on lie beyond every stable memory; below, each page has its byte in the map.
const OFFSET_SHIFT: i64 = tracking::STABLE_MAP_PAGES.trailing_zeros() as i64 + 12;
/// Highest 32-bit stable memory, in Wasm pages: 4 GiB.
const WASM_PAGES_32: i64 = 65_536;

/// Parameters of both 64-bit functions: `(dst, off, len)` for reads, `(off, src, len)` for writes.
struct Access {
    heap: u32,
    stable: u32,
    len: u32,
}

impl Access {
    fn new(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self { heap: 0, stable: 1, len: 2 },
            Direction::Write => Self { heap: 1, stable: 0, len: 2 },
        }
    }

    fn fixed_charge(&self, prices: &CostTable) -> i64 {
        prices.stable_access_fixed().cast_signed()
    }
}

/// Pushes stable memory's size in bytes.
fn push_stable_bytes(code: &mut InstructionSink<'_>, layout: &Layout) {
    code.memory_size(layout.stable_memory);
    code.i64_const(WASM_PAGE_BYTES.trailing_zeros().into()).i64_shl();
}

/// Locals of a fast path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FastLocals {
    /// Offset in stable memory, i64.
    pub stable: u32,
    /// Address in the heap as the canister passed it, i64.
    pub heap: u32,
    /// What is left after the charge, i64.
    pub charged: u32,
}

/// How many bytes a fast path copies.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// From 1 to [`LADDER_BYTES`].
    Constant(u64),
    /// An i64 local.
    Local(u32),
}

/// One fast path.
struct Fast<'a> {
    direction: Direction,
    length: Length,
    locals: FastLocals,
    counter: CounterAccess,
    layout: &'a Layout,
}

impl Fast<'_> {
    /// Branches to the innermost block unless the access is small, affordable, and on pages touched before in that way.
    /// Then charges, marks and copies.
    fn emit(&self, code: &mut InstructionSink<'_>, fixed_charge: i64) {
        let Self { locals, counter, layout, .. } = self;
        // One word that is zero if the way is free.
        counter.get(code);
        if let Length::Local(len) = self.length {
            code.local_get(len).i64_sub().i64_const(fixed_charge);
        } else {
            code.i64_const(fixed_charge + self.constant_bytes());
        }
        code.i64_sub().local_tee(locals.charged).i64_const(63).i64_shr_u();
        code.local_get(locals.stable).i64_const(OFFSET_SHIFT).i64_shr_u().i64_or();
        if let Length::Local(len) = self.length {
            code.local_get(len).i64_const(1).i64_sub().i64_const(FAST_SHIFT).i64_shr_u().i64_or();
        }
        // A 64-bit heap has at most 2³³ bytes; what lies between its end and that traps by itself, as it should.
        code.local_get(locals.heap).i64_const(if layout.memory64 { 40 } else { 32 }).i64_shr_u().i64_or();
        code.i64_const(0).i64_ne().br_if(0);
        if layout.tracker == Tracker::None {
            self.branch_if_beyond(code);
        } else {
            self.branch_unless_touched(code);
        }
        code.local_get(locals.charged);
        counter.set(code);
        if self.direction == Direction::Read && layout.marks() {
            push_page(code, locals.heap);
            if layout.memory64 {
                crate::barrier::cut_to_map(code);
            }
            code.i32_const(1).i32_store8(at(layout.tracking_memory, layout.tracking.heap_maps[0], 0));
        }
        self.copy(code);
    }

    fn constant_bytes(&self) -> i64 {
        match self.length {
            Length::Constant(bytes) => bytes.cast_signed(),
            Length::Local(_) => 0,
        }
    }

    /// Pushes the offset of the access's last byte.
    fn push_last(&self, code: &mut InstructionSink<'_>) {
        code.local_get(self.locals.stable);
        match self.length {
            Length::Constant(bytes) => code.i64_const(bytes.cast_signed() - 1).i64_add(),
            Length::Local(len) => code.local_get(len).i64_add().i64_const(1).i64_sub(),
        };
    }

    /// A page that was touched lies inside stable memory, so its byte tells of the bounds as well.
    fn branch_unless_touched(&self, code: &mut InstructionSink<'_>) {
        let map = at(self.layout.tracking_memory, self.layout.tracking.stable_map, 0);
        push_page(code, self.locals.stable);
        code.i32_load8_u(map);
        if !matches!(self.length, Length::Constant(1)) {
            self.push_last(code);
            code.i64_const(12).i64_shr_u().i32_wrap_i64().i32_load8_u(map).i32_and();
        }
        if self.direction == Direction::Write {
            code.i32_const(tracking::STABLE_TOUCHED_WRITTEN.into()).i32_and();
        }
        code.i32_eqz().br_if(0);
    }

    /// Without a map: the bounds themselves.
    fn branch_if_beyond(&self, code: &mut InstructionSink<'_>) {
        self.push_last(code);
        push_stable_bytes(code, self.layout);
        code.i64_ge_u().br_if(0);
    }

    fn copy(&self, code: &mut InstructionSink<'_>) {
        let [from, to] = sides(self.direction, self.locals.stable, self.locals.heap, self.layout);
        match self.length {
            Length::Constant(bytes) => copy_pieces(code, from, to, &pieces(bytes)),
            Length::Local(len) => Ladder { from, to, len }.emit(code),
        }
    }
}

/// Local types and body of the function with the fast path.
pub(crate) fn access_body(
    direction: Direction,
    layout: &Layout,
    prices: &CostTable,
) -> (Vec<ValType>, Vec<u8>) {
    let access = Access::new(direction);
    let first = layout.first_local(3);
    let counter = layout.counter_in(3);
    let fast = Fast {
        direction,
        length: Length::Local(access.len),
        locals: FastLocals { stable: access.stable, heap: access.heap, charged: first },
        counter,
        layout,
    };
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.block(BlockType::Empty);
    fast.emit(&mut code, access.fixed_charge(prices));
    counter.push_result(&mut code);
    code.return_().end();
    code.local_get(0).local_get(1).local_get(2);
    counter.call(&mut code, layout.helpers.slow_access(direction));
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

/// Where an access copies from and to; the locals hold its offset in stable memory and its address in the heap.
fn sides(direction: Direction, stable: u32, heap: u32, layout: &Layout) -> [Side; 2] {
    let heap = Side { memory: 0, base: heap, is_64: layout.memory64 };
    let stable = Side { memory: layout.stable_memory, base: stable, is_64: true };
    match direction {
        Direction::Read => [stable, heap],
        Direction::Write => [heap, stable],
    }
}

/// Whether accesses of a length known at the call site are written there. Not where the counter is in a global: that form
/// tells where a message trapped, and there each access is to be a call, as it was.
pub(crate) fn is_written_at_call_site(layout: &Layout, bytes: u64) -> bool {
    layout.stable == StableAccess::Native
        && layout.counter != Counter::Global
        && layout.has_heap
        && (1..=LADDER_BYTES).contains(&bytes)
}

/// An access of so many bytes in place of a call; the three operands are on the stack.
pub(crate) fn emit_at_call_site(
    code: &mut InstructionSink<'_>,
    direction: Direction,
    bytes: u64,
    locals: FastLocals,
    counter: CounterAccess,
    layout: &Layout,
    prices: &CostTable,
) {
    let access = Access::new(direction);
    let operands = match direction {
        Direction::Read => [locals.heap, locals.stable],
        Direction::Write => [locals.stable, locals.heap],
    };
    code.drop().local_set(operands[1]).local_set(operands[0]);
    code.block(BlockType::Empty).block(BlockType::Empty);
    Fast { direction, length: Length::Constant(bytes), locals, counter, layout }
        .emit(code, access.fixed_charge(prices));
    code.br(1).end();
    code.local_get(operands[0]).local_get(operands[1]).i64_const(bytes.cast_signed());
    counter.call(code, layout.helpers.slow_access(direction));
    code.end();
}

/// Ends the message with `code` if the i32 on the stack is not zero.
fn trap_if(code: &mut InstructionSink<'_>, layout: &Layout, params: u32, trap: TrapCode) {
    code.if_(BlockType::Empty);
    emit_trap(code, layout, params, trap);
    code.end();
}

/// Ends the message. The counter is made visible first: it is exact here.
pub(crate) fn emit_trap(code: &mut InstructionSink<'_>, layout: &Layout, params: u32, trap: TrapCode) {
    layout.counter_in(params).publish(code);
    code.i32_const(trap as i32);
    layout.slow_call(code, SlowCall::Trap);
    code.unreachable();
}

/// Local types and body of the slow path: the IC's order of steps.
pub(crate) fn slow_access_body(
    direction: Direction,
    layout: &Layout,
    prices: &CostTable,
) -> (Vec<ValType>, Vec<u8>) {
    let access = Access::new(direction);
    let end = layout.first_local(3);
    let counter = layout.counter_in(3);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    // 1. Charge; the sum wraps, so lengths close to 2⁶⁴ are cheap and fail later.
    code.local_get(access.len).i64_const(access.fixed_charge(prices)).i64_add().local_set(end);
    counter.charge_checked(&mut code, end);
    // 2. Nothing to copy: no check of any address.
    code.local_get(access.len).i64_eqz().if_(BlockType::Empty);
    counter.push_result(&mut code);
    code.return_().end();
    if !layout.has_heap {
        emit_trap(&mut code, layout, 3, TrapCode::NoMemory);
    }
    // 3, 4. Inside stable memory.
    code.local_get(access.stable).local_get(access.len).i64_add().local_tee(end);
    code.local_get(access.stable).i64_lt_u();
    code.local_get(end);
    push_stable_bytes(&mut code, layout);
    code.i64_gt_u().i32_or();
    trap_if(&mut code, layout, 3, TrapCode::StableOutOfBounds);
    // 5. Inside the largest heap.
    let largest = if layout.memory64 { limits::HEAP64_BYTES_MAX } else { u64::from(u32::MAX) };
    code.local_get(access.heap).i64_const(largest.cast_signed()).i64_gt_u();
    code.local_get(access.len).i64_const(largest.cast_signed()).i64_gt_u().i32_or();
    trap_if(&mut code, layout, 3, TrapCode::HeapOutOfBounds);
    // 6 to 9. Page accounting. A host function may end the message: it must find the counter.
    counter.publish(&mut code);
    if layout.tracker != Tracker::None {
        code.local_get(access.stable).i64_const(12).i64_shr_u();
        code.local_get(end).i64_const(1).i64_sub().i64_const(12).i64_shr_u();
        match direction {
            Direction::Read => layout.slow_call(&mut code, SlowCall::TouchRead),
            Direction::Write => {
                layout.slow_call(&mut code, SlowCall::TouchWrite);
                code.i64_const(prices.stable_dirty_page().cast_signed()).i64_mul().local_set(end);
                counter.charge_checked(&mut code, end);
            }
        }
    }
    // 10. Copy.
    if layout.has_heap {
        if direction == Direction::Read && layout.marks() {
            code.local_get(access.heap).local_get(access.len).call(layout.helpers.mark_range);
        }
        let [from, to] = sides(direction, access.stable, access.heap, layout);
        memory_copy(&mut code, from, to, access.len);
    }
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

/// Body of `stable64_size`.
pub(crate) fn size64_body(layout: &Layout) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.memory_size(layout.stable_memory);
    layout.counter_in(0).push_result(&mut code);
    code.end();
    bytes
}

/// Local types and body of `stable64_grow`.
pub(crate) fn grow64_body(layout: &Layout, prices: &CostTable) -> (Vec<ValType>, Vec<u8>) {
    let counter = layout.counter_in(1);
    let cost = layout.first_local(1);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.i64_const(prices.stable_grow().cast_signed()).local_set(cost);
    counter.charge_checked(&mut code, cost);
    // Beyond the declared maximum of 500 GiB `memory.grow` itself answers -1.
    code.local_get(0).memory_grow(layout.stable_memory);
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

/// Ends the message if stable memory is larger than the 32-bit functions can address.
fn refuse_large(code: &mut InstructionSink<'_>, layout: &Layout, params: u32) {
    code.memory_size(layout.stable_memory).i64_const(WASM_PAGES_32).i64_gt_u();
    trap_if(code, layout, params, TrapCode::StableTooLargeFor32Bit);
}

/// Body of `stable_size`.
pub(crate) fn size32_body(layout: &Layout) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    refuse_large(&mut code, layout, 0);
    code.memory_size(layout.stable_memory).i32_wrap_i64();
    layout.counter_in(0).push_result(&mut code);
    code.end();
    bytes
}

/// Local types and body of `stable_grow`.
pub(crate) fn grow32_body(layout: &Layout, prices: &CostTable) -> (Vec<ValType>, Vec<u8>) {
    let counter = layout.counter_in(1);
    let cost = layout.first_local(1);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.i64_const(prices.stable_grow().cast_signed()).local_set(cost);
    counter.charge_checked(&mut code, cost);
    refuse_large(&mut code, layout, 1);
    code.memory_size(layout.stable_memory).local_get(0).i64_extend_i32_u().i64_add();
    code.i64_const(WASM_PAGES_32).i64_gt_u().if_(BlockType::Result(ValType::I32)).i32_const(-1).else_();
    code.local_get(0).i64_extend_i32_u().memory_grow(layout.stable_memory).i32_wrap_i64().end();
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

/// Local types and body of `stable_read` and `stable_write`. On at most 4 GiB they are the 64-bit functions, except
/// that a write of no bytes still checks its offset.
pub(crate) fn access32_body(
    direction: Direction,
    layout: &Layout,
    prices: &CostTable,
) -> (Vec<ValType>, Vec<u8>) {
    let access = Access::new(direction);
    let counter = layout.counter_in(3);
    let cost = layout.first_local(3);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    let charge = |code: &mut InstructionSink<'_>| {
        code.local_get(access.len).i64_extend_i32_u();
        code.i64_const(access.fixed_charge(prices)).i64_add().local_set(cost);
        counter.charge_checked(code, cost);
    };
    code.memory_size(layout.stable_memory).i64_const(WASM_PAGES_32).i64_gt_u();
    if direction == Direction::Read {
        code.local_get(access.len).i32_const(0).i32_ne().i32_and();
    }
    code.if_(BlockType::Empty);
    charge(&mut code);
    emit_trap(&mut code, layout, 3, TrapCode::StableTooLargeFor32Bit);
    code.end();
    if direction == Direction::Write {
        code.local_get(access.len).i32_eqz();
        code.local_get(access.stable).i64_extend_i32_u();
        push_stable_bytes(&mut code, layout);
        code.i64_gt_u().i32_and().if_(BlockType::Empty);
        charge(&mut code);
        emit_trap(&mut code, layout, 3, TrapCode::StableOutOfBounds);
        code.end();
    }
    for parameter in 0..3 {
        code.local_get(parameter).i64_extend_i32_u();
    }
    counter.call(&mut code, layout.helpers.access(direction));
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}
