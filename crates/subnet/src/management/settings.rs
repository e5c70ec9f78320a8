//! Canisters' settings: what is asked for is checked as a whole, then all of it holds.
//!
//! `minimum_incoming_canister_call_cycles`, `log_memory_limit` and `status_visibility` are newer than the execution that is
//! reproduced here: their values are checked and have no effect, and a canister's status tells what always holds.
//!
//! Invariants:
//! - Settings that are refused leave a canister as it was.

use std::collections::{BTreeMap, BTreeSet};

use bedstone_engine::{CyclePrices, Principal, Settings, SystemState, Visibility};
use candid::Nat;
use ic_management_canister_types::{
    CanisterSettings, DefiniteCanisterSettings, EnvironmentVariable, LogVisibility, SnapshotVisibility,
    StatusVisibility, UpdateSettingsArgs,
};

use super::codec::{bad_candid, to_u64, to_u128};
use super::{Happening, ManagementCall, Reply};
use crate::lifecycle::EMPTY_REPLY;
use crate::reject::{Failure, Reject};
use crate::subnet::Subnet;

const CONTROLLERS_MAX: usize = 10;
/// Principals that a visibility may name.
const VIEWERS_MAX: usize = 10;
/// Largest memory allocation: what the IC counts in bytes has at most 48 bits.
const MEMORY_ALLOCATION_MAX: u64 = 1 << 48;
const WASM_MEMORY_LIMIT_MAX: u64 = 1 << 48;
const VARIABLES_MAX: usize = 20;
/// Longest name and longest value of a variable, in bytes.
const VARIABLE_BYTES_MAX: usize = 128;
/// What a log holds.
const LOG_BYTES: u64 = 4096;

impl Subnet {
    pub(super) fn manage_settings(&mut self, call: &mut ManagementCall) -> Reply {
        let args: UpdateSettingsArgs = call.decode()?;
        let id = args.canister_id;
        self.check_version(call, args.sender_canister_version)?;
        let canister = self.controlled(id, call.caller)?;
        let (before, memory_bytes) = (canister.system().clone(), canister.occupied_bytes());
        let changes_controllers = args.settings.controllers.is_some();
        let mut system = self.with_settings(&before, memory_bytes, args.settings)?;
        system.version += 1;
        let controllers = system.controllers.clone();
        let canister = self.existing(id)?;
        *canister.system_mut() = system;
        canister.watch_wasm_memory();
        call.keep(id, canister)?;
        if changes_controllers {
            let actor = call.actor(args.sender_canister_version);
            self.note(id, actor, Happening::Controllers { controllers }, &mut call.journal);
        }
        self.watch(id)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    /// A canister's state with other settings.
    pub(super) fn with_settings(
        &self,
        system: &SystemState,
        memory_bytes: u64,
        settings: CanisterSettings,
    ) -> Result<SystemState, Failure> {
        let mut next = system.clone();
        apply(settings, &mut next)?;
        afford(system, &next, memory_bytes, &self.engine.subnet().prices)?;
        Ok(next)
    }
}

/// Puts settings in place, or says why not.
fn apply(asked: CanisterSettings, system: &mut SystemState) -> Result<(), Reject> {
    if let Some(controllers) = asked.controllers {
        system.controllers = principals(controllers, CONTROLLERS_MAX)?;
    }
    if let Some(limit) = asked.wasm_memory_limit {
        let most = WASM_MEMORY_LIMIT_MAX;
        system.wasm_memory_limit_bytes = in_range(&limit, most, "Wasm memory limit", "[0..2^48]")?;
    }
    let settings = &mut system.settings;
    if let Some(percent) = asked.compute_allocation {
        settings.compute_allocation = in_range(&percent, 100, "ComputeAllocation", "[0..100]")?;
    }
    if let Some(bytes) = asked.memory_allocation {
        let most = MEMORY_ALLOCATION_MAX;
        settings.memory_allocation = in_range(&bytes, most, "MemoryAllocation", &format!("[0..{most}]"))?;
    }
    if let Some(seconds) = asked.freezing_threshold {
        settings.freezing_threshold = in_u64(&seconds, "Freezing threshold")?;
    }
    if let Some(limit) = asked.reserved_cycles_limit {
        let out_of_range = || range_error(&limit, "Reserved cycles limit", "of [0..2^128-1]");
        let limit = to_u128(&limit).ok_or_else(out_of_range)?;
        let reserved = settings.reserved_cycles;
        if limit < reserved {
            let text = format!(
                "Cannot set the reserved cycles limit {limit} below the reserved cycles balance of the canister {reserved}."
            );
            return Err(Reject::new(540, text));
        }
        settings.reserved_cycles_limit = limit;
    }
    if let Some(bytes) = asked.wasm_memory_threshold {
        settings.wasm_memory_threshold = in_u64(&bytes, "Wasm memory threshold")?;
    }
    if let Some(visibility) = asked.log_visibility {
        settings.log_visibility = match visibility {
            LogVisibility::Controllers => Visibility::Controllers,
            LogVisibility::Public => Visibility::Public,
            LogVisibility::AllowedViewers(viewers) => {
                Visibility::AllowedViewers(principals(viewers, VIEWERS_MAX)?)
            }
        };
    }
    if let Some(visibility) = asked.snapshot_visibility {
        settings.snapshot_visibility = match visibility {
            SnapshotVisibility::Controllers => Visibility::Controllers,
            SnapshotVisibility::Public => Visibility::Public,
            SnapshotVisibility::AllowedViewers(viewers) => {
                Visibility::AllowedViewers(principals(viewers, VIEWERS_MAX)?)
            }
        };
    }
    if let Some(StatusVisibility::AllowedViewers(viewers)) = asked.status_visibility {
        principals(viewers, VIEWERS_MAX)?;
    }
    if let Some(cycles) = asked.minimum_incoming_canister_call_cycles {
        let name = "Minimum incoming canister call cycles";
        to_u128(&cycles).ok_or_else(|| range_error(&cycles, name, "of [0..2^128-1]"))?;
    }
    if let Some(bytes) = asked.log_memory_limit {
        in_u64(&bytes, "Log memory limit")?;
    }
    if let Some(variables) = asked.environment_variables {
        settings.environment_variables = environment(variables)?;
    }
    Ok(())
}

/// Whether a canister can pay for what it asks to be set aside.
fn afford(
    before: &SystemState,
    after: &SystemState,
    memory_bytes: u64,
    prices: &CyclePrices,
) -> Result<(), Reject> {
    let needed = prices.freezing_limit(after, memory_bytes);
    let Some(missing) = needed.checked_sub(after.cycles).filter(|missing| *missing > 0) else {
        return Ok(());
    };
    let (before, after) = (&before.settings, &after.settings);
    let (code, what) = if after.compute_allocation > before.compute_allocation {
        (530, format!("compute allocation to {}%", after.compute_allocation))
    } else if after.memory_allocation > before.memory_allocation {
        (531, format!("memory allocation to {}", after.memory_allocation))
    } else {
        return Ok(());
    };
    let text = format!(
        "Cannot increase {what} due to insufficient cycles. At least {missing} additional cycles are required."
    );
    Err(Reject::new(code, text))
}

/// A set of principals, in order.
fn principals(list: Vec<Principal>, most: usize) -> Result<Vec<Principal>, Reject> {
    if list.len() > most {
        let text = format!("The number of elements exceeds maximum allowed {most}");
        return Err(bad_candid(format!("Deserialize error: {text}")));
    }
    let set: BTreeSet<Principal> = list.into_iter().collect();
    Ok(set.into_iter().collect())
}

fn environment(variables: Vec<EnvironmentVariable>) -> Result<BTreeMap<String, String>, Reject> {
    let count = variables.len();
    if count > VARIABLES_MAX {
        let text = format!("Too many environment variables: {count} (max: {VARIABLES_MAX})");
        return Err(Reject::new(408, text));
    }
    for EnvironmentVariable { name, value } in &variables {
        for (part, text) in [("name", name), ("value", value)] {
            if text.len() > VARIABLE_BYTES_MAX {
                let text = format!(
                    "Environment variable {part} \"{text}\" exceeds the maximum allowed length of {VARIABLE_BYTES_MAX}."
                );
                return Err(Reject::new(408, text));
            }
        }
    }
    let map: BTreeMap<String, String> =
        variables.into_iter().map(|variable| (variable.name, variable.value)).collect();
    if map.len() < count {
        return Err(Reject::new(408, "Duplicate environment variables are not allowed"));
    }
    Ok(map)
}

fn range_error(number: &Nat, what: &str, range: &str) -> Reject {
    // As candid writes numbers.
    Reject::new(504, format!("{what} expected to be in the range {range}, got {number}"))
}

fn in_range(number: &Nat, most: u64, what: &str, range: &str) -> Result<u64, Reject> {
    to_u64(number).filter(|number| *number <= most).ok_or_else(|| range_error(number, what, range))
}

fn in_u64(number: &Nat, what: &str) -> Result<u64, Reject> {
    in_range(number, u64::MAX, what, "of [0..2^64-1]")
}

/// The settings as a canister's status tells them.
pub(super) fn definite(system: &SystemState) -> DefiniteCanisterSettings {
    let settings: &Settings = &system.settings;
    let variables = settings.environment_variables.iter();
    DefiniteCanisterSettings {
        controllers: system.controllers.clone(),
        compute_allocation: settings.compute_allocation.into(),
        memory_allocation: settings.memory_allocation.into(),
        freezing_threshold: settings.freezing_threshold.into(),
        reserved_cycles_limit: settings.reserved_cycles_limit.into(),
        minimum_incoming_canister_call_cycles: 0_u8.into(),
        log_visibility: match settings.log_visibility.clone() {
            Visibility::Controllers => LogVisibility::Controllers,
            Visibility::Public => LogVisibility::Public,
            Visibility::AllowedViewers(viewers) => LogVisibility::AllowedViewers(viewers),
        },
        log_memory_limit: LOG_BYTES.into(),
        snapshot_visibility: match settings.snapshot_visibility.clone() {
            Visibility::Controllers => SnapshotVisibility::Controllers,
            Visibility::Public => SnapshotVisibility::Public,
            Visibility::AllowedViewers(viewers) => SnapshotVisibility::AllowedViewers(viewers),
        },
        status_visibility: StatusVisibility::Controllers,
        wasm_memory_limit: system.wasm_memory_limit_bytes.into(),
        wasm_memory_threshold: settings.wasm_memory_threshold.into(),
        environment_variables: variables
            .map(|(name, value)| EnvironmentVariable { name: name.clone(), value: value.clone() })
            .collect(),
    }
}
