//! Making, filling, starting, stopping, emptying and deleting canisters, with respect to calls under way.
//!
//! Whoever asks brings a journal, in which everything that follows is gathered; checking who may ask is up to the caller.
//! Invariants:
//! - A canister is stopped only when nothing of its own waits for an answer.
//! - Whoever waits for an answer of a canister that is emptied or deleted gets a reject, and its cycles back.

use bedstone_engine::{
    Canister, Error, ErrorKind, Installation, Outcome, Principal, Response, RunState, SystemState,
};

use crate::calls::{CallId, Context, Input, Letter, OpenCall, Origin, Refusal, Sent};
use crate::deliver::code;
use crate::journal::Journal;
use crate::management::{Actor, Happening, Waiting};
use crate::reject::{Failure, Reject};
use crate::saved::Slot;
use crate::subnet::{Install, Subnet, canister_id, no_such_canister};

impl Subnet {
    /// The id of the next canister; it is taken with this.
    pub(crate) fn next_canister_id(&mut self) -> Principal {
        loop {
            let id = canister_id(self.next_id);
            self.next_id += 1;
            // Somebody may have asked for one that lies ahead.
            if !self.canisters.contains_key(&id) {
                return id;
            }
        }
    }

    /// Makes an empty canister.
    pub(crate) fn add_canister(
        &mut self,
        system: SystemState,
        actor: Actor,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let (id, controllers) = (system.id, system.controllers.clone());
        let mut canister = Box::new(Canister::new(&self.engine, system)?);
        if self.costs_upkeep() {
            canister.system_mut().settings.paid_until_nanos = self.time_nanos;
        }
        journal.save(&mut canister)?;
        if let Some((_, change)) = journal.parts() {
            self.put_head(change);
        }
        self.uses += 1;
        self.canisters.insert(id, Slot::Awake { canister, used: self.uses });
        self.note(id, actor, Happening::Creation { controllers }, journal);
        self.park(id);
        Ok(())
    }

    /// Installs code. Of an outcome that is a trap nothing is left but the log.
    pub(crate) fn install_code(
        &mut self,
        install: &Install,
        actor: Actor,
        journal: &mut Journal,
    ) -> Result<Outcome, Failure> {
        let (engine, time_nanos) = (self.engine.clone(), self.time_nanos);
        let id = install.canister;
        let module = match engine.compile(&install.module) {
            Ok(module) => module,
            Err(error) if error.kind() == ErrorKind::InvalidModule => {
                let text = format!("Error from Canister {id}: Canister's Wasm module is not valid: {error}.");
                return Err(Reject::new(505, text).into());
            }
            Err(error) => return Err(error.into()),
        };
        let hash = module.hash();
        let Some(canister) = self.awake(id)? else { return Err(no_such_canister(id).into()) };
        let installed = canister.install(&Installation {
            mode: install.mode,
            module,
            arg: &install.arg,
            caller: install.caller,
            time_nanos,
        });
        let outcome = self.or_reload(id, installed)?;
        self.watch_module(id)?;
        if let Some(canister) = self.awake(id)? {
            let saved = journal.save(canister);
            self.or_reload(id, saved)?;
        }
        if !matches!(outcome.response, Response::Trapped(_)) {
            self.note(id, actor, Happening::Deployment { mode: install.mode.into(), hash }, journal);
        }
        Ok(outcome)
    }

    /// Removes a canister's code and all that it made; calls under way end.
    pub(crate) fn uninstall_code(
        &mut self,
        id: Principal,
        actor: Actor,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        canister.uninstall()?;
        canister.system_mut().open_calls.clear();
        self.end_contexts(id, journal);
        self.drop_chunks(id, journal);
        self.note(id, actor, Happening::Uninstall, journal);
        // A canister that was stopping has nothing to wait for any more.
        self.context_ended(id, journal)?;
        self.watch_module(id)?;
        if let Some(canister) = self.awake(id)? {
            let saved = journal.save(canister);
            self.or_reload(id, saved)?;
        }
        Ok(())
    }

    /// Lets a canister take calls again.
    pub(crate) fn start(&mut self, id: Principal, journal: &mut Journal) -> Result<(), Error> {
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        let system = canister.system_mut();
        let was = std::mem::replace(&mut system.settings.run_state, RunState::Running);
        if was != RunState::Running {
            system.version += 1;
        }
        let saved = journal.save(canister);
        self.or_reload(id, saved)?;
        let cancelled = || Err(Reject::new(511, format!("Canister {id}'s stop request was cancelled")));
        self.answer_stops(id, cancelled, journal);
        Ok(())
    }

    /// Lets a canister take no more calls. The request is answered when nothing is under way.
    pub(crate) fn stop(
        &mut self,
        id: Principal,
        request: Waiting,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        let system = canister.system_mut();
        if system.settings.run_state == RunState::Running {
            system.settings.run_state = RunState::Stopping;
            system.version += 1;
        }
        let saved = journal.save(canister);
        self.or_reload(id, saved)?;
        self.stops.entry(id).or_default().push(request);
        self.context_ended(id, journal)
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
        self.answer_stops(id, || Ok(EMPTY_REPLY.to_vec()), journal);
        Ok(())
    }

    fn answer_stops(
        &mut self,
        id: Principal,
        answer: impl Fn() -> Result<Vec<u8>, Reject>,
        journal: &mut Journal,
    ) {
        for waiting in self.stops.remove(&id).unwrap_or_default() {
            self.answer_management(&waiting, answer(), journal);
        }
    }

    /// Removes a canister and all that belongs to it.
    pub(crate) fn remove_canister(&mut self, id: Principal, journal: &mut Journal) -> Result<(), Error> {
        if self.awake(id)?.is_none() {
            return Ok(());
        }
        self.answer_stops(id, || Err(no_such_canister(id)), journal);
        self.end_contexts(id, journal);
        self.end_mail(id, journal);
        self.drop_chunks(id, journal);
        self.drop_history(id, journal);
        self.forget(id);
        self.images.remove(&id);
        let names: Vec<String> =
            self.names.iter().filter(|(_, named)| **named == id).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.drop_name(&name, journal);
            self.names.remove(&name);
        }
        self.snapshots.forget_canister(id);
        if let Some((_, change)) = journal.parts() {
            self.snapshots.erase_deleted(change);
        }
        if let Some(Slot::Awake { canister, .. }) = self.canisters.remove(&id)
            && let Err(canister) = journal.erase(canister)
            && self.store.is_some()
        {
            // Without a store there is nothing to erase, and its memories are given back at once.
            self.deleted.push(*canister);
        }
        Ok(())
    }

    /// Ends what a canister works on: who called gets a reject, and answers to its own calls will find nobody.
    fn end_contexts(&mut self, id: Principal, journal: &mut Journal) {
        let Some(party) = self.parties.get_mut(&id) else { return };
        let open_calls: Vec<(CallId, OpenCall)> = std::mem::take(&mut party.open_calls).into_iter().collect();
        let contexts = std::mem::take(&mut party.contexts);
        for (number, open) in open_calls {
            journal.delete_open_call(number);
            self.deadlines.remove(&(open.deadline_nanos, id, number));
        }
        for (number, context) in contexts {
            journal.delete_context(number);
            if !context.answered {
                let text = "Canister has been uninstalled.".to_owned();
                let refusal = Refusal { code: code::CANISTER_REJECT, text };
                self.answer_context(id, &context, Err(refusal), journal);
            }
        }
    }

    /// Returns everything that waits in the mailbox of a canister that is about to be deleted.
    fn end_mail(&mut self, id: Principal, journal: &mut Journal) {
        self.ready.retain(|ready| *ready != id);
        let Some(mut party) = self.parties.remove(&id) else { return };
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
            self.reject_context(id, &context, no_such_canister(id), journal);
        }
    }
}

/// A reply without values, in Candid.
pub(crate) const EMPTY_REPLY: &[u8] = b"DIDL\0\0";
