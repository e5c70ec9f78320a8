//! The globals that outlive a message, and the order in which the IC's snapshots list them.
//!
//! ```wat
//! (global (export "a") i32 (i32.const 5))          ;; listed first: exported, in the order of the exports, constants too
//! (global $b (mut i64) (i64.const 6))              ;; listed after them: mutable, in the order of their indices
//! (global $c f32 (f32.const 1.5))                  ;; not listed: a constant that nobody sees
//! ```
//!
//! Invariants:
//! - A mutable global has one slot among those that are saved, and stands in the list once if it is not exported, else once
//!   for each export.

use wasmparser::{Operator, ValType};

use crate::abi::{GlobalKind, ListedGlobal};
use crate::info::{ExportKind, Global, ModuleInfo};

/// Mutable globals by index, with their types.
pub(crate) fn mutable(info: &ModuleInfo<'_>) -> Vec<(u32, GlobalKind)> {
    (0_u32..)
        .zip(&info.globals)
        .filter(|(_, global)| global.ty.mutable)
        .filter_map(|(index, global)| Some((index, kind(global.ty.content_type)?)))
        .collect()
}

/// The globals as a snapshot lists them, given the mutable ones.
pub(crate) fn listed(info: &ModuleInfo<'_>, mutable: &[(u32, GlobalKind)]) -> Vec<ListedGlobal> {
    let exports: Vec<u32> = info
        .exports
        .iter()
        .filter(|export| matches!(export.kind, ExportKind::Global))
        .map(|export| export.index)
        .collect();
    let slot = |index: u32| mutable.iter().position(|(other, _)| *other == index);
    let exported = exports.iter().filter_map(|index| {
        let global = &info.globals[*index as usize];
        let kind = kind(global.ty.content_type)?;
        Some(match slot(*index) {
            Some(slot) => ListedGlobal::Saved { kind, slot },
            None => ListedGlobal::Constant { kind, bits: constant(global)? },
        })
    });
    let hidden = mutable.iter().enumerate().filter(|(_, (index, _))| !exports.contains(index));
    exported.chain(hidden.map(|(slot, (_, kind))| ListedGlobal::Saved { kind: *kind, slot })).collect()
}

fn kind(ty: ValType) -> Option<GlobalKind> {
    Some(match ty {
        ValType::I32 => GlobalKind::I32,
        ValType::I64 => GlobalKind::I64,
        ValType::F32 => GlobalKind::F32,
        ValType::F64 => GlobalKind::F64,
        ValType::V128 => GlobalKind::V128,
        ValType::Ref(_) => return None,
    })
}

/// The bits of a constant global: an initialiser is one constant, since no module may import a global to name in it.
fn constant(global: &Global<'_>) -> Option<u128> {
    Some(match global.init.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => value.cast_unsigned().into(),
        Operator::I64Const { value } => value.cast_unsigned().into(),
        Operator::F32Const { value } => value.bits().into(),
        Operator::F64Const { value } => value.bits().into(),
        Operator::V128Const { value } => u128::from_le_bytes(*value.bytes()),
        _ => return None,
    })
}
