//! What is asked of a canister, and in which context it runs.

use ic_principal::Principal;
use serde::{Deserialize, Serialize};

/// How execution is entered. Names and letters are those of the IC's specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Context {
    /// The module's start function, at install and upgrade.
    Start,
    /// `canister_init` and `canister_post_upgrade`.
    Init,
    /// `canister_pre_upgrade`.
    PreUpgrade,
    /// An update method.
    Update,
    /// A query method called as an update.
    ReplicatedQuery,
    /// A query method.
    NonReplicatedQuery,
    /// A composite query method.
    CompositeQuery,
    /// A reply callback.
    ReplyCallback,
    /// A reject callback.
    RejectCallback,
    /// A cleanup callback.
    Cleanup,
    /// A reply callback of a composite query.
    CompositeReplyCallback,
    /// A reject callback of a composite query.
    CompositeRejectCallback,
    /// A cleanup callback of a composite query.
    CompositeCleanup,
    /// `canister_inspect_message`.
    InspectMessage,
    /// `canister_heartbeat`.
    Heartbeat,
    /// `canister_global_timer`.
    GlobalTimer,
    /// `canister_on_low_wasm_memory`.
    LowWasmMemory,
}

impl Context {
    /// The name used in contract-violation texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Init => "init",
            Self::PreUpgrade => "pre upgrade",
            Self::Update => "update",
            Self::ReplicatedQuery => "replicated query",
            Self::NonReplicatedQuery => "non replicated query",
            Self::CompositeQuery => "composite query",
            Self::ReplyCallback => "reply callback",
            Self::RejectCallback => "reject callback",
            Self::Cleanup => "cleanup",
            Self::CompositeReplyCallback => "composite reply callback",
            Self::CompositeRejectCallback => "composite reject callback",
            Self::CompositeCleanup => "composite cleanup",
            Self::InspectMessage => "inspect message",
            Self::Heartbeat => "heartbeat",
            Self::GlobalTimer => "global timer",
            Self::LowWasmMemory => "on low Wasm memory",
        }
    }

    /// Whether every node runs it: its instructions and system calls see replicated state.
    pub fn replicated(self) -> bool {
        !matches!(
            self,
            Self::NonReplicatedQuery
                | Self::CompositeQuery
                | Self::CompositeReplyCallback
                | Self::CompositeRejectCallback
                | Self::CompositeCleanup
                | Self::InspectMessage
        )
    }

    /// Whether what it does to memories and globals is kept when it succeeds.
    pub fn keeps_state(self) -> bool {
        self.replicated() && self != Self::ReplicatedQuery
    }

    /// Whether changed heap pages are charged. Where the heap's changes are thrown away they are not tracked.
    pub fn charges_heap_pages(self) -> bool {
        !matches!(self, Self::ReplicatedQuery | Self::NonReplicatedQuery | Self::InspectMessage)
    }

    /// Whether `memory.grow` is held to the canister's Wasm memory limit.
    pub(crate) fn enforces_wasm_memory_limit(self) -> bool {
        matches!(self, Self::Start | Self::Init | Self::Update)
    }
}

/// An entry point of an installed module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `canister_update NAME`, or `canister_query NAME` called as an update.
    Update(&'a str),
    /// `canister_query NAME`, outside replicated execution.
    Query(&'a str),
    /// `canister_global_timer`.
    GlobalTimer,
    /// `canister_heartbeat`.
    Heartbeat,
    /// `canister_on_low_wasm_memory`.
    LowWasmMemory,
    /// `canister_inspect_message` for a call of the named method.
    InspectMessage(&'a str),
    /// A callback of a call that was answered.
    Callback(Callback),
}

/// A function of the canister's table with an environment to call it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Its place in the table.
    pub function: u64,
    /// What it is called with; at most 32 bits in 32-bit modules.
    pub environment: u64,
}

/// How the answer to a call is delivered. [`Message::arg`] holds a reply's bytes, [`CallInfo::reject`] a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callback {
    /// The function for this answer, the reply's or the reject's as [`CallInfo::reject`] says.
    pub closure: Closure,
    /// What runs if that one traps.
    pub cleanup: Option<Closure>,
    /// Whether the call was made by a composite query.
    pub composite: bool,
}

/// A message to one canister.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Where it enters.
    pub entry: Entry<'a>,
    /// The argument's bytes.
    pub arg: &'a [u8],
    /// Who sent it.
    pub caller: Principal,
    /// The time that the canister sees, in nanoseconds since 1970. Constant during the message.
    pub time_nanos: u64,
    /// What else came with it.
    pub call: CallInfo<'a>,
}

/// What a message carries besides its argument. The default is that of a call from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallInfo<'a> {
    /// Cycles that came with the call and were not accepted yet.
    pub cycles: u128,
    /// Cycles that came back with an answer; they are part of the balance already.
    pub refunded: u128,
    /// When the caller stops waiting, in nanoseconds since 1970; 0 = never.
    pub deadline_nanos: u64,
    /// Code and text of the reject that a callback is called with.
    pub reject: Option<(u32, &'a str)>,
    /// Whether the call that this message is part of has its answer.
    pub answered: bool,
    /// Instructions of earlier messages of the same call.
    pub instructions: u64,
    /// Instructions that may be used, if less than the limit of the message's kind.
    pub instructions_max: Option<u64>,
    /// Cycles set aside for this execution when its call was made; those not used come back. Without, they are taken from
    /// the balance.
    pub prepaid: Option<u128>,
    /// Whether a query may hand a certificate on; only the first of a tree of queries may.
    pub certified: bool,
}

/// A call that a message made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingCall {
    /// Whom it calls.
    pub callee: Principal,
    /// The method.
    pub method: String,
    /// The argument's bytes.
    pub arg: Vec<u8>,
    /// Cycles attached, taken from the balance.
    pub cycles: u128,
    /// Of a best-effort call: after how many seconds an answer comes in any case.
    pub timeout_seconds: Option<u32>,
    /// What a reply calls.
    pub on_reply: Closure,
    /// What a reject calls.
    pub on_reject: Closure,
    /// What is called if one of these traps.
    pub on_cleanup: Option<Closure>,
    /// Cycles taken from the balance for executing the callback; those not used come back.
    pub prepaid_execution: u128,
    /// Cycles taken from the balance for transmitting the answer; those not used come back.
    pub prepaid_response: u128,
}

/// How new code takes the place of old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallMode {
    /// Into an empty canister.
    Install,
    /// Empties the canister first.
    Reinstall,
    /// Keeps stable memory, and the heap if asked to.
    Upgrade {
        /// Do not run the old module's `canister_pre_upgrade`.
        skip_pre_upgrade: bool,
        /// What becomes of the heap; `None` is the IC's default.
        wasm_memory_persistence: Option<WasmMemoryPersistence>,
    },
}

/// What an upgrade does with the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasmMemoryPersistence {
    /// The heap stays as it is.
    Keep,
    /// The new module starts with its own initial heap.
    Replace,
}
