//! What the rewriter did to a module, item by item, for people who want to see it.
//!
//! Gathered only on request ([`explain`](fn@crate::explain)); [`Manifest`](crate::Manifest) has the sums.

use std::collections::HashMap;

use wasmparser::{BinaryReader, Name, NameSectionReader};

use crate::abi::StableAccess;
use crate::barrier::StoreMark;
use crate::encode::{AddedFunction, Layout};
use crate::info::ModuleInfo;

/// What was injected where, and what became of each function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Explanation {
    /// Memories, globals and tables that were added.
    pub injected: Vec<Injected>,
    /// Functions that were added, by index.
    pub added: Vec<Added>,
    /// The canister's own functions that have a body, by index.
    pub functions: Vec<Rewritten>,
}

/// A memory, global or table that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// `memory`, `global` or `table`.
    pub kind: &'static str,
    /// Its index in that index space.
    pub index: u32,
    /// What it is for.
    pub purpose: &'static str,
}

/// A function that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Added {
    /// Its index.
    pub index: u32,
    /// Its name in the output's name section, without the prefix of injected names.
    pub name: String,
    /// Bytes of its locals and operators.
    pub code_bytes: usize,
}

/// One of the canister's functions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewritten {
    /// Its index, the same before and after.
    pub index: u32,
    /// Its name, if the module names it.
    pub name: Option<String>,
    /// Where its body stands in the input.
    pub offset: usize,
    /// Bytes of its locals and operators before and after.
    pub code_bytes: (usize, usize),
    /// Its stores that can be reached, in order.
    pub stores: Vec<Store>,
}

/// A store to one of the canister's own memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Store {
    /// Where the instruction stands in the input.
    pub offset: usize,
    /// The earlier store whose mark covers this one, by its place in [`Rewritten::stores`]; `None` if it kept a mark of
    /// its own.
    pub covered_by: Option<usize>,
}

impl Store {
    pub(crate) fn new(offset: usize, mark: StoreMark) -> Self {
        let covered_by = match mark {
            StoreMark::Mark { .. } => None,
            StoreMark::Covered { by } => Some(by),
        };
        Self { offset, covered_by }
    }
}

pub(crate) fn explanation(
    info: &ModuleInfo<'_>,
    layout: &Layout,
    added: &[AddedFunction],
    mut functions: Vec<Rewritten>,
) -> Explanation {
    let mut names = names(info);
    for function in &mut functions {
        function.name = names.remove(&function.index);
    }
    let item = |kind, index, purpose| Injected { kind, index, purpose };
    let mut injected = Vec::new();
    if layout.stable == StableAccess::Native {
        injected.push(item("memory", layout.stable_memory, "stable memory, 64-bit"));
    }
    injected.push(item("memory", layout.tracking_memory, "tracking: maps of touched pages, saved globals"));
    injected.push(item("global", layout.counter_global, "instruction counter, while the host runs"));
    injected.push(item("global", layout.dropped_global, "whether a passive segment was dropped"));
    injected.push(item("table", layout.slow_table, "functions of the engine, for the slow paths"));
    let first = layout.imports + u32::try_from(info.functions.len()).expect("the parser bounds functions");
    let added = (first..)
        .zip(added)
        .map(|(index, function)| Added {
            index,
            name: function.name.clone(),
            code_bytes: function.body.len(),
        })
        .collect();
    Explanation { injected, added, functions }
}

/// Function names by index, as far as the name section parses.
fn names(info: &ModuleInfo<'_>) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for section in info.custom.iter().filter(|section| section.name == "name") {
        let reader = NameSectionReader::new(BinaryReader::new(section.data, 0));
        for subsection in reader.into_iter().map_while(Result::ok) {
            if let Name::Function(map) = subsection {
                let namings = map.into_iter().map_while(Result::ok);
                names.extend(namings.map(|naming| (naming.index, naming.name.to_owned())));
            }
        }
    }
    names
}
