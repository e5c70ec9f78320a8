//! What host functions see of the message that runs: one value per live instance, reset for each message.
//!
//! Invariants:
//! - Nothing here outlives the message except buffers kept for their capacity.
//! - Changes to a canister's system state wait in [`Changes`] until the message succeeds.

use std::collections::VecDeque;
use std::sync::Arc;

use ic_principal::Principal;
use wasmtime::{Caller, Global, Memory};

use crate::error::Error;
use crate::memory::Tracking;
use crate::message::{CallInfo, Context, OutgoingCall};
use crate::outcome::Fault;
use crate::prices::SubnetInfo;
use crate::sys::Mapping;
use crate::system::{LOG_BYTES_MAX, LOG_CONTENT_BYTES_MAX, LOG_RECORD_BYTES, SystemState};
use crate::touched::StableTouched;

/// The memories of one installed module, owned by the engine.
#[derive(Debug, Clone)]
pub(crate) struct Memories {
    /// The declared memories, by index.
    pub heaps: Vec<Arc<Mapping>>,
    pub stable: Arc<Mapping>,
    pub tracking: Arc<Tracking>,
}

impl Memories {
    /// The memory that the system API reads and writes.
    pub fn heap(&self) -> Option<&Arc<Mapping>> {
        self.heaps.first()
    }

    /// Bytes of all declared memories together.
    pub fn heap_bytes(&self) -> u64 {
        self.heaps.iter().map(|heap| heap.len() as u64).sum()
    }

    /// Whether every page that was written could be opened. If not, the run ended there as if the canister had trapped.
    ///
    /// # Errors
    /// If one could not.
    pub fn check_protection(&self) -> Result<(), Error> {
        if self.heaps.iter().chain([&self.stable]).any(|memory| memory.protection_failed()) {
            return Err(Error::machine("a page of a canister's memory could not be made writable"));
        }
        Ok(())
    }
}

/// Handles into the instance, for host functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handles {
    pub counter: Global,
    /// Only used by the host form of stable memory.
    pub heap: Option<Memory>,
}

/// How far the answer has got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Reply {
    /// Bytes may still be appended.
    #[default]
    Open,
    Replied,
    Rejected(String),
    /// An earlier message of the same call answered.
    Answered,
}

/// Changes of system state, applied when the message succeeds.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub certified_data: Option<Vec<u8>>,
    pub global_timer: Option<u64>,
    pub cycles_burned: u128,
    /// Cycles taken from those that came with the call; part of the balance.
    pub cycles_accepted: u128,
    /// Cycles made out of nothing; part of the balance.
    pub cycles_minted: u128,
    /// Cycles that calls took from the balance: attached, and set aside for their answers.
    pub cycles_sent: u128,
    /// Calls made, in order.
    pub calls: Vec<OutgoingCall>,
    /// The message from outside was let in.
    pub accepted: bool,
}

/// What came with a message besides its argument; see [`CallInfo`].
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub cycles: u128,
    pub refunded: u128,
    pub deadline_nanos: u64,
    pub reject: Option<(u32, String)>,
    pub instructions: u64,
    /// Whether there is a certificate.
    pub certified: bool,
    /// Made when it is asked for.
    pub certificate: Option<Vec<u8>>,
}

impl Incoming {
    fn set(&mut self, call: &CallInfo<'_>) {
        self.cycles = call.cycles;
        self.refunded = call.refunded;
        self.deadline_nanos = call.deadline_nanos;
        self.reject = call.reject.map(|(code, text)| (code, text.to_owned()));
        self.instructions = call.instructions;
        self.certified = call.certified;
        self.certificate = None;
    }
}

/// The message's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// What this execution may use.
    pub instructions: u64,
    /// The limit named when it runs out: that of the whole transaction.
    pub instructions_shown: u64,
    /// What `memory.grow` may make of all declared memories together.
    pub wasm_memory_bytes: u64,
    /// Bytes that the canister occupies besides its memories.
    pub other_bytes: u64,
    /// What the callback of a call may use.
    pub instructions_callback: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct MessageState {
    pub context: Context,
    pub caller: Principal,
    pub arg: Vec<u8>,
    pub method: String,
    pub time_nanos: u64,
    pub reply: Reply,
    pub reply_data: Vec<u8>,
    pub limits: Limits,
    pub system: SystemState,
    pub changes: Changes,
    pub incoming: Incoming,
    /// A call that is being put together, its cycles taken already.
    pub call: Option<OutgoingCall>,
    pub subnet: Arc<SubnetInfo>,
    pub log: ExecutionLog,
    pub memories: Memories,
    pub handles: Option<Handles>,
    pub touched: StableTouched,
    pub fault: Option<Fault>,
    /// Whether the heap is 64-bit.
    pub heap64: bool,
    /// Export name of the heap, for the host function that looks it up at each call.
    pub heap_name: String,
}

impl MessageState {
    /// The state of an instance that has not run a message yet.
    pub fn new(
        memories: Memories,
        system: SystemState,
        subnet: Arc<SubnetInfo>,
        heap64: bool,
        heap_name: String,
    ) -> Self {
        Self {
            context: Context::Start,
            caller: Principal::anonymous(),
            arg: Vec::new(),
            method: String::new(),
            time_nanos: 0,
            reply: Reply::Open,
            reply_data: Vec::new(),
            limits: Limits {
                instructions: 0,
                instructions_shown: 0,
                wasm_memory_bytes: 0,
                other_bytes: 0,
                instructions_callback: 0,
            },
            system,
            changes: Changes::default(),
            incoming: Incoming::default(),
            call: None,
            subnet,
            log: ExecutionLog::default(),
            memories,
            handles: None,
            touched: StableTouched::default(),
            fault: None,
            heap64,
            heap_name,
        }
    }

    /// Takes over what came with a message.
    pub fn receive(&mut self, call: &CallInfo<'_>) {
        self.incoming.set(call);
        self.call = None;
        self.reply = if call.answered { Reply::Answered } else { Reply::Open };
    }

    /// Whether the call has its answer.
    pub fn is_answered(&self) -> bool {
        self.reply != Reply::Open
    }

    /// The balance as the canister sees it.
    pub fn balance(&self) -> u128 {
        let changes = &self.changes;
        let gained = self.system.cycles + changes.cycles_accepted + changes.cycles_minted;
        gained - changes.cycles_burned - changes.cycles_sent
    }

    /// Bytes that the canister occupies.
    pub fn memory_bytes(&self) -> u64 {
        self.memories.heap_bytes() + self.memories.stable.len() as u64 + self.limits.other_bytes
    }

    /// What of the balance may be spent without freezing the canister.
    pub fn liquid_balance(&self) -> u128 {
        let limit = self.subnet.prices.freezing_limit(&self.system, self.memory_bytes());
        self.balance().saturating_sub(limit)
    }

    /// Ends the message: remembers why and gives Wasmtime an error to unwind with.
    pub fn fail(&mut self, fault: Fault) -> wasmtime::Error {
        self.fault.get_or_insert(fault);
        wasmtime::Error::msg("the message ends here")
    }
}

/// Lines that one execution logs.
#[derive(Debug, Default)]
pub(crate) struct ExecutionLog {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The newest lines, as many as the IC's buffer of one execution holds, and their bytes with overhead.
    buffered: usize,
    buffered_bytes: u64,
}

/// Lines shown to a person are kept beyond the IC's 4 KiB, but not without end.
const LINES_BYTES_MAX: usize = 1 << 20;

impl ExecutionLog {
    /// Bytes free in the IC's buffer.
    pub fn free(&self) -> u64 {
        LOG_BYTES_MAX - self.buffered_bytes
    }

    /// Appends a line, cut to what a record holds; the oldest give way.
    pub fn append(&mut self, mut content: Vec<u8>) {
        content.truncate(LOG_CONTENT_BYTES_MAX);
        self.bytes += content.len();
        self.buffered += 1;
        self.buffered_bytes += LOG_RECORD_BYTES + content.len() as u64;
        self.lines.push_back(content);
        while self.buffered_bytes > LOG_BYTES_MAX {
            let oldest = &self.lines[self.lines.len() - self.buffered];
            self.buffered_bytes -= LOG_RECORD_BYTES + oldest.len() as u64;
            self.buffered -= 1;
        }
        while self.bytes > LINES_BYTES_MAX {
            let oldest = self.lines.pop_front().expect("the lines hold more than a mebibyte");
            self.bytes -= oldest.len();
        }
    }

    /// Takes all lines out, oldest first.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        std::mem::take(self).lines.into()
    }
}

/// The counter, while the host runs.
pub(crate) fn counter(caller: &mut Caller<'_, MessageState>) -> i64 {
    let global = caller.data().handles.expect("set before any call").counter;
    global.get(caller).i64().expect("the counter is an i64")
}

/// Charges from the host, with a test.
pub(crate) fn charge(caller: &mut Caller<'_, MessageState>, cost: u64) -> wasmtime::Result<()> {
    let left = counter(caller).saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
    let global = caller.data().handles.expect("set before any call").counter;
    global.set(&mut *caller, left.into())?;
    if left < 0 {
        let limit = caller.data().limits.instructions_shown;
        return Err(caller.data_mut().fail(Fault::out_of_instructions(limit)));
    }
    Ok(())
}
