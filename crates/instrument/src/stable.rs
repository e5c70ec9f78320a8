//! The stable-memory functions, native: what each `ic0.stable*` call becomes.
//!
//! `stable64_size` is `memory.size` on the injected memory. `stable64_read` and `stable64_write` are injected functions
//! with two paths. The **fast path** serves accesses of 1 to 64 bytes that are in bounds, affordable, and on pages that
//! this message has touched in that way before; three branches decide that, then a ladder of loads and stores copies:
//!
//! ```wat
//! (func $stable64_read (param $dst i64) (param $off i64) (param $len i64)
//!   (block $slow
//!     (br_if $slow … any of: len - 1 ≥ 64, off + len beyond the end, instructions short, dst ≥ 2³² …)
//!     (br_if $slow (i32.eqz (i32.and (load8 map[off >> 12]) (load8 map[(off + len - 1) >> 12]))))
//!     …charge, mark the destination, load head and tail, store tail, store head…
//!     (return))
//!   (call $stable64_read_slow (local.get $dst) (local.get $off) (local.get $len)))
//! ```
//!
//! The **slow path** is the specification, step by step, and ends in `memory.copy`.
//!
//! Invariants:
//! - The fast path refuses everything that could trap before the copy, so order and texts of errors are the slow path's.
//! - All loads come before the first store and the tail is stored before the head: a store that traps has changed
//!   nothing before it.
//! - The stable map is read here and written by the engine alone.

use wasm_encoder::{BlockType, InstructionSink, ValType};

use crate::abi::{SlowCall, TrapCode, WASM_PAGE_BYTES, tracking};
use crate::cost::CostTable;
use crate::encode::{Layout, at};
use crate::limits;
use crate::tracking::push_page;

/// Which way an access copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Stable memory to heap.
    Read,
    /// Heap to stable memory.
    Write,
}

/// Largest access of the fast path. The ladder's last rung loads and stores four vectors of 16 bytes.
const FAST_BYTES: u64 = 64;
const FAST_SHIFT: i64 = FAST_BYTES.trailing_zeros() as i64;
/// Highest 32-bit stable memory, in Wasm pages: 4 GiB.
const WASM_PAGES_32: i64 = 65_536;

/// Parameters of both 64-bit functions: `(dst, off, len)` for reads, `(off, src, len)` for writes.
struct Access {
    direction: Direction,
    heap: u32,
    stable: u32,
    len: u32,
}

impl Access {
    fn new(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self { direction, heap: 0, stable: 1, len: 2 },
            Direction::Write => Self { direction, heap: 1, stable: 0, len: 2 },
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

/// Local types and body of the fast path.
pub(crate) fn access_body(
    direction: Direction,
    layout: &Layout,
    prices: &CostTable,
) -> (Vec<ValType>, Vec<u8>) {
    let access = Access::new(direction);
    let first = layout.first_local(3);
    let (charged, room, heap, tail) = (first, first + 1, first + 2, first + 3);
    let vectors = first + 4;
    let heap_type = if layout.memory64 { ValType::I64 } else { ValType::I32 };
    let mut locals = vec![ValType::I64, ValType::I64, heap_type, heap_type];
    locals.extend([ValType::V128; 4]);
    locals.extend([ValType::I64; 2]);
    locals.extend([ValType::I32; 2]);
    let counter = layout.counter_in(3);
    let map = at(layout.tracking_memory, layout.tracking.stable_map, 0);

    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.block(BlockType::Empty);
    // 1. One word that is zero if the access is small, affordable and in bounds. `room` is the last offset at which
    // the access still fits; with `room` and `off` not negative, `room - off` cannot overflow.
    counter.get(&mut code);
    code.local_get(access.len).i64_sub().i64_const(access.fixed_charge(prices)).i64_sub().local_tee(charged);
    push_stable_bytes(&mut code, layout);
    code.local_get(access.len).i64_sub().local_tee(room);
    code.local_get(access.stable).i64_sub().i64_or();
    code.local_get(room).i64_or().local_get(access.stable).i64_or();
    code.i64_const(63).i64_shr_u();
    code.local_get(access.len).i64_const(1).i64_sub().i64_const(FAST_SHIFT).i64_shr_u().i64_or();
    // A 64-bit heap has at most 2³³ bytes; what lies between its end and that traps by itself, as it should.
    code.local_get(access.heap).i64_const(if layout.memory64 { 40 } else { 32 }).i64_shr_u().i64_or();
    code.i64_const(0).i64_ne().br_if(0);
    // 2. Both pages touched before, in this way.
    push_page(&mut code, access.stable);
    code.i32_load8_u(map);
    code.local_get(access.stable).local_get(access.len).i64_add().i64_const(1).i64_sub();
    code.i64_const(12).i64_shr_u().i32_wrap_i64().i32_load8_u(map).i32_and();
    if direction == Direction::Write {
        code.i32_const(tracking::STABLE_TOUCHED_WRITTEN.into()).i32_and();
    }
    code.i32_eqz().br_if(0);
    // 3. Charge, mark, copy.
    code.local_get(charged);
    counter.set(&mut code);
    code.local_get(access.heap);
    if !layout.memory64 {
        code.i32_wrap_i64();
    }
    code.local_set(heap);
    if direction == Direction::Read {
        crate::barrier::emit_mark(&mut code, layout, 0, heap, 0);
    }
    let ladder = Ladder {
        from: match direction {
            Direction::Read => Side { memory: layout.stable_memory, base: access.stable, is_64: true },
            Direction::Write => Side { memory: 0, base: heap, is_64: layout.memory64 },
        },
        to: match direction {
            Direction::Read => Side { memory: 0, base: heap, is_64: layout.memory64 },
            Direction::Write => Side { memory: layout.stable_memory, base: access.stable, is_64: true },
        },
        len: access.len,
        stable_tail: room,
        heap_tail: tail,
        vectors,
        words: vectors + 4,
        halves: vectors + 6,
    };
    ladder.emit(&mut code);
    counter.push_result(&mut code);
    code.return_().end();
    code.local_get(0).local_get(1).local_get(2);
    counter.call(&mut code, layout.helpers.slow_access(direction));
    counter.push_result(&mut code);
    code.end();
    (locals, bytes)
}

/// One end of a copy.
#[derive(Clone, Copy)]
struct Side {
    memory: u32,
    /// Local with the address.
    base: u32,
    is_64: bool,
}

/// Copies 1 to 64 bytes with two or four accesses of one width: head and tail overlap where the length is not a
/// multiple.
struct Ladder {
    from: Side,
    to: Side,
    len: u32,
    /// i64 local for the stable side's tail address.
    stable_tail: u32,
    /// Local of the heap's address type for its tail address.
    heap_tail: u32,
    /// Four v128 locals, two i64 locals, two i32 locals.
    vectors: u32,
    words: u32,
    halves: u32,
}

impl Ladder {
    fn emit(&self, code: &mut InstructionSink<'_>) {
        let at_least = |code: &mut InstructionSink<'_>, bytes: i64| {
            code.local_get(self.len).i64_const(bytes).i64_ge_u().if_(BlockType::Empty);
        };
        at_least(code, 8);
        at_least(code, 17);
        at_least(code, 33);
        self.four_vectors(code);
        code.else_();
        self.pair(code, 16);
        code.end();
        code.else_();
        self.pair(code, 8);
        code.end();
        code.else_();
        at_least(code, 4);
        self.pair(code, 4);
        code.else_();
        at_least(code, 2);
        self.pair(code, 2);
        code.else_();
        code.local_get(self.to.base).local_get(self.from.base);
        code.i32_load8_u(at(self.from.memory, 0, 0)).i32_store8(at(self.to.memory, 0, 0));
        code.end().end().end();
    }

    fn tail_local(&self, side: Side) -> u32 {
        if side.memory == 0 { self.heap_tail } else { self.stable_tail }
    }

    /// Sets both tail addresses to `base + len - back`.
    fn set_tails(&self, code: &mut InstructionSink<'_>, back: i64) {
        for side in [self.from, self.to] {
            code.local_get(side.base).local_get(self.len);
            if side.is_64 {
                code.i64_add().i64_const(back).i64_sub();
            } else {
                let back = i32::try_from(back).expect("at most 64");
                code.i32_wrap_i64().i32_add().i32_const(back).i32_sub();
            }
            code.local_set(self.tail_local(side));
        }
    }

    fn four_vectors(&self, code: &mut InstructionSink<'_>) {
        self.set_tails(code, 32);
        let (from_tail, to_tail) = (self.tail_local(self.from), self.tail_local(self.to));
        let (from, to) = (self.from, self.to);
        for (index, (base, offset)) in
            (0..).zip([(from.base, 0), (from.base, 16), (from_tail, 0), (from_tail, 16)])
        {
            code.local_get(base).v128_load(at(from.memory, offset, 0)).local_set(self.vectors + index);
        }
        for (index, base, offset) in [(3, to_tail, 16), (2, to_tail, 0), (1, to.base, 16), (0, to.base, 0)] {
            code.local_get(base).local_get(self.vectors + index).v128_store(at(to.memory, offset, 0));
        }
    }

    fn pair(&self, code: &mut InstructionSink<'_>, width: i64) {
        self.set_tails(code, width);
        let (from_tail, to_tail) = (self.tail_local(self.from), self.tail_local(self.to));
        let (load, store) = (at(self.from.memory, 0, 0), at(self.to.memory, 0, 0));
        let locals = match width {
            16 => self.vectors,
            8 => self.words,
            _ => self.halves,
        };
        for (index, base) in [(0, self.from.base), (1, from_tail)] {
            code.local_get(base);
            match width {
                16 => code.v128_load(load),
                8 => code.i64_load(load),
                4 => code.i32_load(load),
                _ => code.i32_load16_u(load),
            };
            code.local_set(locals + index);
        }
        for (index, base) in [(1, to_tail), (0, self.to.base)] {
            code.local_get(base).local_get(locals + index);
            match width {
                16 => code.v128_store(store),
                8 => code.i64_store(store),
                4 => code.i32_store(store),
                _ => code.i32_store16(store),
            };
        }
    }
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
    // 10. Copy.
    if layout.has_heap {
        if direction == Direction::Read {
            code.local_get(access.heap).local_get(access.len).call(layout.helpers.mark_range);
        }
        emit_copy(&mut code, layout, &access);
    }
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

fn emit_copy(code: &mut InstructionSink<'_>, layout: &Layout, access: &Access) {
    let push_heap = |code: &mut InstructionSink<'_>| {
        code.local_get(access.heap);
        if !layout.memory64 {
            code.i32_wrap_i64();
        }
    };
    match access.direction {
        Direction::Read => {
            push_heap(code);
            code.local_get(access.stable);
        }
        Direction::Write => {
            code.local_get(access.stable);
            push_heap(code);
        }
    }
    code.local_get(access.len);
    // The length has the smaller of the two memories' index types.
    if !layout.memory64 {
        code.i32_wrap_i64();
    }
    match access.direction {
        Direction::Read => code.memory_copy(0, layout.stable_memory),
        Direction::Write => code.memory_copy(layout.stable_memory, 0),
    };
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
