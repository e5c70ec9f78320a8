//! A call without an answer, in the words of the interface.

use candid::CandidType;
use ic_cdk::call::{CallFailed, CandidDecodeFailed, Error};

/// `code` is the reject code, or 0 where none came.
#[derive(CandidType)]
pub struct Failure {
    code: u32,
    text: String,
}

impl Failure {
    /// For those that cannot answer with it.
    pub fn trap(self) -> ! {
        ic_cdk::trap(format!("reject code {}: {}", self.code, self.text))
    }
}

impl From<CallFailed> for Failure {
    fn from(failed: CallFailed) -> Self {
        match failed {
            CallFailed::CallRejected(rejected) => {
                Self { code: rejected.raw_reject_code(), text: rejected.reject_message().to_string() }
            }
            not_made => Self { code: 0, text: not_made.to_string() },
        }
    }
}

impl From<CandidDecodeFailed> for Failure {
    fn from(failed: CandidDecodeFailed) -> Self {
        Self { code: 0, text: failed.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::CallRejected(rejected) => CallFailed::from(rejected).into(),
            other => Self { code: 0, text: other.to_string() },
        }
    }
}
