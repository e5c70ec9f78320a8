//! Rounds: whose turn it is.
//!
//! A round ends calls whose time is over, runs hooks, timers and heartbeats that are due, and then lets canisters with mail take
//! turns, one message each, until nobody has any or the round's instructions are used up. Invariants:
//! - The order depends on what was sent and when, and on nothing else.
//! - A canister that never stops sending cannot keep a round from ending.
//! - A canister whose heartbeat never ends cannot keep messages from their turn: they have the round's instructions for
//!   themselves.

use std::collections::{BTreeMap, BTreeSet};

use bedstone_engine::{Entry, Error, LowWasmMemoryHook, Principal, SystemState};

use crate::subnet::Subnet;

/// Instructions of a round, as on an application subnet.
const ROUND_INSTRUCTIONS: u64 = 7_000_000_000;
/// What each execution counts besides its instructions.
const EXECUTION_OVERHEAD: u64 = 2_000_000;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Messages that canisters worked on.
    pub messages: u64,
    /// Hooks, timers and heartbeats that ran.
    pub tasks: u64,
    /// Whether messages wait for the next round.
    pub is_cut_off: bool,
}

/// When global timers fire, by canister and by time: a round looks only at those that are due.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    by_canister: BTreeMap<Principal, u64>,
    by_time: BTreeSet<(u64, Principal)>,
}

impl Timers {
    /// Sets a canister's timer, in nanoseconds since 1970; 0 = never.
    fn set(&mut self, id: Principal, at: u64) {
        let before = if at == 0 { self.by_canister.remove(&id) } else { self.by_canister.insert(id, at) };
        if before == Some(at) {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, id));
        }
        if at > 0 {
            self.by_time.insert((at, id));
        }
    }

    /// Canisters whose timers are due, the earliest first.
    fn due(&self, now: u64) -> Vec<Principal> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// When the next one fires.
    fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

impl Subnet {
    /// Runs a round.
    ///
    /// # Errors
    /// If this machine or the store fails.
    pub fn tick(&mut self) -> Result<Round, Error> {
        let mut round = Round::default();
        self.expire_calls()?;
        self.run_tasks(&mut round)?;
        let mut used = 0;
        while let Some(id) = self.ready.pop_front() {
            if used >= ROUND_INSTRUCTIONS {
                self.ready.push_front(id);
                round.is_cut_off = true;
                break;
            }
            used += self.work(id, &mut round)?;
        }
        Ok(round)
    }

    /// Lets one canister, or the management canister, work on one message.
    fn work(&mut self, id: Principal, round: &mut Round) -> Result<u64, Error> {
        let Some(party) = self.parties.get_mut(&id) else { return Ok(0) };
        party.is_ready = false;
        let worked = if id == Principal::management_canister() {
            self.take_management_turn()
        } else {
            self.take_turn(id)
        };
        match self.parties.get(&id) {
            Some(party) if !party.mailbox.is_empty() => self.ready(id),
            // Letters to ids that nobody has must not pile up as parties.
            Some(party) if party.is_idle() && !self.canisters.contains_key(&id) => {
                self.parties.remove(&id);
            }
            _ => {}
        }
        let Some(instructions) = worked? else { return Ok(0) };
        round.messages += 1;
        Ok(instructions + EXECUTION_OVERHEAD)
    }

    /// Puts a canister into the queue of those that have something to do.
    pub(crate) fn ready(&mut self, id: Principal) {
        let party = self.parties.entry(id).or_default();
        if !party.is_ready {
            party.is_ready = true;
            self.ready.push_back(id);
        }
    }

    fn run_tasks(&mut self, round: &mut Round) -> Result<(), Error> {
        let mut run = |subnet: &mut Self, id, entry| -> Result<(), Error> {
            subnet.run_task(id, entry)?;
            round.tasks += 1;
            Ok(())
        };
        for id in self.hooks.iter().copied().collect::<Vec<_>>() {
            run(self, id, Entry::LowWasmMemory)?;
        }
        let now = self.time_nanos;
        for id in self.timers.due(now) {
            run(self, id, Entry::GlobalTimer)?;
        }
        for id in self.heartbeats.iter().copied().collect::<Vec<_>>() {
            run(self, id, Entry::Heartbeat)?;
        }
        Ok(())
    }

    /// Notes what a canister wants to be woken for.
    pub(crate) fn watch(&mut self, id: Principal) -> Result<(), Error> {
        let Some(canister) = self.awake(id)? else {
            self.forget(id);
            return Ok(());
        };
        let is_hooked = canister.system().settings.low_wasm_memory_hook == LowWasmMemoryHook::Ready;
        let is_hooked = is_hooked && canister.has_method(Entry::LowWasmMemory);
        let timer = canister.system().global_timer;
        self.timers.set(id, timer);
        if is_hooked {
            self.hooks.insert(id);
        } else {
            self.hooks.remove(&id);
        }
        Ok(())
    }

    /// Notes what a canister that is in the store only wants to be woken for.
    pub(crate) fn watch_system(&mut self, id: Principal, system: &SystemState) {
        self.timers.set(id, system.global_timer);
        if system.settings.low_wasm_memory_hook == LowWasmMemoryHook::Ready {
            self.hooks.insert(id);
        }
        if system.settings.heartbeat {
            self.heartbeats.insert(id);
        }
    }

    /// As [`Subnet::watch`], after its module changed.
    pub(crate) fn watch_module(&mut self, id: Principal) -> Result<(), Error> {
        let beats = self.awake(id)?.is_some_and(|canister| {
            let beats = canister.has_method(Entry::Heartbeat);
            let settings = &mut canister.system_mut().settings;
            settings.heartbeat = beats;
            beats
        });
        if beats {
            self.heartbeats.insert(id);
        } else {
            self.heartbeats.remove(&id);
        }
        self.watch(id)
    }

    /// A canister is gone.
    pub(crate) fn forget(&mut self, id: Principal) {
        self.timers.set(id, 0);
        self.hooks.remove(&id);
        self.heartbeats.remove(&id);
    }

    /// When something happens next without anybody's doing, in nanoseconds since 1970.
    pub fn next_event_nanos(&self) -> Option<u64> {
        let timer = self.timers.next();
        let deadline = self.deadlines.first().map(|(at, _, _)| *at);
        timer.into_iter().chain(deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use bedstone_engine::EngineConfig;

    use super::*;
    use crate::calls::{Answer, Letter};
    use crate::journal::Journal;
    use crate::subnet::SubnetConfig;

    #[test]
    fn timers_are_due_in_the_order_of_their_times() {
        let [a, b, c] = [1, 2, 3].map(|byte| Principal::from_slice(&[byte]));
        let mut timers = Timers::default();
        for (id, at) in [(a, 30), (b, 10), (c, 20), (a, 5), (c, 0), (b, 10)] {
            timers.set(id, at);
        }
        assert_eq!((timers.due(4), timers.due(10), timers.next()), (vec![], vec![a, b], Some(5)));
        timers.set(a, 0);
        timers.set(b, 0);
        assert_eq!((timers.due(u64::MAX), timers.next()), (vec![], None));
    }

    #[test]
    fn nothing_is_remembered_of_ids_that_nobody_has() {
        let mut subnet = Subnet::new(&SubnetConfig::new(EngineConfig::default(), 1)).unwrap();
        for byte in 0..100 {
            let letter = Letter::Answer(Answer { open_call: 0, refund: 0, payload: Ok(Vec::new()) });
            let nobody = Principal::from_slice(&[byte, 1]);
            subnet.send(Principal::anonymous(), nobody, letter, &mut Journal::begin(None));
        }
        assert_eq!(subnet.tick().unwrap().messages, 100);
        assert!(subnet.parties.is_empty());
    }
}
