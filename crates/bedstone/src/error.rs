//! What a test or tool is told when something does not work.

use std::fmt;

use bedstone_subnet::{Reject, RequestError, engine};

/// See the variants. Display is one sentence.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The canister, or the IC's rules, refused the call.
    Rejected(Reject),
    /// Bytes that are not a module that the IC accepts.
    Module(String),
    /// Candid text or bytes that do not fit.
    Candid(String),
    /// The state directory: in use, foreign, damaged, full.
    State(String),
    /// This machine cannot do it.
    Machine(String),
    /// A name or id that is not there.
    NotFound(String),
    /// A snapshot's directory: not whole, damaged, in the way, or not to be written.
    Snapshot(String),
}

impl Error {
    /// The reject, if that is what it is.
    pub fn reject(&self) -> Option<&Reject> {
        match self {
            Self::Rejected(reject) => Some(reject),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(reject) => reject.fmt(f),
            Self::Module(text)
            | Self::Candid(text)
            | Self::State(text)
            | Self::Machine(text)
            | Self::NotFound(text)
            | Self::Snapshot(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<Reject> for Error {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Rejected(reject) => Self::Rejected(reject),
            RequestError::Failed(error) => error.into(),
        }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        match error.kind() {
            engine::ErrorKind::Store | engine::ErrorKind::Damaged => Self::State(error.to_string()),
            engine::ErrorKind::InvalidModule => Self::Module(error.to_string()),
            engine::ErrorKind::Machine => Self::Machine(error.to_string()),
        }
    }
}

impl From<engine::store::Error> for Error {
    fn from(error: engine::store::Error) -> Self {
        match error.kind() {
            engine::store::ErrorKind::NotFound => Self::NotFound(error.to_string()),
            _ => Self::State(error.to_string()),
        }
    }
}
