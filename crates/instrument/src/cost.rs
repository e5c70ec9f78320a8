//! What things cost: versioned price tables, in instructions.
//!
//! A table is data. `meter`, `stable` and `wrappers` write its prices into the module; the engine takes from it what
//! is charged outside of Wasm (dirty heap pages, log lines, compilation).
//!
//! Invariants:
//! - A released table never changes: counts of an installed canister must not.
//! - A price depends on the operator or function and on the width of the main memory, on nothing else.

use wasmparser::Operator;

use crate::system_api::SystemFunction;

/// What a call of a system function costs: `fixed + per_byte * (sum of the size parameters)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCharge {
    /// Charged for every call, before any argument is looked at.
    pub fixed: u64,
    /// Charged for each byte that the size parameters add up to.
    pub per_byte: u64,
    /// Indices of the parameters that hold sizes.
    pub size_params: &'static [u8],
}

/// Prices of first touches of pages, as lists from July 2026 on have them: charged while the message runs, so that it may
/// run out of instructions there. Each is per 4 KiB page, and a touch pays for all pages of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageTouchPrices {
    /// The first access to a heap page in a message, reads included.
    pub heap_access: u64,
    /// The first write to a heap page in a message.
    pub heap_write: u64,
    /// The first access to a stable page in a message.
    pub stable_access: u64,
    /// The first write to a stable page in a message.
    pub stable_write: u64,
    /// Pages that are touched together.
    pub group_pages: u64,
}

/// A price list.
///
/// Prices of operators and of system functions have been the same in every list so far; the lists differ in what
/// they charge for pages. A list that prices operators otherwise brings its own match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostTable {
    version: &'static str,
    heap_dirty_page: u64,
    heap_dirty_page_memory64: u64,
    stable_dirty_page: u64,
    stable_access_fixed: u64,
    stable_grow: u64,
    bulk_per_byte: u64,
    log_stored_per_byte: u64,
    log_scanned_per_byte: u64,
    compile_per_instruction: u64,
    page_touches: Option<PageTouchPrices>,
}

impl CostTable {
    /// The IC's prices of October 2025.
    pub const IC_2025_10: Self = Self {
        version: "ic-2025-10",
        heap_dirty_page: 1000,
        heap_dirty_page_memory64: 4000,
        stable_dirty_page: 1000,
        stable_access_fixed: 20,
        stable_grow: 100,
        bulk_per_byte: 1,
        log_stored_per_byte: 50,
        log_scanned_per_byte: 2,
        compile_per_instruction: 6000,
        page_touches: None,
    };

    /// The IC's prices of October 2025.
    pub const fn ic_2025_10() -> Self {
        Self::IC_2025_10
    }

    /// Name of the list, e.g. `ic-2025-10`; part of what identifies a rewritten module.
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// What first touches of pages cost, in lists that price them. First reads of the heap are seen by a tracker of faults
    /// only, so that a list with these prices cannot be charged under the store barrier.
    pub const fn page_touches(&self) -> Option<PageTouchPrices> {
        self.page_touches
    }

    /// Per 4 KiB heap page whose content differs after the message, charged after it ran.
    pub const fn heap_dirty_page(&self, memory64: bool) -> u64 {
        if memory64 { self.heap_dirty_page_memory64 } else { self.heap_dirty_page }
    }

    /// Per 4 KiB stable page that is written for the first time in a message.
    pub const fn stable_dirty_page(&self) -> u64 {
        self.stable_dirty_page
    }

    /// Fixed part of a stable read or write; each byte of its length costs 1 more.
    pub const fn stable_access_fixed(&self) -> u64 {
        self.stable_access_fixed
    }

    /// A growth of stable memory, successful or not.
    pub const fn stable_grow(&self) -> u64 {
        self.stable_grow
    }

    /// Per byte that `memory.fill`, `memory.copy` or `memory.init` is asked to write, besides its fixed price.
    pub const fn bulk_per_byte(&self) -> u64 {
        self.bulk_per_byte
    }

    /// What `debug_print` and `trap` charge for a text of `bytes` besides their price as functions, when the log
    /// records of this execution leave `free` of [`crate::limits::LOG_BYTES_MAX`].
    pub const fn log(&self, bytes: u64, free: u64) -> u64 {
        let limit = crate::limits::LOG_BYTES_MAX;
        let scanned = if bytes < limit { bytes } else { limit };
        let stored = if bytes < free { bytes } else { free };
        self.log_scanned_per_byte * scanned + self.log_stored_per_byte * stored
    }

    /// The compile charge of a module with `globals` defined globals for which production would count
    /// `instructions`: the operators of its functions with what metering adds, and
    /// [`Self::compiled_stable_import`] for each import.
    pub const fn compile(&self, globals: u64, instructions: u64) -> u64 {
        // 72 instructions of helpers and 2 per global in its persistence code, in every module.
        self.compile_per_instruction * (72 + 2 * globals + instructions)
    }

    /// Instructions that production's rewriting of a stable import adds to the compile charge.
    pub fn compiled_stable_import(&self, name: &str) -> u64 {
        match name {
            "stable64_size" => 2,
            "stable64_grow" => 21,
            "stable64_read" => 119,
            "stable64_write" => 107,
            "stable_size" => 10,
            "stable_grow" => 24,
            "stable_read" => 106,
            "stable_write" => 91,
            _ => 0,
        }
    }

    /// The price of a call of a system function, which the caller pays besides that of its `call`.
    ///
    /// Log lines ([`Self::log`]) and stable pages ([`Self::stable_dirty_page`]) come on top.
    pub fn system_call(&self, function: &SystemFunction) -> SystemCharge {
        let sized = |fixed, per_byte, size_params| SystemCharge { fixed, per_byte, size_params };
        match function.name {
            "stable64_size" | "stable_size" | "mint_cycles128" => sized(0, 0, &[]),
            "stable64_grow" | "stable_grow" => sized(self.stable_grow, 0, &[]),
            "stable64_read" | "stable64_write" | "stable_read" | "stable_write" => {
                sized(self.stable_access_fixed, 1, &[2])
            }
            "debug_print" => sized(100, 0, &[]),
            "performance_counter" => sized(200, 0, &[]),
            "call_new" => sized(1500, 1, &[1, 3]),
            "call_perform" => sized(5000, 0, &[]),
            "is_controller" => sized(1000, 1, &[1]),
            "msg_reply_data_append" | "msg_reject" | "call_data_append" => sized(500, 50, &[1]),
            "certified_data_set"
            | "trap"
            | "cost_sign_with_ecdsa"
            | "cost_sign_with_schnorr"
            | "cost_vetkd_derive_key" => sized(500, 1, &[1]),
            "msg_arg_data_copy"
            | "msg_caller_copy"
            | "msg_reject_msg_copy"
            | "msg_method_name_copy"
            | "canister_self_copy"
            | "subnet_self_copy"
            | "root_key_copy"
            | "data_certificate_copy" => sized(500, 1, &[2]),
            "env_var_name_copy" => sized(500, 1, &[3]),
            "env_var_value_copy" => sized(500, 1, &[4]),
            _ => sized(500, 0, &[]),
        }
    }

    /// The fixed price of an operator, in a module whose main memory is 64-bit or not.
    #[inline(always)] // Folds to a number wherever the operator's kind is a constant, as it is in `walk`.
    #[rustfmt::skip] // A line holds many operators, so that the match reads as the table that it is.
    pub fn operator(&self, operator: &Operator<'_>, memory64: bool) -> u64 {
        use Operator::*;
        match operator {
            Block { .. } | Loop { .. } | Else | End => 0,
            I32Load { .. } | I64Load { .. } | F32Load { .. } | F64Load { .. } | I32Load8S { .. }
            | I32Load8U { .. } | I32Load16S { .. } | I32Load16U { .. } | I64Load8S { .. } | I64Load8U { .. }
            | I64Load16S { .. } | I64Load16U { .. } | I64Load32S { .. } | I64Load32U { .. } | I32Store { .. }
            | I64Store { .. } | F32Store { .. } | F64Store { .. } | I32Store8 { .. } | I32Store16 { .. }
            | I64Store8 { .. } | I64Store16 { .. } | I64Store32 { .. } | V128Load { .. } | V128Load8x8S { .. }
            | V128Load8x8U { .. } | V128Load16x4S { .. } | V128Load16x4U { .. } | V128Load32x2S { .. }
            | V128Load32x2U { .. } | V128Load8Splat { .. } | V128Load16Splat { .. } | V128Load32Splat { .. }
            | V128Load64Splat { .. } | V128Load32Zero { .. } | V128Load64Zero { .. } | V128Store { .. }
            | V128Load8Lane { .. } | V128Load16Lane { .. } | V128Load32Lane { .. } | V128Load64Lane { .. }
            | V128Store8Lane { .. } | V128Store16Lane { .. } | V128Store32Lane { .. }
            | V128Store64Lane { .. } => 1 + u64::from(memory64),
            If { .. } | Br { .. } | BrIf { .. } | BrTable { .. } | GlobalGet { .. } | GlobalSet { .. }
            | F32Add | F32Sub | F32Mul | F32Ceil | F32Floor | F32Trunc | F32Nearest | F32Copysign | F64Add
            | F64Sub | F64Mul | F64Ceil | F64Floor | F64Trunc | F64Nearest | I8x16LtU | I8x16GtU | I16x8LtU
            | I16x8GtU | I32x4LtU | I32x4GtU | I8x16ShrU | I16x8Shl | I16x8ShrS | I16x8ShrU | I32x4Shl
            | I32x4ShrS | I32x4ShrU | I64x2Shl | I64x2ShrU | I32x4Mul | I16x8ExtAddPairwiseI8x16U
            | I16x8ExtMulHighI8x16S | I16x8ExtMulHighI8x16U | I32x4ExtMulLowI16x8S | I32x4ExtMulHighI16x8S
            | I32x4ExtMulLowI16x8U | I32x4ExtMulHighI16x8U | F32x4Abs | F32x4Neg | F32x4Ceil | F32x4Floor
            | F32x4Trunc | F32x4Nearest | F32x4Add | F32x4Sub | F32x4Mul | F64x2Abs | F64x2Neg | F64x2Ceil
            | F64x2Floor | F64x2Trunc | F64x2Nearest | F64x2Add | F64x2Sub | F64x2Mul | I32x4TruncSatF32x4S
            | I32x4TruncSatF64x2SZero => 2,
            F32Div | F64Copysign | F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge | F64Eq | F64Ne | F64Lt
            | F64Gt | F64Le | F64Ge | F32ConvertI32S | F32ConvertI64S | F64ConvertI32S | F64ConvertI64S
            | ReturnCall { .. } | I8x16Shuffle { .. } | I8x16Popcnt | I8x16Shl | I8x16ShrS | I64x2ShrS
            | I32x4ExtAddPairwiseI16x8U | I32x4TruncSatF64x2UZero => 3,
            I64x2Mul | F32x4Min | F32x4Max | F64x2Min | I32x4TruncSatF32x4U | F32x4ConvertI32x4U => 4,
            F64Div | F32Sqrt | Call { .. } | TableGet { .. } | TableSet { .. } | RefIsNull | F64x2Max
            | F32x4Sqrt => 5,
            F64Sqrt => 8,
            I32DivS | I32DivU | I32RemS | I32RemU | I64DivS | I64DivU | I64RemS | I64RemU
            | CallIndirect { .. } | F32x4Div => 10,
            F64x2Div => 12,
            F64x2Sqrt => 14,
            F32ConvertI32U | F32ConvertI64U | F64ConvertI32U | F64ConvertI64U => 16,
            F32Min | F32Max | F64Min | F64Max => 18,
            I32TruncF32S | I32TruncF32U | I32TruncF64S | I32TruncF64U | I64TruncF32S | I64TruncF32U
            | I64TruncF64S | I64TruncF64U | I32TruncSatF32S | I32TruncSatF32U | I32TruncSatF64S
            | I32TruncSatF64U | I64TruncSatF32S | I64TruncSatF32U | I64TruncSatF64S | I64TruncSatF64U
            | MemorySize { .. } => 20,
            ReturnCallIndirect { .. } => 60,
            MemoryFill { .. } | MemoryCopy { .. } | MemoryInit { .. } | TableSize { .. } | TableFill { .. }
            | TableCopy { .. } | TableInit { .. } => 100,
            RefFunc { .. } => 130,
            MemoryGrow { .. } | DataDrop { .. } | ElemDrop { .. } | TableGrow { .. } => 300,
            _ => 1,
        }
    }
}

/// What an operator adds to a function's complexity, which the IC limits ([`crate::limits`]).
///
/// The weights belong to the limit, not to a price list.
#[inline(always)]
#[rustfmt::skip] // As for the prices.
pub fn complexity(operator: &Operator<'_>) -> u64 {
    use Operator::*;
    match operator {
        Block { .. } | Loop { .. } | If { .. } | Br { .. } | BrIf { .. } | BrTable { .. } | Call { .. }
        | CallIndirect { .. } | MemoryGrow { .. } => 50,
        TableGet { .. } => 14,
        RefFunc { .. } => 8,
        RefIsNull => 6,
        I32TruncF32S | I32TruncF32U | I32TruncF64S | I32TruncF64U | I64TruncF32S | I64TruncF32U | I64TruncF64S
        | I64TruncF64U | I64ExtendI32S | I64ExtendI32U | F32ConvertI32S | F32ConvertI32U | F32ConvertI64S
        | F32ConvertI64U | F32DemoteF64 | F64ConvertI32S | F64ConvertI32U | F64ConvertI64S
        | F64ConvertI64U => 5,
        F32Neg | F32Abs | F64Neg | F64Abs | MemoryCopy { .. } => 4,
        F32Copysign | F64Copysign | F64Eq | I32RemU | I32RemS | I64RemU | I64RemS | I32DivU | I32DivS
        | I64DivU | I64DivS | MemoryFill { .. } | I32Load { .. } | I64Load { .. } | F32Load { .. }
        | F64Load { .. } | I32Load8S { .. } | I32Load8U { .. } | I32Load16S { .. } | I32Load16U { .. }
        | I64Load8S { .. } | I64Load8U { .. } | I64Load16S { .. } | I64Load16U { .. } | I64Load32S { .. }
        | I64Load32U { .. } | I32TruncSatF32S | I32TruncSatF32U | I32TruncSatF64S | I32TruncSatF64U
        | I64TruncSatF32S | I64TruncSatF32U | I64TruncSatF64S | I64TruncSatF64U => 3,
        GlobalGet { .. } | I32Popcnt | I64Popcnt | Select | MemorySize { .. } | I32Store { .. }
        | I32Store8 { .. } | I32Store16 { .. } | I64Store { .. } | I64Store8 { .. } | I64Store16 { .. }
        | I64Store32 { .. } | F32Store { .. } | F64Store { .. } | I32Eqz | I32Eq | I32Ne | I32LtS | I32LtU
        | I32GtS | I32GtU | I32LeS | I32LeU | I32GeS | I32GeU | I64Eqz | I64Eq | I64Ne | I64LtS | I64LtU
        | I64GtS | I64GtU | I64LeS | I64LeU | I64GeS | I64GeU | F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge
        | F64Ne | F64Lt | F64Gt | F64Le | F64Ge | F32Ceil | F64Ceil | F32Floor | F64Floor | F32Sqrt | F64Sqrt
        | F32Trunc | F64Trunc | I32ReinterpretF32 | I64ReinterpretF64 | F32ReinterpretI32 | F64ReinterpretI64
        | I32WrapI64 | I32Extend8S | I32Extend16S | I64Extend8S | I64Extend16S | I64Extend32S
        | F64PromoteF32 => 2,
        _ => 1,
    }
}
