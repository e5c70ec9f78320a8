//! Seeded mistakes: each defence of the store can be switched off by name, so that the tests can prove that
//! they would notice.
//!
//! - Without the feature `mutants`, and outside tests, every branch is the constant `false`.
//! - A mistake is active on the thread that asked for it only, and at most one at a time.

/// Whether the mistake of that name is active.
#[cfg(any(test, feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_active(stringify!($name))
    };
}

/// Whether the mistake of that name is active: never, in what is shipped.
#[cfg(not(any(test, feature = "mutants")))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

pub(crate) use mutant;

#[cfg(any(test, feature = "mutants"))]
mod active {
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Makes one mistake active on this thread, or none.
    pub fn activate(name: Option<&'static str>) {
        ACTIVE.set(name);
    }

    /// Whether the mistake of that name is active.
    pub fn is_active(name: &str) -> bool {
        ACTIVE.get() == Some(name)
    }
}

#[cfg(any(test, feature = "mutants"))]
pub use active::activate;
#[cfg(any(test, feature = "mutants"))]
pub use active::is_active;
