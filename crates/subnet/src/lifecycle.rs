//! Starting, stopping, emptying and deleting canisters, with respect to calls under way.
//!
//! Invariants:
//! - A canister is stopped only when nothing of its own waits for an answer.
//! - Whoever waits for an answer of a canister that is emptied or deleted gets a reject, and its cycles back.

use bedstone_engine::{Error, Principal, RunState};

use crate::calls::{Context, Input, Letter, Origin, Sent};
use crate::journal::Journal;
use crate::management::Waiting;
use crate::reject::Reject;
use crate::subnet::{Subnet, no_such_canister};

impl Subnet {
    /// Lets a canister take calls again. Whether there is one.
    #[expect(dead_code, reason = "nobody asks for it yet")]
    pub(crate) fn start(&mut self, id: Principal) -> Result<bool, Error> {
        let Some(canister) = self.awake(id)? else { return Ok(false) };
        let system = canister.system_mut();
        let was = std::mem::replace(&mut system.settings.run_state, RunState::Running);
        if was != RunState::Running {
            system.version += 1;
        }
        if was == RunState::Stopping {
            self.answer_stops(id, || {
                Err(Reject::new(511, format!("Canister {id}'s stop request was cancelled")))
            })?;
        }
        self.keep_canister(id)?;
        Ok(true)
    }

    /// Lets a canister take no more calls. The request is answered when nothing is under way.
    #[expect(dead_code, reason = "nobody asks for it yet")]
    pub(crate) fn stop(&mut self, id: Principal, request: Waiting) -> Result<bool, Error> {
        let Some(canister) = self.awake(id)? else { return Ok(false) };
        let system = canister.system_mut();
        if system.settings.run_state == RunState::Running {
            system.settings.run_state = RunState::Stopping;
            system.version += 1;
        }
        self.stops.entry(id).or_default().push(request);
        let mut journal = Journal::begin(self.keeper());
        if let Some(canister) = self.awake(id)? {
            journal.save(canister)?;
        }
        self.context_ended(id, &mut journal)?;
        self.append_journal(id, journal)?;
        Ok(true)
    }

    /// A context of this canister has ended: if it is stopping, it may have stopped.
    pub(crate) fn context_ended(&mut self, id: Principal, journal: &mut Journal) -> Result<(), Error> {
        if self.stops.is_empty() && !self.canisters.contains_key(&id) {
            return Ok(());
        }
        if self.parties.get(&id).is_some_and(|party| !party.contexts.is_empty()) {
            return Ok(());
        }
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        let system = canister.system_mut();
        if !matches!(system.settings.run_state, RunState::Stopping | RunState::Stopped) {
            return Ok(());
        }
        if system.settings.run_state == RunState::Stopping {
            system.settings.run_state = RunState::Stopped;
            system.version += 1;
            journal.save(canister)?;
        }
        self.answer_stops_into(id, || Ok(EMPTY_REPLY.to_vec()), journal);
        Ok(())
    }

    fn answer_stops(
        &mut self,
        id: Principal,
        answer: impl Fn() -> Result<Vec<u8>, Reject>,
    ) -> Result<(), Error> {
        let mut journal = Journal::begin(self.keeper());
        self.answer_stops_into(id, answer, &mut journal);
        self.append_journal(id, journal)
    }

    fn answer_stops_into(
        &mut self,
        id: Principal,
        answer: impl Fn() -> Result<Vec<u8>, Reject>,
        journal: &mut Journal,
    ) {
        for waiting in self.stops.remove(&id).unwrap_or_default() {
            self.answer_management(&waiting, answer(), journal);
        }
    }

    /// Ends everything that a canister has to do with: it is about to be emptied or deleted. Calls that it works on are
    /// rejected, its own are forgotten.
    pub(crate) fn end_calls(&mut self, id: Principal) -> Result<(), Error> {
        let Some(mut party) = self.parties.remove(&id) else { return Ok(()) };
        self.ready.retain(|ready| *ready != id);
        let mut journal = Journal::begin(self.keeper());
        for number in party.open_calls.keys() {
            journal.delete_open_call(*number);
        }
        for (number, context) in &party.contexts {
            journal.delete_context(*number);
            if !context.answered {
                let reject = Reject::new(CODE_REMOVED, format!("Canister {id} has been uninstalled"));
                self.reject_context(id, context, reject, &mut journal);
            }
        }
        while let Some(input) = party.mailbox.take() {
            let context = match input {
                Input::Ingress(ingress) => Context::new(Origin::Ingress(ingress.id), ingress.caller),
                Input::Sent(Sent { number, letter }) => {
                    journal.delete_letter(number);
                    let Letter::Request(request) = letter else { continue };
                    let origin = Origin::Canister { id: request.from, open_call: request.open_call };
                    Context { cycles: request.cycles, ..Context::new(origin, request.from) }
                }
            };
            self.reject_context(id, &context, no_such_canister(id), &mut journal);
        }
        if let Some(canister) = self.awake(id)? {
            canister.system_mut().open_calls.clear();
        }
        self.append_journal(id, journal)
    }
}

/// A reply without values, in Candid.
pub(crate) const EMPTY_REPLY: &[u8] = b"DIDL\0\0";

/// The error code of a canister whose code was removed while it worked on a call.
const CODE_REMOVED: u16 = 301;
