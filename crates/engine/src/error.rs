//! What can go wrong that is not a canister's fault.

use std::fmt;

/// An error of the world around the canisters, or of what was asked of it. One word large.
#[derive(Debug)]
pub struct Error(Box<(ErrorKind, String)>);

/// What callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are not a module that the IC accepts.
    InvalidModule,
    /// This machine cannot do it: no memory, no executable pages.
    Machine,
    /// The state read from the store does not fit together.
    Damaged,
    /// The store failed.
    Store,
}

impl Error {
    fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new((kind, text.into())))
    }

    pub(crate) fn module(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidModule, text)
    }

    pub(crate) fn invalid_module(error: bedstone_instrument::Error) -> Self {
        Self::module(error.to_string())
    }

    pub(crate) fn machine(error: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Machine, format!("{error:#}"))
    }

    /// What was read from a store does not fit together.
    pub fn damaged(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, text)
    }

    /// The store failed.
    pub fn store(error: bedstone_store::Error) -> Self {
        Self::new(ErrorKind::Store, error.to_string())
    }

    /// The disk has hardly room for what was accepted already.
    pub fn full() -> Self {
        Self::new(
            ErrorKind::Store,
            "the disk is nearly full, so no update is begun; free some space and try again. Queries go on",
        )
    }

    /// What callers tell apart.
    pub fn kind(&self) -> ErrorKind {
        self.0.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.1)
    }
}

impl std::error::Error for Error {}
