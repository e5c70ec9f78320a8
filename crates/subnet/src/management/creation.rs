//! Making and ending canisters, giving them cycles.
//!
//! Invariants:
//! - Cycles that a new canister starts with came with the call, less the price; those of the provisional methods are made.

use bedstone_engine::{Principal, SystemState};
use candid::Nat;
use ic_management_canister_types::{
    CanisterIdRecord, CanisterSettings, CreateCanisterArgs, ProvisionalCreateCanisterWithCyclesArgs,
    ProvisionalTopUpCanisterArgs, UninstallCodeArgs,
};

use super::codec::{bad_candid, encode, grouped, to_u128};
use super::{ManagementCall, Reply};
use crate::lifecycle::EMPTY_REPLY;
use crate::reject::{Failure, Reject};
use crate::subnet::Subnet;

/// Cycles of a provisional canister if nothing is said.
const PROVISIONAL_CYCLES: u128 = 100_000_000_000_000;

impl Subnet {
    pub(super) fn manage_creation(&mut self, call: &mut ManagementCall) -> Reply {
        // Without an argument: no settings.
        let args = if call.arg.is_empty() { CreateCanisterArgs::default() } else { call.decode()? };
        self.check_version(call, args.sender_canister_version)?;
        let price = self.engine.subnet().prices.creation;
        let sent = *call.cycles();
        if sent < price {
            let (sent, price) = (grouped(sent), grouped(price));
            let text = format!(
                "Creating a canister requires a fee of {price} that is deducted from the canister's initial balance but only \
                 {sent} cycles were received with the create_canister request."
            );
            return Err(Reject::new(403, text).into());
        }
        let newborn = Newborn { id: None, cycles: sent - price, settings: args.settings.unwrap_or_default() };
        let id = self.give_birth(call, newborn, args.sender_canister_version)?;
        *call.cycles() = 0;
        Ok(encode(CanisterIdRecord { canister_id: id }))
    }

    pub(super) fn manage_provisional_creation(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ProvisionalCreateCanisterWithCyclesArgs = call.decode()?;
        self.check_version(call, args.sender_canister_version)?;
        let cycles = args.amount.as_ref().map_or(Ok(PROVISIONAL_CYCLES), amount)?;
        if let Some(id) = args.specified_id {
            if !is_canister_id(id) {
                let text = format!(
                    "The `specified_id` {id} is invalid because it is not a canister's: 10 bytes, the last two 1."
                );
                return Err(Reject::new(408, text).into());
            }
            if self.canisters.contains_key(&id) {
                let text = format!("Unsuccessful canister creation: canister id {id} already exists.");
                return Err(Reject::new(205, text).into());
            }
        }
        let newborn = Newborn { id: args.specified_id, cycles, settings: args.settings.unwrap_or_default() };
        let id = self.give_birth(call, newborn, args.sender_canister_version)?;
        Ok(encode(CanisterIdRecord { canister_id: id }))
    }

    /// Makes a canister with settings.
    fn give_birth(
        &mut self,
        call: &mut ManagementCall,
        newborn: Newborn,
        version: Option<u64>,
    ) -> Result<Principal, Failure> {
        // The id is taken only when nothing can be refused any more.
        let unnamed = newborn.id.unwrap_or(Principal::management_canister());
        let mut system = SystemState::new(unnamed, vec![call.caller]);
        system.cycles = newborn.cycles;
        let mut system = self.with_settings(&system, 0, newborn.settings)?;
        system.id = newborn.id.unwrap_or_else(|| self.next_canister_id());
        let id = system.id;
        let actor = call.actor(version);
        (call.changed, call.created) = (Some(id), true);
        self.add_canister(system, actor, &mut call.journal)?;
        Ok(id)
    }

    pub(super) fn manage_provisional_top_up(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ProvisionalTopUpCanisterArgs = call.decode()?;
        let cycles = amount(&args.amount)?;
        self.add_cycles(call, args.canister_id, cycles)
    }

    pub(super) fn manage_deposit(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id } = call.decode()?;
        let cycles = *call.cycles();
        let reply = self.add_cycles(call, canister_id, cycles)?;
        *call.cycles() = 0;
        Ok(reply)
    }

    fn add_cycles(&mut self, call: &mut ManagementCall, id: Principal, cycles: u128) -> Reply {
        let canister = self.existing(id)?;
        let system = canister.system_mut();
        system.cycles = system.cycles.saturating_add(cycles);
        call.keep(id, canister)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    pub(super) fn manage_start(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id: id } = call.decode()?;
        self.controlled(id, call.caller)?;
        call.changed = Some(id);
        self.start(id, &mut call.journal)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    /// Answered when the canister has stopped.
    pub(super) fn manage_stop(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id: id } = call.decode()?;
        self.controlled(id, call.caller)?;
        call.changed = Some(id);
        let waiting = call.waiting.take().expect("nobody has taken it");
        self.stop(id, waiting, &mut call.journal)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    pub(super) fn manage_uninstall(&mut self, call: &mut ManagementCall) -> Reply {
        let args: UninstallCodeArgs = call.decode()?;
        let id = args.canister_id;
        self.check_version(call, args.sender_canister_version)?;
        self.controlled(id, call.caller)?;
        call.changed = Some(id);
        let actor = call.actor(args.sender_canister_version);
        self.uninstall_code(id, actor, &mut call.journal)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    pub(super) fn manage_deletion(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id: id } = call.decode()?;
        if id == call.caller {
            return Err(Reject::new(512, format!("Canister {id} cannot delete itself.")).into());
        }
        let canister = self.controlled(id, call.caller)?;
        if canister.system().settings.run_state != bedstone_engine::RunState::Stopped {
            let text = format!("Canister {id} must be stopped before it is deleted.");
            return Err(Reject::new(510, text).into());
        }
        self.remove_canister(id, &mut call.journal)?;
        Ok(EMPTY_REPLY.to_vec())
    }
}

/// A canister that is about to be made.
struct Newborn {
    /// The next one, if nobody asked for one.
    id: Option<Principal>,
    cycles: u128,
    settings: CanisterSettings,
}

fn amount(number: &Nat) -> Result<u128, Reject> {
    to_u128(number).ok_or_else(|| bad_candid(format!("an amount of {number} cycles is not below 2^128")))
}

/// Whether an id looks like those of canisters.
fn is_canister_id(id: Principal) -> bool {
    matches!(id.as_slice(), [_, _, _, _, _, _, _, _, 1, 1])
}
