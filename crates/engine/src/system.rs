//! A canister's system state: what the IC keeps for it besides its memories and globals.

use std::collections::{BTreeMap, VecDeque};

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
    /// What changes rarely; kept in an entry of its own.
    #[serde(skip)]
    pub settings: Settings,
    /// How many calls of this canister to each other one wait for their answers. Whoever delivers calls keeps it up to date.
    #[serde(skip)]
    pub open_calls: BTreeMap<Principal, u32>,
}

/// Whether a canister takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u32)]
pub enum RunState {
    /// It does. Numbered as `canister_status` tells it.
    #[default]
    Running = 1,
    /// No new ones; it waits for answers to its own.
    Stopping = 2,
    /// No.
    Stopped = 3,
}

/// Whether `canister_on_low_wasm_memory` has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LowWasmMemoryHook {
    /// There is memory enough.
    #[default]
    ConditionNotSatisfied,
    /// It runs before anything else.
    Ready,
    /// It ran, and there has not been memory enough since.
    Executed,
}

/// Who may read something of a canister besides its controllers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Visibility {
    /// Nobody.
    #[default]
    Controllers,
    /// Everybody.
    Public,
    /// These.
    AllowedViewers(Vec<Principal>),
}

/// A canister's settings and what else seldom changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it takes calls.
    pub run_state: RunState,
    /// Percent of a core.
    pub compute_allocation: u64,
    /// Bytes set aside; 0 = as many as are used.
    pub memory_allocation: u64,
    /// For how long the balance must last, in seconds, before anything is spent on execution.
    pub freezing_threshold: u64,
    /// Most cycles that may be set aside for storage.
    pub reserved_cycles_limit: u128,
    /// Cycles set aside for storage.
    pub reserved_cycles: u128,
    /// Who may read its log.
    pub log_visibility: Visibility,
    /// Who may list and read its snapshots.
    pub snapshot_visibility: Visibility,
    /// The hook runs when fewer bytes than this are left of the Wasm memory limit; 0 = never.
    pub wasm_memory_threshold: u64,
    /// See [`LowWasmMemoryHook`].
    pub low_wasm_memory_hook: LowWasmMemoryHook,
    /// Names and values.
    pub environment_variables: BTreeMap<String, String>,
    /// Whether the module has a heartbeat.
    pub heartbeat: bool,
    /// Until when storage is paid for, in nanoseconds since 1970; 0 = nothing was paid yet.
    pub paid_until_nanos: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            run_state: RunState::Running,
            compute_allocation: 0,
            memory_allocation: 0,
            freezing_threshold: 30 * 24 * 60 * 60,
            reserved_cycles_limit: 5_000_000_000_000,
            reserved_cycles: 0,
            log_visibility: Visibility::Controllers,
            snapshot_visibility: Visibility::Controllers,
            wasm_memory_threshold: 0,
            low_wasm_memory_hook: LowWasmMemoryHook::ConditionNotSatisfied,
            environment_variables: BTreeMap::new(),
            heartbeat: false,
            paid_until_nanos: 0,
        }
    }
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
            settings: Settings::default(),
            open_calls: BTreeMap::new(),
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
    /// At most 4,056 bytes.
    pub content: Vec<u8>,
}

/// A canister's log: the newest records, 4 KiB in all, overhead included.
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

    /// Bytes that the records count.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|record| LOG_RECORD_BYTES + record.content.len() as u64).sum()
    }
}
