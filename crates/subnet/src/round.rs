//! Rounds: whose turn it is.
//!
//! A round ends calls whose time is over, runs hooks, timers and heartbeats that are due, and then lets canisters with mail take
//! turns, one message each, until nobody has any or the round's instructions are used up. Invariants:
//! - The order depends on what was sent and when, and on nothing else.
//! - A canister that never stops sending cannot keep a round from ending.
//! - A canister whose heartbeat never ends cannot keep messages from their turn: they have the round's instructions for
//!   themselves.

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
        if self.parties.get(&id).is_some_and(|party| !party.mailbox.is_empty()) {
            self.ready(id);
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
        let due: Vec<Principal> =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
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
        match canister.system().global_timer {
            0 => drop(self.timers.remove(&id)),
            at => drop(self.timers.insert(id, at)),
        }
        if is_hooked {
            self.hooks.insert(id);
        } else {
            self.hooks.remove(&id);
        }
        Ok(())
    }

    /// Notes what a canister that is in the store only wants to be woken for.
    pub(crate) fn watch_system(&mut self, id: Principal, system: &SystemState) {
        if system.global_timer > 0 {
            self.timers.insert(id, system.global_timer);
        }
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
        self.timers.remove(&id);
        self.hooks.remove(&id);
        self.heartbeats.remove(&id);
    }

    /// When something happens next without anybody's doing, in nanoseconds since 1970.
    pub fn next_event_nanos(&self) -> Option<u64> {
        let timer = self.timers.values().min().copied();
        let deadline = self.deadlines.first().map(|(at, _, _)| *at);
        timer.into_iter().chain(deadline).min()
    }
}
