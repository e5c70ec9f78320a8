//! A canister's system state: what the IC keeps for it besides its memories and globals.

use std::collections::VecDeque;

use ic_principal::Principal;
use serde::{Deserialize, Serialize};

/// Bytes that a log record counts besides its content.
pub const LOG_RECORD_BYTES: u64 = 40;
/// Most bytes of log kept per canister, records' overhead included.
pub const LOG_BYTES_MAX: u64 = 4096;
/// Longest content of one record.
pub const LOG_CONTENT_BYTES_MAX: usize = 4056;

/// See the module's documentation. Cheap to clone: lists are short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemState {
    /// The canister's id.
    pub id: Principal,
    /// Who may install code; at most 10.
    pub controllers: Vec<Principal>,
    /// Cycles held.
    pub cycles: u128,
    /// Goes up with every successful replicated execution and every installation.
    pub version: u64,
    /// At most 32 bytes.
    pub certified_data: Vec<u8>,
    /// When the global timer fires, in nanoseconds; 0 = never.
    pub global_timer: u64,
    /// Largest heap that `memory.grow` may make in updates and at installation; 0 = no limit.
    pub wasm_memory_limit_bytes: u64,
}

impl SystemState {
    /// A new canister's.
    pub fn new(id: Principal, controllers: Vec<Principal>) -> Self {
        Self {
            id,
            controllers,
            cycles: 100_000_000_000_000,
            version: 0,
            certified_data: Vec::new(),
            global_timer: 0,
            wasm_memory_limit_bytes: bedstone_instrument::limits::WASM_MEMORY_LIMIT_DEFAULT_BYTES,
        }
    }
}

/// One line of a canister's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Counts from 0, also over reinstalls.
    pub index: u64,
    /// Time of the message that wrote it.
    pub time_nanos: u64,
    /// At most [`LOG_CONTENT_BYTES_MAX`] bytes.
    pub content: Vec<u8>,
}

/// A canister's log: the newest records, [`LOG_BYTES_MAX`] bytes in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    records: VecDeque<LogRecord>,
    next_index: u64,
}

impl Log {
    /// Appends records of one message; the oldest give way.
    pub fn append(&mut self, time_nanos: u64, lines: impl IntoIterator<Item = Vec<u8>>) {
        for content in lines {
            self.records.push_back(LogRecord { index: self.next_index, time_nanos, content });
            self.next_index += 1;
        }
        while self.bytes() > LOG_BYTES_MAX {
            self.records.pop_front();
        }
    }

    /// Forgets the records; the index goes on.
    pub fn clear(&mut self) {
        self.records.clear();
    }

    /// Records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &LogRecord> {
        self.records.iter()
    }

    fn bytes(&self) -> u64 {
        self.records.iter().map(|record| LOG_RECORD_BYTES + record.content.len() as u64).sum()
    }
}
