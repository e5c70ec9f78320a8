//! Byte maps in the tracking memory: the range mark for everything that writes many bytes of the heap at once.
//!
//! Invariants:
//! - What is said of the heap holds for each of the canister's memories.
//! - Every writer of the heap marks before it writes: scalar and SIMD stores through `barrier`, bulk instructions and
//!   system functions that copy into the heap through the functions made here.
//! - A range that does not lie in the heap is not marked: whatever was about to write it traps.

use wasm_encoder::{BlockType, InstructionSink, ValType};

use crate::abi::{PAGE_BYTES, WASM_PAGE_BYTES, tracking};
use crate::encode::{Layout, at};

/// Pushes the size in bytes of one of the canister's memories as an i64.
pub(crate) fn push_memory_bytes(code: &mut InstructionSink<'_>, layout: &Layout, memory: u32) {
    code.memory_size(memory);
    if layout.address_type(memory) == ValType::I32 {
        code.i64_extend_i32_u();
    }
    code.i64_const(WASM_PAGE_BYTES.trailing_zeros().into()).i64_shl();
}

/// Which of the canister's memories a range lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Memory 0.
    Heap,
    /// Any memory: its size in bytes and the start of its map are parameters, after those that say the range.
    Elsewhere,
}

/// Pushes what [`Place::Elsewhere`] needs to know of a memory.
pub(crate) fn push_place(code: &mut InstructionSink<'_>, layout: &Layout, memory: u32) {
    push_memory_bytes(code, layout, memory);
    let map = layout.tracking.heap_maps[memory as usize];
    code.i32_const(i32::try_from(map).expect("the maps of 98 memories end below 2 GiB"));
}

/// Body of `mark_range(start i64, bytes i64)`, which marks the pages of `start .. start + bytes` in memory 0, or of
/// `mark_range_elsewhere(start i64, bytes i64, size i64, map i32)`.
pub(crate) fn mark_range_body(code: &mut InstructionSink<'_>, layout: &Layout, place: Place) {
    const START: u32 = 0;
    const BYTES: u32 = 1;
    const SIZE: u32 = 2;
    const MAP: u32 = 3;
    let end = if place == Place::Heap { 2 } else { 4 };
    if !layout.has_heap {
        code.end();
        return;
    }
    code.local_get(BYTES).i64_eqz().if_(BlockType::Empty).return_().end();
    code.local_get(START).local_get(BYTES).i64_add().local_tee(end);
    code.local_get(START).i64_lt_u().if_(BlockType::Empty).return_().end();
    code.local_get(end);
    match place {
        Place::Heap => push_memory_bytes(code, layout, 0),
        Place::Elsewhere => drop(code.local_get(SIZE)),
    }
    code.i64_gt_u().if_(BlockType::Empty).return_().end();
    // Up to a page, the byte of the first page stands for both pages that the range can touch.
    code.local_get(BYTES).i64_const(PAGE_BYTES.cast_signed()).i64_le_u().if_(BlockType::Empty);
    push_page(code, START);
    if place == Place::Elsewhere {
        code.local_get(MAP).i32_add();
    }
    code.i32_const(1).i32_store8(at(layout.tracking_memory, 0, 0));
    code.else_();
    push_page(code, START);
    match place {
        Place::Heap => code.i32_const(0).i32_add(), // the map of memory 0 is the first
        Place::Elsewhere => code.local_get(MAP).i32_add(),
    };
    code.i32_const(1);
    code.local_get(end).i64_const(1).i64_sub().i64_const(12).i64_shr_u();
    code.local_get(START).i64_const(12).i64_shr_u().i64_sub().i64_const(1).i64_add().i32_wrap_i64();
    code.memory_fill(layout.tracking_memory);
    code.end().end();
}

/// Pushes the page index of the byte address in an i64 local, as an i32.
pub(crate) fn push_page(code: &mut InstructionSink<'_>, address: u32) {
    code.local_get(address).i64_const(12).i64_shr_u().i32_wrap_i64();
}

/// Body of `bulk(start i64, bytes i64)`, what precedes `memory.fill`, `.copy` and `.init`: one instruction per byte, then
/// the marks; or of `bulk_elsewhere`, with the parameters of `mark_range_elsewhere`.
pub(crate) fn bulk_body(code: &mut InstructionSink<'_>, layout: &Layout, place: Place) {
    let (params, mark) = match place {
        Place::Heap => (2, layout.helpers.mark_range),
        Place::Elsewhere => (4, layout.helpers.mark_range_elsewhere),
    };
    let counter = layout.counter_in(params);
    counter.charge_checked(code, 1);
    if layout.marks() {
        for parameter in 0..params {
            code.local_get(parameter);
        }
        code.call(mark);
    }
    counter.push_result(code);
    code.end();
}

/// Bodies of `save_globals` and `restore_globals`, `() -> i32`.
pub(crate) fn globals_bodies(layout: &Layout, kinds: &[(u32, crate::abi::GlobalKind)]) -> (Vec<u8>, Vec<u8>) {
    use crate::abi::GlobalKind as Kind;
    let (mut save, mut restore) = (vec![0], vec![0]); // no locals
    {
        let (mut save, mut restore) = (InstructionSink::new(&mut save), InstructionSink::new(&mut restore));
        for (slot, &(global, kind)) in (0_u64..).zip(kinds) {
            let offset = layout.tracking.globals + slot * tracking::GLOBAL_BYTES;
            let place = |align| at(layout.tracking_memory, offset, align);
            save.i32_const(0).global_get(global);
            restore.i32_const(0);
            match kind {
                Kind::I32 => (save.i32_store(place(2)), restore.i32_load(place(2))),
                Kind::I64 => (save.i64_store(place(3)), restore.i64_load(place(3))),
                Kind::F32 => (save.f32_store(place(2)), restore.f32_load(place(2))),
                Kind::F64 => (save.f64_store(place(3)), restore.f64_load(place(3))),
                Kind::V128 => (save.v128_store(place(4)), restore.v128_load(place(4))),
            };
            restore.global_set(global);
        }
        save.global_get(layout.dropped_global).end();
        restore.global_get(layout.dropped_global).end();
    }
    (save, restore)
}
