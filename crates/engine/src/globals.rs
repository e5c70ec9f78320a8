//! Globals as snapshots list them, and as the engine saves them.
//!
//! A snapshot lists values with their types, in an order that the manifest knows; the engine saves the mutable ones, 16 bytes
//! each, in the order of their indices. The IC keeps its instruction counter as one more global at the end of the list, and
//! shows it in some versions: a list is accepted with and without it.
//!
//! Invariants:
//! - Values are bits: what is not a number stays the same one.

use serde::{Deserialize, Serialize};

use bedstone_instrument::abi::tracking::GLOBAL_BYTES;
use bedstone_instrument::abi::{GlobalKind, ListedGlobal};

use crate::compile::Module;

/// The value of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GlobalValue {
    /// An `i32`.
    I32(i32),
    /// An `i64`.
    I64(i64),
    /// An `f32`, by its bits.
    F32(u32),
    /// An `f64`, by its bits.
    F64(u64),
    /// A `v128`, by its bits.
    V128(u128),
}

const SLOT: usize = GLOBAL_BYTES as usize;

impl GlobalValue {
    fn new(kind: GlobalKind, bits: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the bits above a type's own are not its")]
        match kind {
            GlobalKind::I32 => Self::I32((bits as u32).cast_signed()),
            GlobalKind::I64 => Self::I64((bits as u64).cast_signed()),
            GlobalKind::F32 => Self::F32(bits as u32),
            GlobalKind::F64 => Self::F64(bits as u64),
            GlobalKind::V128 => Self::V128(bits),
        }
    }

    fn kind(self) -> GlobalKind {
        match self {
            Self::I32(_) => GlobalKind::I32,
            Self::I64(_) => GlobalKind::I64,
            Self::F32(_) => GlobalKind::F32,
            Self::F64(_) => GlobalKind::F64,
            Self::V128(_) => GlobalKind::V128,
        }
    }

    fn bits(self) -> u128 {
        match self {
            Self::I32(value) => value.cast_unsigned().into(),
            Self::I64(value) => value.cast_unsigned().into(),
            Self::F32(bits) => bits.into(),
            Self::F64(bits) => bits.into(),
            Self::V128(bits) => bits,
        }
    }
}

fn word(kind: GlobalKind) -> &'static str {
    match kind {
        GlobalKind::I32 => "i32",
        GlobalKind::I64 => "i64",
        GlobalKind::F32 => "f32",
        GlobalKind::F64 => "f64",
        GlobalKind::V128 => "v128",
    }
}

/// The list for saved globals.
pub(crate) fn list(module: &Module, saved: &[u8]) -> Vec<GlobalValue> {
    let value = |global: &ListedGlobal| match *global {
        ListedGlobal::Constant { kind, bits } => GlobalValue::new(kind, bits),
        ListedGlobal::Saved { kind, slot } => {
            let bits = saved[slot * SLOT..].first_chunk().expect("a slot for each mutable global");
            GlobalValue::new(kind, u128::from_le_bytes(*bits))
        }
    };
    module.manifest().listed_globals.iter().map(value).collect()
}

/// Whether a list is one of the module's; if not, why.
pub(crate) fn check(module: &Module, list: &[GlobalValue]) -> Result<(), String> {
    let expected = &module.manifest().listed_globals;
    let given = match list.split_last() {
        Some((GlobalValue::I64(_), list)) if list.len() == expected.len() => list,
        _ => list,
    };
    if given.len() != expected.len() {
        return Err(format!("{} globals are listed, and the module has {}", list.len(), expected.len()));
    }
    let mut pairs = (0..).zip(given.iter().zip(expected));
    match pairs.find(|(_, (given, expected))| given.kind() != expected.kind()) {
        None => Ok(()),
        Some((index, (given, expected))) => Err(format!(
            "global {index} is listed as {}, and the module's is {}",
            word(given.kind()),
            word(expected.kind())
        )),
    }
}

/// The saved globals for a list that was checked.
pub(crate) fn save(module: &Module, list: &[GlobalValue]) -> Vec<u8> {
    let manifest = module.manifest();
    let mut saved = vec![0; manifest.mutable_globals.len() * SLOT];
    for (value, global) in list.iter().zip(&manifest.listed_globals) {
        if let ListedGlobal::Saved { slot, .. } = global {
            saved[slot * SLOT..(slot + 1) * SLOT].copy_from_slice(&value.bits().to_le_bytes());
        }
    }
    saved
}
