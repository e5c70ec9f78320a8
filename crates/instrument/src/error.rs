//! Why a module was refused.
//!
//! Invariants:
//! - An [`Error`] is one word; making one is the slow path.
//! - [`Error::message`] is the IC's own text where the IC has one; the byte offset stands beside it, not in it.

use std::fmt;

/// Why a module was refused.
///
/// `Display` gives the message and, where known, the byte offset in the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    message: String,
    offset: Option<usize>,
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not a core Wasm module, not even a broken one.
    NotWasm,
    /// The module, or its code section, exceeds a size limit.
    TooLarge,
    /// The bytes start like a module but are malformed, or do not validate with the features that the IC has on.
    Invalid,
    /// Valid Wasm that breaks a rule or limit of the IC's.
    Refused,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), offset: None }))
    }

    /// A rule of the IC's was broken.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Where in the module.
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// For re-encoding pieces of a module that has been validated.
    pub(crate) fn from_reencode(error: wasm_encoder::reencode::Error) -> Self {
        match error {
            wasm_encoder::reencode::Error::ParseError(error) => error.into(),
            other => Self::new(ErrorKind::Invalid, format!("Wasm module cannot be encoded again: {other}.")),
        }
    }

    /// What kind of fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without the offset: the text that the IC puts after `Canister's Wasm module is not valid: `.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Byte offset in the module, where known.
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.offset {
            Some(offset) => write!(f, "{} (at offset {offset:#x})", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        Self::new(ErrorKind::Invalid, format!("Wasm module is not valid: {}", error.message()))
            .at(error.offset())
    }
}
