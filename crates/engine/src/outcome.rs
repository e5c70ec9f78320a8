//! What became of a message: a value, whatever the canister did.
//!
//! A canister's fault is an [`Outcome`] with a [`Fault`], with the IC's error code and text. Errors of the world (no memory,
//! a broken disk) are `Err` elsewhere.

use std::fmt;

use crate::message::OutgoingCall;

/// The result of executing one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub response: Response,
    /// Instructions charged, page charges included.
    pub instructions: u64,
    /// Heap pages (4 KiB) whose contents the message changed.
    pub heap_pages_dirtied: u64,
    /// Stable pages (4 KiB) that the message read or wrote.
    pub stable_pages_accessed: u64,
    /// Stable pages (4 KiB) that the message wrote.
    pub stable_pages_dirtied: u64,
    /// Lines printed with `debug_print`, and the trap's line if there was one.
    pub log: Vec<Vec<u8>>,
    /// Calls to canisters, to be delivered now that the message has succeeded.
    pub calls: Vec<OutgoingCall>,
    /// Cycles taken from those that came with the call.
    pub cycles_accepted: u128,
}

/// A canister's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// `msg_reply` with these bytes.
    Reply(Vec<u8>),
    /// `msg_reject` with this text.
    Reject(String),
    /// Success of an entry point that has no answer (timers, hooks), or a method that did not answer.
    None,
    /// Trapped, or broke a rule: everything but the charge and the log is rolled back.
    Trapped(Fault),
}

/// Why an execution failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The IC's error code, e.g. 502 for `IC0502`.
    pub code: u16,
    /// The text without the canister's id, e.g. `Canister trapped: unreachable`.
    pub detail: String,
    /// Frames, innermost first, if any has a name.
    pub backtrace: Option<String>,
}

impl Fault {
    /// A fault without a backtrace.
    pub(crate) fn new(code: u16, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), backtrace: None }
    }

    /// A Wasm trap.
    pub(crate) fn trapped(what: &str) -> Self {
        Self::new(502, format!("Canister trapped: {what}"))
    }

    /// Misuse of a system function.
    pub(crate) fn contract(text: impl fmt::Display) -> Self {
        Self::new(504, format!("Canister violated contract: {text}"))
    }

    /// The message used up `limit` instructions.
    pub(crate) fn out_of_instructions(limit: u64) -> Self {
        let text =
            format!("Canister exceeded the limit of {limit} instructions for single message execution.");
        Self::new(522, text)
    }

    /// The heap is larger than the canister allows itself.
    pub(crate) fn wasm_memory_limit(limit: u64, bytes: u64) -> Self {
        let text = format!(
            "Canister exceeded its current Wasm memory limit of {limit} bytes. The peak Wasm memory usage was {bytes} bytes. \
             If the canister reaches 4GiB, then it may stop functioning and may become unrecoverable. Please reach out to the \
             canister owner to investigate the reason for the increased memory usage. It might be necessary to move data from \
             the Wasm memory to the stable memory. If such high Wasm memory usage is expected and safe, then the developer can \
             increase the Wasm memory limit in the canister settings"
        );
        Self::new(539, text)
    }

    /// The IC's text for a user: `Error from Canister <id>: <detail>.`
    pub fn message(&self, canister: impl fmt::Display) -> String {
        let mut text = format!("Error from Canister {canister}: {}", self.detail);
        if let Some(backtrace) = &self.backtrace {
            text.push_str(".\n");
            text.push_str(backtrace);
        }
        text.push('.');
        text
    }
}
