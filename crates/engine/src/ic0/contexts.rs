//! Which system function may run in which context: the columns of the IC's matrix as sets.

use crate::message::Context;

/// A set of contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contexts(u32);

impl Contexts {
    const fn of(contexts: &[Context]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < contexts.len() {
            bits |= 1 << contexts[index] as u32;
            index += 1;
        }
        Self(bits)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the context is among them.
    pub fn contains(self, context: Context) -> bool {
        self.0 >> context as u32 & 1 == 1
    }
}

use Context as C;

/// Every context including start: `*s` in the facts.
pub(crate) const ALL: Contexts = Contexts((1 << 17) - 1);
/// Every context but start: `*`.
pub(crate) const NOT_START: Contexts = ALL.without(Contexts::of(&[C::Start]));
const UPDATE_CALLBACKS: Contexts = Contexts::of(&[C::ReplyCallback, C::RejectCallback]);
const COMPOSITE_CALLBACKS: Contexts = Contexts::of(&[C::CompositeReplyCallback, C::CompositeRejectCallback]);
const TASKS: Contexts = Contexts::of(&[C::Heartbeat, C::GlobalTimer, C::LowWasmMemory]);
/// Methods that answer a caller, and callbacks that may.
pub(crate) const ANSWER: Contexts =
    Contexts::of(&[C::Update, C::ReplicatedQuery, C::NonReplicatedQuery, C::CompositeQuery])
        .and(UPDATE_CALLBACKS)
        .and(COMPOSITE_CALLBACKS);
/// Where there is an argument.
pub(crate) const ARGUMENT: Contexts = Contexts::of(&[
    C::Init,
    C::Update,
    C::ReplicatedQuery,
    C::NonReplicatedQuery,
    C::CompositeQuery,
    C::ReplyCallback,
    C::CompositeReplyCallback,
    C::InspectMessage,
]);
/// Where a callee's reject code can be read.
pub(crate) const REJECT_CODE: Contexts = UPDATE_CALLBACKS.and(COMPOSITE_CALLBACKS);
/// Where a callee's reject text can be read.
pub(crate) const REJECT_MESSAGE: Contexts = Contexts::of(&[C::RejectCallback, C::CompositeRejectCallback]);
/// Where cycles came with the call.
pub(crate) const CYCLES_IN: Contexts = Contexts::of(&[C::Update, C::ReplicatedQuery]).and(UPDATE_CALLBACKS);
/// Where a call may be made.
pub(crate) const CALL: Contexts =
    Contexts::of(&[C::Update, C::CompositeQuery]).and(UPDATE_CALLBACKS).and(COMPOSITE_CALLBACKS).and(TASKS);
/// Where a call may carry cycles.
pub(crate) const CALL_WITH_CYCLES: Contexts = Contexts::of(&[C::Update]).and(UPDATE_CALLBACKS).and(TASKS);
/// Where cycles may be made.
pub(crate) const MINT: Contexts = CALL_WITH_CYCLES;
/// Where the key of the whole network can be read.
pub(crate) const ROOT_KEY: Contexts = BURN;
/// Where cycles came back from a call.
pub(crate) const CYCLES_BACK: Contexts = UPDATE_CALLBACKS;
/// Where cycles may be burned.
pub(crate) const BURN: Contexts =
    Contexts::of(&[C::Init, C::PreUpgrade, C::Update, C::ReplicatedQuery, C::Cleanup])
        .and(UPDATE_CALLBACKS)
        .and(TASKS);
/// Where the method's name can be read and the message accepted.
pub(crate) const INSPECT: Contexts = Contexts::of(&[C::InspectMessage]);
/// Where certified data may be set.
pub(crate) const CERTIFY: Contexts =
    Contexts::of(&[C::Init, C::PreUpgrade, C::Update]).and(UPDATE_CALLBACKS).and(TASKS);
/// Where a data certificate may be read.
pub(crate) const CERTIFICATE: Contexts = Contexts::of(&[C::NonReplicatedQuery, C::CompositeQuery]);
/// Where the global timer may be set.
pub(crate) const TIMER: Contexts =
    Contexts::of(&[C::Init, C::PreUpgrade, C::Update, C::Cleanup]).and(UPDATE_CALLBACKS).and(TASKS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_say() {
        assert!(ALL.contains(C::Start) && ALL.contains(C::LowWasmMemory));
        assert!(!NOT_START.contains(C::Start) && NOT_START.contains(C::Cleanup));
        assert!(TIMER.contains(C::Heartbeat) && !TIMER.contains(C::NonReplicatedQuery));
        assert!(!CERTIFY.contains(C::Cleanup) && TIMER.contains(C::Cleanup));
    }
}
