//! How a call fails: the IC's reject code, error code and text.

use std::fmt;

use bedstone_engine::{Error, Fault, Principal};

/// Longest text of a reject; what is longer is cut, as on the IC.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The error code of a canister that cannot pay.
const OUT_OF_CYCLES: u16 = 207;

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The IC's reject code: 1 to 6.
    pub code: u8,
    /// The IC's error code, e.g. 502; shown as `IC0502`.
    pub error_code: u16,
    /// What happened.
    pub message: String,
}

impl Reject {
    /// With the reject code that goes with the error code's hundreds.
    pub fn new(error_code: u16, message: impl Into<String>) -> Self {
        let code = match error_code / 100 {
            hundreds @ 1..=6 => u8::try_from(hundreds).expect("a digit"),
            _ => 5,
        };
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, error_code, message }
    }

    /// A canister's fault, in the words a user gets.
    pub fn of_fault(fault: &Fault, canister: Principal) -> Self {
        // What kept a message from starting is told as it is.
        let message =
            if fault.code == OUT_OF_CYCLES { fault.detail.clone() } else { fault.message(canister) };
        Self::new(fault.code, message)
    }

    /// The error code as the IC writes it.
    pub fn error_code_text(&self) -> String {
        format!("IC{:04}", self.error_code)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (reject code {}, {})", self.message, self.code, self.error_code_text())
    }
}

impl std::error::Error for Reject {}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was refused.
    Reject(Reject),
    /// This machine failed.
    Error(Error),
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = format!("{}{}", "a".repeat(MESSAGE_BYTES_MAX - 1), "é".repeat(10));
        let reject = Reject::new(503, text);
        assert_eq!((reject.code, reject.message.len()), (5, MESSAGE_BYTES_MAX - 1));
        assert_eq!(Reject::new(406, "short").message, "short");
    }
}
