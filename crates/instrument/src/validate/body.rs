//! The IC's rules for one function body.

use wasmparser::Operator;

use crate::cost;
use crate::error::Error;
use crate::limits;
use crate::walk::Observer;

/// What the IC's rules need to know of a body.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    complexity: u64,
    unsupported: Option<&'static str>,
    /// The first unsupported instruction and its offset.
    fault: Option<(&'static str, usize)>,
}

impl Seen {
    /// Whether [`Seen::fault`] has something to say whatever follows.
    pub fn is_refused(&self) -> bool {
        self.fault.is_some() || self.complexity > limits::FUNCTION_COMPLEXITY_MAX
    }

    /// The rule that the body breaks. `index` counts defined functions; the body begins at byte `start`.
    pub fn fault(&self, index: usize, start: usize) -> Option<Error> {
        let limit = limits::FUNCTION_COMPLEXITY_MAX;
        let complexity = self.complexity;
        let (text, offset) = if let Some((instruction, offset)) = self.fault {
            (format!("with unsupported instruction {instruction}."), offset)
        } else if complexity > limit {
            let text =
                format!("with complexity {complexity} which exceeds the maximum complexity allowed {limit}");
            (text, start)
        } else {
            return None;
        };
        let message = format!("Wasm module contains a function at index {index} {text}");
        Some(Error::refused(message).at(offset))
    }
}

impl Observer for Seen {
    #[inline(always)]
    fn operator(&mut self, operator: &Operator<'_>) {
        self.complexity += cost::complexity(operator);
        if let Some(instruction) = unsupported(operator) {
            self.unsupported = Some(instruction);
        }
    }

    #[inline]
    fn took(&mut self, from: usize, _: usize) {
        if let Some(instruction) = self.unsupported.take() {
            self.fault.get_or_insert((instruction, from));
        }
    }
}

/// Tables are immutable on the IC.
#[inline(always)]
fn unsupported(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::TableSet { .. } => Some("table.set"),
        Operator::TableGrow { .. } => Some("table.grow"),
        Operator::TableFill { .. } => Some("table.fill"),
        Operator::TableCopy { .. } => Some("table.copy"),
        Operator::TableInit { .. } => Some("table.init"),
        _ => None,
    }
}
