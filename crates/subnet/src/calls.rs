//! Calls under way: what has been sent and not been looked at, and who waits for which answer.
//!
//! A *request* goes to a canister, an *answer* comes back; both wait in the *mailbox* of whom they are for. A *context* is a
//! call that a canister has begun to work on and not finished; an *open call* is one that it made itself, with the callbacks
//! that its answer runs. Invariants:
//! - Every request gets exactly one answer, and every open call belongs to one context of the same canister.
//! - What one canister sent another is looked at in the order in which it was sent; senders take turns, and so do canisters
//!   and messages from outside.

use std::collections::{BTreeMap, VecDeque};

use bedstone_engine::{Closure, Principal};
use serde::{Deserialize, Serialize};

/// Names a context, an open call or a stored message, unique in a subnet and for ever.
pub(crate) type CallId = u64;

/// A call from one canister to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub from: Principal,
    /// The open call that waits for the answer.
    pub open_call: CallId,
    pub method: String,
    pub arg: Vec<u8>,
    /// Cycles attached.
    pub cycles: u128,
    /// When the caller stops waiting; 0 = never.
    pub deadline_nanos: u64,
    /// The message from outside that it follows from; 0 = none.
    pub root: CallId,
}

/// Why a call between canisters has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The reject code, 1 to 6.
    pub code: u32,
    pub text: String,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub open_call: CallId,
    /// Attached cycles that were not accepted.
    pub refund: u128,
    pub payload: Result<Vec<u8>, Refusal>,
}

impl Answer {
    /// Bytes that are transmitted.
    pub fn bytes(&self) -> u64 {
        match &self.payload {
            Ok(bytes) => bytes.len() as u64,
            Err(refusal) => refusal.text.len() as u64,
        }
    }
}

/// A call from outside that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ingress {
    pub id: CallId,
    pub caller: Principal,
    pub method: String,
    pub arg: Vec<u8>,
}

/// What a canister is given to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Ingress(Ingress),
    Sent(Sent),
}

/// What waits in a mailbox and, where every message is kept, in the store under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub number: CallId,
    pub letter: Letter,
}

/// What canisters send each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Letter {
    Request(Request),
    Answer(Answer),
}

/// Messages for one canister.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mailbox {
    ingress: VecDeque<Ingress>,
    letters: BTreeMap<Principal, VecDeque<Sent>>,
    /// Senders with letters, the next one first.
    turns: VecDeque<Principal>,
    /// The last message was a letter.
    ingress_is_next: bool,
}

impl Mailbox {
    pub fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.turns.is_empty()
    }

    pub fn add_ingress(&mut self, ingress: Ingress) {
        self.ingress.push_back(ingress);
    }

    pub fn add(&mut self, sender: Principal, sent: Sent) {
        let letters = self.letters.entry(sender).or_default();
        if letters.is_empty() {
            self.turns.push_back(sender);
        }
        letters.push_back(sent);
    }

    /// The next message.
    pub fn take(&mut self) -> Option<Input> {
        if self.turns.is_empty() || (self.ingress_is_next && !self.ingress.is_empty()) {
            self.ingress_is_next = false;
            return self.ingress.pop_front().map(Input::Ingress);
        }
        self.ingress_is_next = true;
        let sender = self.turns.pop_front()?;
        let letters = self.letters.get_mut(&sender).expect("a sender that has its turn has letters");
        let letter = letters.pop_front();
        if letters.is_empty() {
            self.letters.remove(&sender);
        } else {
            self.turns.push_back(sender);
        }
        letter.map(Input::Sent)
    }

    /// How many messages from outside wait.
    pub fn ingress_count(&self) -> usize {
        self.ingress.len()
    }

    /// Everything that canisters sent, with the sender.
    pub fn letters(&self) -> impl Iterator<Item = (Principal, &Sent)> {
        self.letters.iter().flat_map(|(sender, letters)| letters.iter().map(|letter| (*sender, letter)))
    }
}

/// Who is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// Somebody outside.
    Ingress(CallId),
    /// A canister.
    Canister { id: Principal, open_call: CallId },
    /// Nobody: a timer, a heartbeat, a hook.
    Task,
}

/// A call that a canister works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    pub origin: Origin,
    pub caller: Principal,
    /// Cycles that came with it and were not accepted.
    pub cycles: u128,
    pub deadline_nanos: u64,
    pub answered: bool,
    /// How many calls of its own wait for answers.
    pub open_calls: u32,
    /// Used so far.
    pub instructions: u64,
    /// The message from outside that it follows from; 0 = none.
    pub root: CallId,
}

impl Context {
    pub fn new(origin: Origin, caller: Principal) -> Self {
        let root = match origin {
            Origin::Ingress(id) => id,
            _ => 0,
        };
        Self {
            origin,
            caller,
            cycles: 0,
            deadline_nanos: 0,
            answered: false,
            open_calls: 0,
            instructions: 0,
            root,
        }
    }
}

/// A call that a canister made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenCall {
    /// The context that made it.
    pub context: CallId,
    pub callee: Principal,
    pub on_reply: Closure,
    pub on_reject: Closure,
    pub on_cleanup: Option<Closure>,
    pub prepaid_execution: u128,
    pub prepaid_response: u128,
    /// When a best-effort call is answered in any case; 0 = never.
    pub deadline_nanos: u64,
}

/// A canister as one that calls and is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Party {
    pub mailbox: Mailbox,
    pub contexts: BTreeMap<CallId, Context>,
    pub open_calls: BTreeMap<CallId, OpenCall>,
    /// Whether it is in the queue of those that have something to do.
    pub is_ready: bool,
}

impl Party {
    /// Whether there is nothing to remember.
    pub fn is_idle(&self) -> bool {
        self.mailbox.is_empty() && self.contexts.is_empty() && self.open_calls.is_empty() && !self.is_ready
    }

    /// How many calls to each canister wait.
    pub fn open_calls_by_callee(&self) -> BTreeMap<Principal, u32> {
        let mut counts = BTreeMap::new();
        for call in self.open_calls.values() {
            *counts.entry(call.callee).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: CallId) -> Sent {
        let payload = Ok(Vec::new());
        Sent { number, letter: Letter::Answer(Answer { open_call: 0, refund: 0, payload }) }
    }

    #[test]
    fn senders_take_turns_and_each_is_in_order() {
        let mut mailbox = Mailbox::default();
        let [a, b] = [1, 2].map(|byte| Principal::from_slice(&[byte]));
        for (sender, number) in [(a, 1), (a, 2), (a, 3), (b, 4), (b, 5)] {
            mailbox.add(sender, letter(number));
        }
        for id in [10, 11] {
            let caller = Principal::anonymous();
            mailbox.add_ingress(Ingress { id, caller, method: String::new(), arg: Vec::new() });
        }
        let mut order = Vec::new();
        while let Some(input) = mailbox.take() {
            order.push(match input {
                Input::Ingress(ingress) => ingress.id,
                Input::Sent(sent) => sent.number,
            });
        }
        assert_eq!(order, [1, 10, 4, 11, 2, 5, 3]);
        assert!(mailbox.is_empty());
    }
}
