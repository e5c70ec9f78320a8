//! What a canister pays for being there: memory and compute allocation, by the second.
//!
//! It is charged when the canister is next asked for anything, for all the time since: nobody walks over canisters when time
//! moves on. Invariants:
//! - Where memory costs nothing, nothing is written.
//! - A balance ends at zero. Unlike on the IC, a canister that cannot pay keeps its code: it is frozen.

use bedstone_engine::{Error, Principal};

use crate::subnet::Subnet;

const SECOND: u64 = 1_000_000_000;

impl Subnet {
    /// Whether anything is paid for.
    pub(crate) fn costs_upkeep(&self) -> bool {
        let prices = &self.engine.subnet().prices;
        prices.gib_second > 0 || prices.compute_percent_second > 0
    }

    /// Charges a canister up to the present second.
    pub(crate) fn charge_upkeep(&mut self, id: Principal) -> Result<(), Error> {
        if !self.costs_upkeep() {
            return Ok(());
        }
        let prices = self.engine.subnet().prices;
        let now = self.time_nanos;
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        let bytes = canister.occupied_bytes();
        let system = canister.system_mut();
        if system.settings.paid_until_nanos == 0 {
            system.settings.paid_until_nanos = now;
        }
        let seconds = now.saturating_sub(system.settings.paid_until_nanos) / SECOND;
        if seconds > 0 {
            let cost = prices.idle(system, bytes, seconds);
            system.settings.paid_until_nanos += seconds * SECOND;
            system.cycles = system.cycles.saturating_sub(cost);
        }
        Ok(())
    }
}
