//! What a canister exports to the IC: its methods, its system entry points and its metadata.
//!
//! Invariants:
//! - All entry points have type `() -> ()`.
//! - A method name belongs to one kind of method only.
//! - Metadata names are unique, whatever their visibility.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The functions at which the IC enters a canister, by index in the module's function space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPoints {
    /// Methods exported as `canister_update <name>`.
    pub updates: BTreeMap<String, u32>,
    /// Methods exported as `canister_query <name>`.
    pub queries: BTreeMap<String, u32>,
    /// Methods exported as `canister_composite_query <name>`.
    pub composite_queries: BTreeMap<String, u32>,
    /// `canister_init`.
    pub init: Option<u32>,
    /// `canister_pre_upgrade`.
    pub pre_upgrade: Option<u32>,
    /// `canister_post_upgrade`.
    pub post_upgrade: Option<u32>,
    /// `canister_inspect_message`.
    pub inspect_message: Option<u32>,
    /// `canister_heartbeat`.
    pub heartbeat: Option<u32>,
    /// `canister_global_timer`.
    pub global_timer: Option<u32>,
    /// `canister_on_low_wasm_memory`.
    pub on_low_wasm_memory: Option<u32>,
}

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// Its effects are kept.
    Update,
    /// Its effects are discarded.
    Query,
    /// A query that may call other queries.
    CompositeQuery,
}

/// What the name of an exported function says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportName<'a> {
    Method(MethodKind, &'a str),
    System(SystemEntry),
    /// Starts with `canister_` and means nothing.
    Reserved,
    Other,
}

/// The entry points that are not methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemEntry {
    Init,
    PreUpgrade,
    PostUpgrade,
    InspectMessage,
    Heartbeat,
    GlobalTimer,
    OnLowWasmMemory,
}

impl<'a> ExportName<'a> {
    /// Method names are everything after the first space; they may be empty and may hold spaces.
    pub fn of(export: &'a str) -> Self {
        let Some(rest) = export.strip_prefix("canister_") else {
            return Self::Other;
        };
        match rest {
            "init" => Self::System(SystemEntry::Init),
            "pre_upgrade" => Self::System(SystemEntry::PreUpgrade),
            "post_upgrade" => Self::System(SystemEntry::PostUpgrade),
            "inspect_message" => Self::System(SystemEntry::InspectMessage),
            "heartbeat" => Self::System(SystemEntry::Heartbeat),
            "global_timer" => Self::System(SystemEntry::GlobalTimer),
            "on_low_wasm_memory" => Self::System(SystemEntry::OnLowWasmMemory),
            _ => match rest.split_once(' ') {
                Some(("update", name)) => Self::Method(MethodKind::Update, name),
                Some(("query", name)) => Self::Method(MethodKind::Query, name),
                Some(("composite_query", name)) => Self::Method(MethodKind::CompositeQuery, name),
                _ => Self::Reserved,
            },
        }
    }
}

impl EntryPoints {
    /// The method of that name, of whatever kind.
    pub fn method(&self, name: &str) -> Option<(MethodKind, u32)> {
        [MethodKind::Update, MethodKind::Query, MethodKind::CompositeQuery]
            .into_iter()
            .find_map(|kind| self.methods(kind).get(name).map(|index| (kind, *index)))
    }

    /// All methods of a kind.
    pub fn methods(&self, kind: MethodKind) -> &BTreeMap<String, u32> {
        match kind {
            MethodKind::Update => &self.updates,
            MethodKind::Query => &self.queries,
            MethodKind::CompositeQuery => &self.composite_queries,
        }
    }

    /// Whether a function exported under this name is an entry point.
    pub fn is_entry(&self, export: &str) -> bool {
        match ExportName::of(export) {
            ExportName::Method(kind, name) => self.methods(kind).contains_key(name),
            ExportName::System(entry) => self.system(entry).is_some(),
            ExportName::Reserved | ExportName::Other => false,
        }
    }

    pub(crate) fn add_method(&mut self, kind: MethodKind, name: &str, function: u32) {
        let methods = match kind {
            MethodKind::Update => &mut self.updates,
            MethodKind::Query => &mut self.queries,
            MethodKind::CompositeQuery => &mut self.composite_queries,
        };
        methods.insert(name.to_owned(), function);
    }

    pub(crate) fn add_system(&mut self, entry: SystemEntry, function: u32) {
        *(match entry {
            SystemEntry::Init => &mut self.init,
            SystemEntry::PreUpgrade => &mut self.pre_upgrade,
            SystemEntry::PostUpgrade => &mut self.post_upgrade,
            SystemEntry::InspectMessage => &mut self.inspect_message,
            SystemEntry::Heartbeat => &mut self.heartbeat,
            SystemEntry::GlobalTimer => &mut self.global_timer,
            SystemEntry::OnLowWasmMemory => &mut self.on_low_wasm_memory,
        }) = Some(function);
    }

    fn system(&self, entry: SystemEntry) -> Option<u32> {
        match entry {
            SystemEntry::Init => self.init,
            SystemEntry::PreUpgrade => self.pre_upgrade,
            SystemEntry::PostUpgrade => self.post_upgrade,
            SystemEntry::InspectMessage => self.inspect_message,
            SystemEntry::Heartbeat => self.heartbeat,
            SystemEntry::GlobalTimer => self.global_timer,
            SystemEntry::OnLowWasmMemory => self.on_low_wasm_memory,
        }
    }
}

/// Who may read a metadata section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Visibility {
    /// Everybody: `icp:public …`.
    Public,
    /// The canister's controllers: `icp:private …`.
    Private,
}

/// A custom section that the IC keeps as canister metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataSection {
    /// Its name without `icp:public ` or `icp:private `, e.g. `candid:service`. May be empty.
    pub name: String,
    /// Who may read it.
    pub visibility: Visibility,
    /// Its contents.
    pub data: Vec<u8>,
}
