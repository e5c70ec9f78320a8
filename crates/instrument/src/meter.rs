//! Instruction counting: what each block costs, and the code that charges for it.
//!
//! A *block* is a straight line of code; it is charged at its start, as a whole. A new block starts at function entry
//! and after every `loop`, `if`, `else`, `end`, `br`, `br_if`, `br_table`, `return`, `unreachable` and `return_call*`.
//! Function entry and loop headers test the counter, other blocks only subtract.
//!
//! The counter lives in a global, or travels through every function as an extra last parameter and last result
//! ([`Counter`]). Before and after, for a function of one block that costs 5:
//!
//! ```wat
//! ;; Global                                   ;; Threaded
//! (func                                       (func (param $counter i64) (result i64)
//!   global.get $c  i64.const 5  i64.sub         local.get $counter  i64.const 5  i64.sub
//!   global.set $c                               local.set $counter
//!   global.get $c  i64.const 0  i64.lt_s        local.get $counter  i64.const 0  i64.lt_s
//!   if call $out_of_instructions end            if … call $out_of_instructions end
//!   …)                                          block … end  local.get $counter)
//! ```
//!
//! Invariants:
//! - Counts do not depend on where the counter is kept.
//! - Whenever a host function runs, the global holds the counter.

use wasm_encoder::{BlockType, InstructionSink};
use wasmparser::Operator;

use crate::abi::Counter;

/// Whether a block starts where execution can come back to: such a block tests the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockStart {
    /// Function entry or loop header.
    Reentrant,
    /// Anything else.
    Straight,
}

/// Whether an operator ends a block, and how the next one starts.
#[inline(always)]
pub(crate) fn cut(operator: &Operator<'_>) -> Option<BlockStart> {
    match operator {
        Operator::Loop { .. } => Some(BlockStart::Reentrant),
        Operator::If { .. }
        | Operator::Else
        | Operator::End
        | Operator::Br { .. }
        | Operator::BrIf { .. }
        | Operator::BrTable { .. }
        | Operator::Return
        | Operator::Unreachable
        | Operator::ReturnCall { .. }
        | Operator::ReturnCallIndirect { .. } => Some(BlockStart::Straight),
        _ => None,
    }
}

/// How code in one function reaches the counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CounterAccess {
    /// The form in use.
    pub form: Counter,
    /// The injected global.
    pub global: u32,
    /// Threaded: the local (a parameter) that holds the counter in this function.
    pub local: u32,
    /// The injected function that ends the message for want of instructions.
    pub out_of_instructions: u32,
}

impl CounterAccess {
    /// Pushes the counter.
    pub fn get(&self, code: &mut InstructionSink<'_>) {
        match self.form {
            Counter::Global => code.global_get(self.global),
            Counter::None => code.i64_const(i64::MAX),
            Counter::Threaded => code.local_get(self.local),
        };
    }

    /// Pops the counter.
    pub fn set(&self, code: &mut InstructionSink<'_>) {
        match self.form {
            Counter::Global => code.global_set(self.global),
            Counter::None => code.drop(),
            Counter::Threaded => code.local_set(self.local),
        };
    }

    /// Before leaving to the host: makes the global hold the counter.
    pub fn publish(&self, code: &mut InstructionSink<'_>) {
        if self.form == Counter::Threaded {
            code.local_get(self.local).global_set(self.global);
        }
    }

    /// After the host returned: takes the counter back.
    pub fn take_back(&self, code: &mut InstructionSink<'_>) {
        if self.form == Counter::Threaded {
            code.global_get(self.global).local_set(self.local);
        }
    }

    /// Calls a function that keeps the counter the way this one does; its arguments are on the stack.
    pub fn call(&self, code: &mut InstructionSink<'_>, function: u32) {
        match self.form {
            Counter::Global | Counter::None => {
                code.call(function);
            }
            Counter::Threaded => {
                code.local_get(self.local).call(function).local_set(self.local);
            }
        }
    }

    /// Pushes what a function returns besides its own results.
    pub fn push_result(&self, code: &mut InstructionSink<'_>) {
        if self.form == Counter::Threaded {
            code.local_get(self.local);
        }
    }

    /// How blocks are charged.
    pub fn charges(&self) -> Charges {
        if self.form == Counter::None {
            return Charges::default();
        }
        let write = |write: &dyn Fn(&mut InstructionSink<'_>)| {
            let mut code = Vec::new();
            write(&mut InstructionSink::new(&mut code));
            code
        };
        Charges {
            before: write(&|code| self.get(code)),
            after: write(&|code| {
                code.i64_sub();
                self.set(code);
            }),
            test: write(&|code| {
                self.get(code);
                code.i64_const(0).i64_lt_s();
                self.stop_if(code);
            }),
        }
    }

    /// Charges the i64 in local `cost`, read as unsigned, with a test. A cost of 2⁶³ or more always fails.
    pub fn charge_checked(&self, code: &mut InstructionSink<'_>, cost: u32) {
        if self.form == Counter::None {
            return;
        }
        // new | cost | old is negative exactly if one of them is; from non-negative operands the subtraction
        // cannot overflow, and a counter already below zero has failed anyway.
        self.get(code);
        code.local_get(cost);
        code.i64_or();
        self.get(code);
        code.local_get(cost).i64_sub();
        self.set(code);
        self.get(code);
        code.i64_or().i64_const(0).i64_lt_s();
        self.stop_if(code);
    }

    /// Ends the message for want of instructions if the i32 on the stack is not zero.
    fn stop_if(&self, code: &mut InstructionSink<'_>) {
        code.if_(BlockType::Empty);
        self.publish(code);
        // The call does not return. Said to the compiler, it keeps nothing alive across it.
        code.call(self.out_of_instructions).unreachable().end();
    }
}

/// The code that charges a block, which differs from block to block in one number only; all empty where nothing is
/// charged.
#[derive(Default)]
pub(crate) struct Charges {
    /// Before the cost.
    before: Vec<u8>,
    /// After it.
    after: Vec<u8>,
    /// Ends the message if the counter is below zero.
    test: Vec<u8>,
}

impl Charges {
    /// Charges a block.
    pub fn charge_block(&self, code: &mut Vec<u8>, cost: u64, start: BlockStart) {
        if cost > 0 && !self.before.is_empty() {
            code.extend_from_slice(&self.before);
            InstructionSink::new(code).i64_const(cost.cast_signed());
            code.extend_from_slice(&self.after);
        }
        if start == BlockStart::Reentrant {
            code.extend_from_slice(&self.test);
        }
    }
}
