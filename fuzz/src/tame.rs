//! Makes the memory instructions of random modules do something.
//!
//! Random addresses nearly always lie beyond the end of every memory, so that a message would trap at its first access and
//! no page would ever change. Here most operands are cut to the first pages of their memory; and pokes are strewn about,
//! stores to addresses that were used before, in the same memory or another one: they are what the store barrier must not
//! take for marked already when they are not.

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, InstructionSink, MemArg, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::Numbers;

/// What is known of the module, and where in it we are.
pub(crate) struct Tamer {
    /// Parameters of each defined function.
    pub params: Vec<u32>,
    /// Whether each memory is a 64-bit one.
    pub widths: Vec<bool>,
    pub numbers: Numbers,
}

/// Added locals: one per type that an operand can have, and the last address for each width.
const ADDED: [ValType; 9] = [
    ValType::I32,
    ValType::I64,
    ValType::F32,
    ValType::F64,
    ValType::V128,
    ValType::I32,
    ValType::I64,
    ValType::I32,
    ValType::I64,
];
/// In [`ADDED`]: a second operand, and the last address, i32 and then i64 of each.
const SECOND: u32 = 5;
const ADDRESS: u32 = 7;

fn slot(ty: ValType) -> u32 {
    ADDED.iter().position(|known| *known == ty).expect("operands are numbers") as u32
}

fn pointer(wide: bool) -> ValType {
    if wide { ValType::I64 } else { ValType::I32 }
}

impl Tamer {
    /// Adds the next function, its body changed.
    pub fn body<R: Reencode>(
        mut self,
        reencoder: &mut R,
        code: &mut CodeSection,
        body: &FunctionBody<'_>,
    ) -> Result<Self, reencode::Error<R::Error>> {
        let params = self.params.remove(0);
        let mut locals = Vec::new();
        let mut first = params;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            first += count;
            locals.push((count, reencoder.val_type(ty)?));
        }
        locals.extend(ADDED.map(|ty| (1, ty)));
        let mut function = Function::new(locals);
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.clone().read()?;
            let instruction = reencoder.parse_instruction(&mut reader)?;
            if self.numbers.below(10) == 0 {
                let wide = self.numbers.below(2) == 0;
                self.poke(&mut function.instructions(), first, wide);
            }
            let wild = self.numbers.below(30) == 0;
            let tamed =
                if wild { None } else { self.operands(&mut function.instructions(), first, &operator) };
            function.instruction(&instruction);
            if let Some(Kind::Store(memory)) = tamed {
                for _ in 0..self.numbers.below(3) {
                    let wide = self.widths[memory as usize];
                    self.poke(&mut function.instructions(), first, wide);
                }
            }
        }
        code.function(&function);
        Ok(self)
    }

    /// A store off the last address of that width, to any memory of that width.
    fn poke(&mut self, code: &mut InstructionSink<'_>, first: u32, wide: bool) {
        let memories: Vec<u32> =
            (0..).zip(&self.widths).filter(|(_, known)| **known == wide).map(|(m, _)| m).collect();
        if memories.is_empty() {
            return;
        }
        let memory_index = memories[self.numbers.below(memories.len() as u64) as usize];
        let offset = [0, 0, 8, 100, 4080, 4096, 5000, 9000][self.numbers.below(8) as usize];
        let at = MemArg { offset, align: 0, memory_index };
        // What is stored depends on what is there, so that no message leaves things as the one before it did.
        let (address, value) = (first + ADDRESS + u32::from(wide), self.numbers.next_u64().cast_signed());
        code.local_get(address).local_get(address).i64_load(at).i64_const(value).i64_add();
        match self.numbers.below(3) {
            0 => code.i64_store(at),
            1 => code.i64_store8(at),
            _ => code.i64x2_splat().v128_store(at),
        };
    }

    /// Cuts the address on the stack.
    fn cut(&mut self, code: &mut InstructionSink<'_>, wide: bool) {
        let mask = [0xff, 0xfff, 0x1fff, 0xffff, 0x1_ffff][self.numbers.below(5) as usize];
        cut(code, wide, mask);
    }

    /// Cuts an instruction's operands, which are on the stack.
    fn operands(
        &mut self,
        code: &mut InstructionSink<'_>,
        first: u32,
        operator: &Operator<'_>,
    ) -> Option<Kind> {
        let kind = Kind::of(operator)?;
        let width = |memory: u32| self.widths[memory as usize];
        match kind {
            Kind::Load(memory) => {
                let wide = width(memory);
                self.cut(code, wide);
            }
            Kind::LoadLane(memory) | Kind::Store(memory) => {
                let value = first + slot(stored(operator).unwrap_or(ValType::V128));
                let wide = width(memory);
                code.local_set(value);
                self.cut(code, wide);
                code.local_tee(first + ADDRESS + u32::from(wide)).local_get(value);
            }
            Kind::Grow(memory) => cut(code, width(memory), 1),
            Kind::Fill(memory) => {
                let wide = width(memory);
                self.range(code, first, wide, (ValType::I32, None), wide);
            }
            Kind::Copy(to, from) => {
                let (to, from) = (width(to), width(from));
                self.range(code, first, to, (pointer(from), Some(0x1_ffff)), to && from);
            }
            Kind::Init(memory) => {
                let wide = width(memory);
                self.range(code, first, wide, (ValType::I32, Some(7)), false);
            }
        }
        Some(kind)
    }

    /// Cuts `[address, middle, bytes]`; the middle operand of that type, if it has a mask.
    fn range(
        &mut self,
        code: &mut InstructionSink<'_>,
        first: u32,
        wide: bool,
        (middle, mask): (ValType, Option<i64>),
        wide_bytes: bool,
    ) {
        let (bytes, second) =
            (first + slot(pointer(wide_bytes)), first + SECOND + u32::from(middle == ValType::I64));
        let most = [7, 0xff, 0x1fff, 0x3fff][self.numbers.below(4) as usize];
        code.local_set(bytes).local_set(second);
        self.cut(code, wide);
        code.local_tee(first + ADDRESS + u32::from(wide)).local_get(second);
        if let Some(mask) = mask {
            cut(code, middle == ValType::I64, mask);
        }
        code.local_get(bytes);
        // Segments have few bytes.
        cut(code, wide_bytes, if mask == Some(7) { 7 } else { most });
    }
}

fn cut(code: &mut InstructionSink<'_>, wide: bool, mask: i64) {
    if wide {
        code.i64_const(mask).i64_and();
    } else {
        code.i32_const(mask as i32).i32_and();
    }
}

/// An instruction that reads or writes memory, and the memory.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Load(u32),
    LoadLane(u32),
    Store(u32),
    Grow(u32),
    Fill(u32),
    Copy(u32, u32),
    Init(u32),
}

impl Kind {
    fn of(operator: &Operator<'_>) -> Option<Self> {
        use Operator as O;
        Some(match operator {
            O::MemoryGrow { mem } => Self::Grow(*mem),
            O::MemoryFill { mem } => Self::Fill(*mem),
            O::MemoryCopy { dst_mem, src_mem } => Self::Copy(*dst_mem, *src_mem),
            O::MemoryInit { mem, .. } => Self::Init(*mem),
            O::V128Load8Lane { memarg, .. }
            | O::V128Load16Lane { memarg, .. }
            | O::V128Load32Lane { memarg, .. }
            | O::V128Load64Lane { memarg, .. } => Self::LoadLane(memarg.memory),
            O::I32Load { memarg }
            | O::I64Load { memarg }
            | O::F32Load { memarg }
            | O::F64Load { memarg }
            | O::I32Load8S { memarg }
            | O::I32Load8U { memarg }
            | O::I32Load16S { memarg }
            | O::I32Load16U { memarg }
            | O::I64Load8S { memarg }
            | O::I64Load8U { memarg }
            | O::I64Load16S { memarg }
            | O::I64Load16U { memarg }
            | O::I64Load32S { memarg }
            | O::I64Load32U { memarg }
            | O::V128Load { memarg }
            | O::V128Load8x8S { memarg }
            | O::V128Load8x8U { memarg }
            | O::V128Load16x4S { memarg }
            | O::V128Load16x4U { memarg }
            | O::V128Load32x2S { memarg }
            | O::V128Load32x2U { memarg }
            | O::V128Load8Splat { memarg }
            | O::V128Load16Splat { memarg }
            | O::V128Load32Splat { memarg }
            | O::V128Load64Splat { memarg }
            | O::V128Load32Zero { memarg }
            | O::V128Load64Zero { memarg } => Self::Load(memarg.memory),
            O::I32Store { memarg }
            | O::I32Store8 { memarg }
            | O::I32Store16 { memarg }
            | O::I64Store { memarg }
            | O::I64Store8 { memarg }
            | O::I64Store16 { memarg }
            | O::I64Store32 { memarg }
            | O::F32Store { memarg }
            | O::F64Store { memarg }
            | O::V128Store { memarg }
            | O::V128Store8Lane { memarg, .. }
            | O::V128Store16Lane { memarg, .. }
            | O::V128Store32Lane { memarg, .. }
            | O::V128Store64Lane { memarg, .. } => Self::Store(memarg.memory),
            _ => return None,
        })
    }
}

/// The type of a store's value; `None` for vectors and what is no store.
fn stored(operator: &Operator<'_>) -> Option<ValType> {
    use Operator as O;
    match operator {
        O::I32Store { .. } | O::I32Store8 { .. } | O::I32Store16 { .. } => Some(ValType::I32),
        O::I64Store { .. } | O::I64Store8 { .. } | O::I64Store16 { .. } | O::I64Store32 { .. } => {
            Some(ValType::I64)
        }
        O::F32Store { .. } => Some(ValType::F32),
        O::F64Store { .. } => Some(ValType::F64),
        _ => None,
    }
}
