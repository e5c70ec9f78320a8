//! What the management canister tells of a canister: its status, history, metadata, log.
//!
//! Invariants:
//! - Nothing here changes anything.

use bedstone_engine::{Canister, MetadataVisibility, Principal, RunState, Visibility};
use ic_management_canister_types::{
    CanisterIdRecord, CanisterInfoArgs, CanisterInfoResult, CanisterLogFilter, CanisterLogRecord,
    CanisterMetadataArgs, CanisterMetadataResult, CanisterStatusResult, CanisterStatusType,
    FetchCanisterLogsArgs, FetchCanisterLogsResult, MemoryMetrics, QueryStats,
};

use super::codec::{decode, encode};
use super::settings::definite;
use super::{ManagementCall, Reply};
use crate::reject::Reject;
use crate::subnet::{Subnet, not_a_controller};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// Bytes that the IC counts for a global.
const GLOBAL_BYTES: u64 = 8;
/// Bytes that a global has in [`Canister::globals`].
const SAVED_GLOBAL_BYTES: u64 = 16;

impl Subnet {
    pub(super) fn manage_status(&mut self, call: &mut ManagementCall) -> Reply {
        self.status_reply(&call.arg, call.caller)
    }

    /// A canister's status, for its controllers and itself.
    pub(super) fn status_reply(&mut self, arg: &[u8], caller: Principal) -> Reply {
        let CanisterIdRecord { canister_id: id } = decode(arg)?;
        let chunk_bytes = self.chunks.bytes(id);
        let history_bytes = self.histories.of(id).bytes();
        let snapshot_bytes = self.snapshots.seen(id).map(|(_, snapshot)| snapshot.total_bytes()).sum::<u64>();
        let prices = self.engine.subnet().prices;
        let canister = self.controlled_or_self(id, caller)?;
        let (system, occupied) = (canister.system(), canister.occupied_bytes());
        let status = match system.settings.run_state {
            RunState::Running => CanisterStatusType::Running,
            RunState::Stopping => CanisterStatusType::Stopping,
            RunState::Stopped => CanisterStatusType::Stopped,
        };
        let memory_bytes = occupied + chunk_bytes + history_bytes + snapshot_bytes;
        let metrics = MemoryMetrics {
            canister_history_size: history_bytes.into(),
            wasm_chunk_store_size: chunk_bytes.into(),
            snapshots_size: snapshot_bytes.into(),
            ..memory_metrics(canister)
        };
        Ok(encode(CanisterStatusResult {
            status,
            ready_for_migration: false,
            version: system.version,
            settings: definite(system),
            module_hash: canister.module().map(|module| module.hash().to_vec()),
            memory_size: memory_bytes.into(),
            memory_metrics: metrics,
            cycles: system.cycles.into(),
            reserved_cycles: system.settings.reserved_cycles.into(),
            idle_cycles_burned_per_day: prices.idle(system, memory_bytes, SECONDS_PER_DAY).into(),
            query_stats: QueryStats {
                num_calls_total: 0_u8.into(),
                num_instructions_total: 0_u8.into(),
                request_payload_bytes_total: 0_u8.into(),
                response_payload_bytes_total: 0_u8.into(),
            },
        }))
    }

    /// A canister's history, for any canister.
    pub(super) fn manage_info(&mut self, call: &mut ManagementCall) -> Reply {
        let args: CanisterInfoArgs = call.decode()?;
        let id = args.canister_id;
        let history = self.histories.of(id);
        let canister = self.existing(id)?;
        let count = args.num_requested_changes.unwrap_or(0);
        Ok(encode(CanisterInfoResult {
            total_num_changes: history.total(),
            recent_changes: history.newest(usize::try_from(count).unwrap_or(usize::MAX)),
            module_hash: canister.module().map(|module| module.hash().to_vec()),
            controllers: canister.system().controllers.clone(),
        }))
    }

    /// A metadata section of a canister's module; private ones are for its controllers.
    pub(super) fn manage_metadata(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterMetadataArgs { canister_id: id, name } = call.decode()?;
        let canister = self.existing(id)?;
        let Some(module) = canister.module() else {
            let text = format!("Canister {id} has no module and hence no metadata.");
            return Err(Reject::new(406, text).into());
        };
        let section = module.manifest().metadata.iter().find(|section| section.name == name);
        let Some(section) = section else {
            let text = format!("Canister {id} has no metadata section with the name {name}.");
            return Err(Reject::new(406, text).into());
        };
        if section.visibility == MetadataVisibility::Private
            && !canister.system().controllers.contains(&call.caller)
        {
            return Err(not_a_controller(id, &canister.system().controllers, call.caller).into());
        }
        Ok(encode(CanisterMetadataResult { value: section.data.clone() }))
    }

    pub(super) fn manage_logs(&mut self, call: &mut ManagementCall) -> Reply {
        self.logs_reply(&call.arg, call.caller)
    }

    /// A canister's log, for those to whom its settings show it.
    pub(super) fn logs_reply(&mut self, arg: &[u8], caller: Principal) -> Reply {
        let args: FetchCanisterLogsArgs = decode(arg)?;
        let canister = self.existing(args.canister_id)?;
        let system = canister.system();
        if !may_read(&system.settings.log_visibility, &system.controllers, caller) {
            let text = format!("Caller {caller} is not allowed to access canister logs");
            return Err(Reject::new(406, text).into());
        }
        // Ranges end before their end.
        let wanted = |index: u64, time: u64| match args.filter {
            None => true,
            Some(CanisterLogFilter::ByIdx { start, end }) => (start..end).contains(&index),
            Some(CanisterLogFilter::ByTimestampNanos { start, end }) => (start..end).contains(&time),
        };
        let records = canister.log().records().filter(|record| wanted(record.index, record.time_nanos));
        let canister_log_records = records.map(|record| CanisterLogRecord {
            idx: record.index,
            timestamp_nanos: record.time_nanos,
            content: record.content.clone(),
        });
        Ok(encode(FetchCanisterLogsResult { canister_log_records: canister_log_records.collect() }))
    }
}

/// Whether somebody may read what settings show to some.
pub(crate) fn may_read(visibility: &Visibility, controllers: &[Principal], caller: Principal) -> bool {
    controllers.contains(&caller)
        || match visibility {
            Visibility::Controllers => false,
            Visibility::Public => true,
            Visibility::AllowedViewers(viewers) => viewers.contains(&caller),
        }
}

/// What a canister itself occupies.
fn memory_metrics(canister: &Canister) -> MemoryMetrics {
    let heap_bytes: u64 = (0..canister.memory_count()).map(|index| canister.memory_bytes(index)).sum();
    let globals = canister.globals().len() as u64 / SAVED_GLOBAL_BYTES;
    let module = canister.module();
    let sections = module.map_or(0, |module| {
        let sections = module.manifest().metadata.iter();
        sections.map(|section| (section.name.len() + section.data.len()) as u64).sum()
    });
    MemoryMetrics {
        wasm_memory_size: heap_bytes.into(),
        stable_memory_size: canister.stable_bytes().into(),
        global_memory_size: (globals * GLOBAL_BYTES).into(),
        wasm_binary_size: module.map_or(0, |module| module.bytes().len() as u64).into(),
        custom_sections_size: sections.into(),
        canister_history_size: 0_u8.into(),
        wasm_chunk_store_size: 0_u8.into(),
        snapshots_size: 0_u8.into(),
        log_memory_store_size: canister.log().bytes().into(),
    }
}
