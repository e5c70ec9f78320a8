//! One walk over a function body: Wasm's validation, and an observer that sees each operator once it is known to be
//! valid.
//!
//! No list of operators is built and no operator is matched at run time: each of the decoder's calls is a method of its
//! own, in which the operator's kind is a constant, so that what an observer does for it is all that remains of its
//! `match`. A second walk that reads operators as values would cost as much as the validation.
//!
//! Invariants:
//! - An observer sees only operators that Wasm's validator accepted, in order; their indices are in range.

use wasmparser::{FrameKind, FrameStack, Operator, Result, VisitOperator, VisitSimdOperator};

use crate::validate::Body;

/// Looks at operators.
pub(crate) trait Observer {
    /// Sees a valid operator. Inlined into a method per kind of operator, where the kind is a constant.
    fn operator(&mut self, operator: &Operator<'_>);

    /// The operator seen last took the bytes `from..to` of the module.
    fn took(&mut self, from: usize, to: usize);
}

/// Walks over a body, its locals excluded from what is observed.
///
/// # Errors
/// If the body is not valid Wasm.
pub(crate) fn walk(body: Body<'_, '_>, observer: &mut impl Observer) -> Result<()> {
    let mut validator = body.function.into_validator(std::mem::take(body.allocations));
    let mut reader = body.code.get_binary_reader();
    validator.read_locals(&mut reader)?;
    reader.set_features(*validator.features());
    while !reader.eof() {
        let from = reader.original_position();
        let inner = validator.visitor(from);
        reader.visit_operator(&mut Watch { inner, observer })??;
        observer.took(from, reader.original_position());
    }
    reader.finish_expression(&validator.visitor(reader.original_position()))?;
    *body.allocations = validator.into_allocations();
    Ok(())
}

/// Passes one operator on to Wasm's validator, then to the observer.
struct Watch<'w, V, O> {
    inner: V,
    observer: &'w mut O,
}

impl<V: FrameStack, O> FrameStack for Watch<'_, V, O> {
    #[inline]
    fn current_frame(&self) -> Option<FrameKind> {
        self.inner.current_frame()
    }
}

macro_rules! watch {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $(
            #[inline]
            #[allow(clippy::clone_on_copy, reason = "most immediates are numbers, branch tables are not")]
            fn $visit(&mut self $($(, $arg: $argty)*)?) -> Self::Output {
                let operator = Operator::$op $({ $($arg: $arg.clone()),* })?;
                self.inner.$visit($($($arg),*)?)?;
                self.observer.operator(&operator);
                Ok(())
            }
        )*
    };
}

macro_rules! watch_simd {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $(
            fn $visit(&mut self $($(, $arg: $argty)*)?) -> Self::Output {
                let inner = self.inner.simd_visitor().expect("the validator knows vector operators");
                inner.$visit($($($arg),*)?)?;
                self.observer.operator(&Operator::$op $({ $($arg),* })?);
                Ok(())
            }
        )*
    };
}

impl<'a, V: VisitOperator<'a, Output = Result<()>>, O: Observer> VisitOperator<'a> for Watch<'_, V, O> {
    type Output = Result<()>;

    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = Self::Output>> {
        Some(self)
    }

    wasmparser::for_each_visit_operator!(watch);
}

impl<'a, V: VisitOperator<'a, Output = Result<()>>, O: Observer> VisitSimdOperator<'a> for Watch<'_, V, O> {
    wasmparser::for_each_visit_simd_operator!(watch_simd);
}
