//! The names of the simulated disk: what `list` shows, and what may be left of it after a power cut.
//!
//! - What was done to names is remembered in order until a directory that it touched is synced.
//! - An operation that touches two directories is durable in both or in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Dir(usize),
}

type Names = BTreeMap<Arc<str>, Node>;

#[derive(Clone, Default)]
pub(super) struct SimDir {
    durable: Names,
    visible: Names,
}

/// The new meaning of a name in a directory.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) dir: usize,
    pub(super) name: Arc<str>,
    pub(super) node: Option<Node>,
}

/// Which of the operations on names since the last sync survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesKept {
    /// In each directory those up to some moment.
    Prefix,
    /// Any, except that no name keeps a later one without the earlier ones.
    AnyInOrderPerName,
}

#[derive(Clone)]
pub(super) struct Tree {
    dirs: Vec<SimDir>,
    /// Operations since the last sync; the changes of one are made together.
    unsynced: Vec<Vec<NameChange>>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { dirs: vec![SimDir::default()], unsynced: Vec::new() }
    }

    pub(super) fn add_dir(&mut self) -> Node {
        self.dirs.push(SimDir::default());
        Node::Dir(self.dirs.len() - 1)
    }

    pub(super) fn dirs(&self) -> usize {
        self.dirs.len()
    }

    pub(super) fn node(&self, dir: usize, name: &str) -> Option<Node> {
        self.dirs[dir].visible.get(name).copied()
    }

    pub(super) fn names(&self, dir: usize) -> impl Iterator<Item = (&str, Node)> {
        self.dirs[dir].visible.iter().map(|(name, node)| (&**name, *node))
    }

    /// Every file that has a name, or had one when a directory was last synced; some of them twice.
    pub(super) fn named_files(&self) -> impl Iterator<Item = u64> {
        let nodes = self.dirs.iter().flat_map(|dir| dir.durable.values().chain(dir.visible.values()));
        let unsynced = self.unsynced.iter().flatten().filter_map(|change| change.node.as_ref());
        nodes.chain(unsynced).filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Dir(_) => None,
        })
    }

    pub(super) fn change(&mut self, changes: Vec<NameChange>) {
        for change in &changes {
            set(&mut self.dirs[change.dir].visible, change);
        }
        self.unsynced.push(changes);
    }

    /// Makes the names in a directory durable, and what else those operations did.
    pub(super) fn sync(&mut self, dir: usize) {
        let mut synced = vec![false; self.dirs.len()];
        synced[dir] = true;
        let mut kept = Vec::new();
        for changes in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if changes.iter().any(|change| synced[change.dir]) {
                changes.iter().for_each(|change| synced[change.dir] = true);
                kept.push(changes);
            } else {
                self.unsynced.push(changes);
            }
        }
        self.unsynced.reverse();
        for change in kept.into_iter().rev().flatten() {
            set(&mut self.dirs[change.dir].durable, &change);
        }
    }

    /// A sync that fails: some of the operations reach the disk, and all of those in this directory count as
    /// done.
    pub(super) fn fail_sync(&mut self, dir: usize, kept: NamesKept, random: &mut Random) {
        let (here, elsewhere) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|changes| changes.iter().any(|change| change.dir == dir));
        self.unsynced = elsewhere;
        self.persist_some(here, kept, random);
    }

    /// The power fails: what is shown becomes what the disk held at that moment.
    pub(super) fn power_cut(&mut self, kept: NamesKept, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        self.persist_some(unsynced, kept, random);
        for dir in &mut self.dirs {
            if dir.visible != dir.durable {
                dir.visible.clone_from(&dir.durable);
            }
        }
    }

    fn persist_some(&mut self, unsynced: Vec<Vec<NameChange>>, kept: NamesKept, random: &mut Random) {
        let mut left: Vec<_> = (0..self.dirs.len())
            .map(|dir| {
                let touching =
                    unsynced.iter().filter(|changes| changes.iter().any(|change| change.dir == dir));
                random.below(touching.count() + 1)
            })
            .collect();
        let share = [10, 50, 90][random.below(3)];
        let mut dropped = BTreeSet::new();
        for changes in unsynced {
            let persists = match kept {
                NamesKept::Prefix => changes.iter().all(|change| left[change.dir] > 0),
                NamesKept::AnyInOrderPerName => {
                    changes.iter().all(|change| !dropped.contains(&(change.dir, change.name.clone())))
                        && random.below(100) < share
                }
            };
            for dir in changes.iter().map(|change| change.dir).collect::<BTreeSet<_>>() {
                left[dir] = if persists { left[dir].saturating_sub(1) } else { 0 };
            }
            for change in changes {
                if persists {
                    set(&mut self.dirs[change.dir].durable, &change);
                } else {
                    dropped.insert((change.dir, change.name));
                }
            }
        }
    }
}

fn set(names: &mut Names, change: &NameChange) {
    match change.node {
        Some(node) => names.insert(change.name.clone(), node),
        None => names.remove(&change.name),
    };
}
