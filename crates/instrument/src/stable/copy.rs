//! Copies between two memories.
//!
//! Invariants:
//! - All loads come before the first store and the tail is stored before the head: a store that traps has changed
//!   nothing before it.

use wasm_encoder::{BlockType, InstructionSink};

use crate::encode::at;

/// Largest access that is copied by loads and stores: four vectors of 16 bytes. `memory.copy` is a call.
pub(super) const LADDER_BYTES: u64 = 64;

/// One end of a copy.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub memory: u32,
    /// An i64 local with the address.
    pub base: u32,
    pub is_64: bool,
}

impl Side {
    fn push_base(self, code: &mut InstructionSink<'_>) {
        code.local_get(self.base);
        if !self.is_64 {
            code.i32_wrap_i64();
        }
    }
}

/// Copies as many bytes as the i64 local `len` says.
pub(super) fn memory_copy(code: &mut InstructionSink<'_>, from: Side, to: Side, len: u32) {
    to.push_base(code);
    from.push_base(code);
    code.local_get(len);
    // The length has the smaller of the two memories' index types.
    if !(from.is_64 && to.is_64) {
        code.i32_wrap_i64();
    }
    code.memory_copy(to.memory, from.memory);
}

/// Where a piece of a copy lies.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// So many bytes after the copy's start.
    AfterStart(u64),
    /// So many bytes before its end; the length is in the local.
    BeforeEnd(i32, u32),
}

/// A load and a store of so many bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    start: Start,
    width: u64,
}

/// Pieces that cover `bytes`, 1 to [`LADDER_BYTES`], ascending: of one width, the last of which may overlap its
/// predecessor.
pub(super) fn pieces(bytes: u64) -> Vec<Piece> {
    let width = [16, 8, 4, 2, 1].into_iter().find(|width| *width <= bytes).expect("at least one byte");
    let last = bytes - width;
    let starts = (0..last).step_by(width as usize).chain([last]);
    starts.map(|start| Piece { start: Start::AfterStart(start), width }).collect()
}

/// Pushes the address of a piece; returns what is left to add in the instruction.
fn push_address(code: &mut InstructionSink<'_>, side: Side, start: Start) -> u64 {
    side.push_base(code);
    match start {
        Start::AfterStart(bytes) => bytes,
        Start::BeforeEnd(back, len) => {
            code.local_get(len);
            if side.is_64 {
                code.i64_add().i64_const(back.into()).i64_sub();
            } else {
                code.i32_wrap_i64().i32_add().i32_const(back).i32_sub();
            }
            0
        }
    }
}

/// Copies ascending pieces: all are loaded before the first store, and stored from the last to the first.
pub(super) fn copy_pieces(code: &mut InstructionSink<'_>, from: Side, to: Side, pieces: &[Piece]) {
    let mut offsets = Vec::with_capacity(pieces.len());
    for piece in pieces {
        offsets.push(push_address(code, to, piece.start));
        let offset = push_address(code, from, piece.start);
        let place = at(from.memory, offset, 0);
        match piece.width {
            16 => code.v128_load(place),
            8 => code.i64_load(place),
            4 => code.i32_load(place),
            2 => code.i32_load16_u(place),
            _ => code.i32_load8_u(place),
        };
    }
    for (piece, offset) in pieces.iter().zip(offsets).rev() {
        let place = at(to.memory, offset, 0);
        match piece.width {
            16 => code.v128_store(place),
            8 => code.i64_store(place),
            4 => code.i32_store(place),
            2 => code.i32_store16(place),
            _ => code.i32_store8(place),
        };
    }
}

/// Copies 1 to [`LADDER_BYTES`] bytes with one, two or four pieces of one width: head and tail overlap where the length is
/// not a multiple. More with `memory.copy`.
pub(super) struct Ladder {
    pub from: Side,
    pub to: Side,
    /// An i64 local.
    pub len: u32,
}

impl Ladder {
    pub fn emit(&self, code: &mut InstructionSink<'_>) {
        let at_least = |code: &mut InstructionSink<'_>, bytes: i64| {
            code.local_get(self.len).i64_const(bytes).i64_ge_u().if_(BlockType::Empty);
        };
        at_least(code, 8);
        at_least(code, 17);
        at_least(code, 33);
        at_least(code, LADDER_BYTES.cast_signed() + 1);
        memory_copy(code, self.from, self.to, self.len);
        code.else_();
        self.rung(code, 16, &[0, 16], &[32, 16]);
        code.end().else_();
        self.rung(code, 16, &[0], &[16]);
        code.end();
        code.else_();
        self.rung(code, 8, &[0], &[8]);
        code.end();
        code.else_();
        at_least(code, 4);
        self.rung(code, 4, &[0], &[4]);
        code.else_();
        at_least(code, 2);
        self.rung(code, 2, &[0], &[2]);
        code.else_();
        self.rung(code, 1, &[0], &[]);
        code.end().end().end();
    }

    /// Pieces so many bytes after the start and before the end.
    fn rung(&self, code: &mut InstructionSink<'_>, width: u64, head: &[u64], tail: &[i32]) {
        let head = head.iter().map(|bytes| Start::AfterStart(*bytes));
        let tail = tail.iter().map(|bytes| Start::BeforeEnd(*bytes, self.len));
        let pieces: Vec<Piece> = head.chain(tail).map(|start| Piece { start, width }).collect();
        copy_pieces(code, self.from, self.to, &pieces);
    }
}
