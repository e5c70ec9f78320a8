//! One function body: Wasm's validation and the IC's rules in the same walk.
//!
//! No list of operators is built: each of the decoder's calls adds a constant and goes on to Wasm's validator. That adds
//! a fifth to the validation, where a second walk would double it.

use wasmparser::{
    FrameKind, FrameStack, FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator,
    ValidatorResources, VisitOperator, VisitSimdOperator,
};

use crate::cost;
use crate::error::Error;
use crate::limits;

/// What the IC's rules need to know of a body.
#[derive(Default)]
struct Seen {
    complexity: u64,
    /// The first unsupported instruction and its offset.
    unsupported: Option<(&'static str, usize)>,
}

/// Checks a function. `index` counts defined functions.
///
/// The outer error says that the body is not valid Wasm; the inner one, that it breaks a rule of the IC's.
pub(super) fn validate_body(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    index: usize,
    allocations: &mut FuncValidatorAllocations,
) -> Result<Option<Error>, Error> {
    let mut validator = function.into_validator(std::mem::take(allocations));
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    reader.set_features(*validator.features());
    let mut seen = Seen::default();
    while !reader.eof() {
        let offset = reader.original_position();
        let inner = validator.visitor(offset);
        reader.visit_operator(&mut Watch { inner, seen: &mut seen, offset })??;
    }
    reader.finish_expression(&validator.visitor(reader.original_position()))?;
    *allocations = validator.into_allocations();
    Ok(seen.fault(index, body.range().start))
}

impl Seen {
    fn fault(&self, index: usize, start: usize) -> Option<Error> {
        let limit = limits::FUNCTION_COMPLEXITY_MAX;
        let complexity = self.complexity;
        let (text, offset) = if let Some((instruction, offset)) = self.unsupported {
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

/// Tables are immutable on the IC.
#[inline]
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

/// Passes one operator on to Wasm's validator, after a look at it.
struct Watch<'w, V> {
    inner: V,
    seen: &'w mut Seen,
    offset: usize,
}

impl<V> Watch<'_, V> {
    /// The operator's kind is a constant wherever this is called, so that an addition is all that remains of it.
    #[inline(always)]
    fn look(&mut self, operator: &Operator<'_>) {
        self.seen.complexity += cost::complexity(operator);
        if let Some(instruction) = unsupported(operator) {
            self.seen.unsupported.get_or_insert((instruction, self.offset));
        }
    }
}

impl<V: FrameStack> FrameStack for Watch<'_, V> {
    #[inline]
    fn current_frame(&self) -> Option<FrameKind> {
        self.inner.current_frame()
    }
}

macro_rules! watch {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $(
            #[inline]
            fn $visit(&mut self $($(, $arg: $argty)*)?) -> Self::Output {
                let operator = Operator::$op $({ $($arg),* })?;
                self.look(&operator);
                match operator {
                    Operator::$op $({ $($arg),* })? => self.inner.$visit($($($arg),*)?),
                    _ => unreachable!("made one line above"),
                }
            }
        )*
    };
}

impl<'a, V: VisitOperator<'a>> VisitOperator<'a> for Watch<'_, V> {
    type Output = V::Output;

    /// Called once for each vector operator, all of which have complexity 1.
    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = Self::Output>> {
        self.seen.complexity += 1;
        self.inner.simd_visitor()
    }

    wasmparser::for_each_visit_operator!(watch);
}
