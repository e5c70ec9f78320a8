//! What tests of snapshots share: canisters that live in RAM or in a store, and pictures of all that a snapshot holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedstone_engine::store::{Change, Config, FileDisk, Store};
use bedstone_engine::{
    CallInfo, Canister, Engine, Entry, InstallMode, Installation, Keeping, Message, Module, Principal,
    Response, Snapshot, SystemState,
};

use crate::machine::{self, Dice, Op, Step, assert_same};

pub const ID: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 7, 1, 1];
pub const FORK: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 8, 1, 1];
pub const KEY: &[u8] = b"snapshot/one";
pub const TIME: u64 = 1_700_000_000_000_000_000;

/// Where the canisters of a test live.
pub struct Home {
    pub engine: Engine,
    pub store: Option<Store>,
    pub directory: PathBuf,
}

impl Home {
    pub fn new(engine: Engine, name: Option<&str>) -> Self {
        let place = format!("bedstone-snapshots-{}-{}", std::process::id(), name.unwrap_or_default());
        let directory = std::env::temp_dir().join(place);
        let _ = std::fs::remove_dir_all(&directory);
        let mut home = Self { engine, store: None, directory };
        if name.is_some() {
            home.open();
        }
        home
    }

    pub fn open(&mut self) {
        let mut config = Config::new([7; 32]);
        config.background = false;
        let disk = Arc::new(FileDisk::new(self.directory.clone()));
        self.store = Some(Store::open_or_create(disk, &config).unwrap().0);
    }

    /// The process ends and another begins. What was in memory must have been dropped; nothing happens in RAM.
    pub fn kill(&mut self) {
        if self.store.take().is_some() {
            self.open();
        }
    }

    /// Does something in one change.
    pub fn change<R>(&self, work: impl FnOnce(&mut Keeping<'_>) -> R) -> R {
        let Some(store) = &self.store else { return work(&mut Keeping::InRam) };
        let mut change = store.begin();
        let result = work(&mut Keeping::InStore { store, change: &mut change });
        self.append(change);
        result
    }

    pub fn append(&self, change: Change) {
        let store = self.store.as_ref().unwrap();
        store.wait_durable(store.append(change).unwrap()).unwrap();
    }

    pub fn canister(&self, id: [u8; 10], wat: &str) -> Canister {
        let mut canister = Canister::new(&self.engine, system(id)).unwrap();
        let installation = Installation {
            mode: InstallMode::Install,
            module: self.module(wat),
            arg: &[],
            caller: Principal::anonymous(),
            time_nanos: TIME,
        };
        assert_eq!(canister.install(&installation).unwrap().response, Response::None);
        self.save(&mut canister);
        canister
    }

    pub fn save(&self, canister: &mut Canister) {
        if let Some(store) = &self.store {
            let mut change = store.begin();
            canister.save(store, &mut change).unwrap();
            self.append(change);
        }
    }

    pub fn module(&self, wat: &str) -> Arc<Module> {
        self.engine.compile(wat::parse_str(wat).unwrap()).unwrap()
    }

    pub fn update(&self, canister: &mut Canister, method: &str, arg: &[u8]) {
        let caller = Principal::anonymous();
        let message = Message {
            entry: Entry::Update(method),
            arg,
            caller,
            time_nanos: TIME,
            call: CallInfo::default(),
        };
        let outcome = match &self.store {
            None => canister.execute(&message).unwrap(),
            Some(store) => {
                let mut change = store.begin();
                let outcome = canister.execute_into(&message, store, &mut change).unwrap();
                self.append(change);
                outcome
            }
        };
        assert!(matches!(outcome.response, Response::Reply(_)), "{outcome:?}");
    }

    pub fn take(&self, canister: &mut Canister, key: &[u8]) -> Snapshot {
        self.change(|keeping| {
            let snapshot = canister.take_snapshot(TIME, keeping).unwrap().unwrap();
            if let Keeping::InStore { change, .. } = keeping {
                snapshot.put(key, change);
            }
            snapshot
        })
    }

    pub fn load(&self, canister: &mut Canister, snapshot: &Snapshot) {
        let module = self.engine.compile(snapshot.module(self.store.as_ref()).unwrap()).unwrap();
        snapshot.fits(&module).unwrap();
        self.change(|keeping| canister.load_snapshot(snapshot, module, keeping).unwrap());
    }

    /// The canister and its snapshot, after a kill.
    pub fn again(&mut self, canister: Canister, snapshot: Snapshot) -> (Canister, Snapshot) {
        if self.store.is_none() {
            return (canister, snapshot);
        }
        drop((canister, snapshot));
        self.kill();
        (self.reload(ID), self.snapshots().pop().unwrap().1)
    }

    pub fn reload(&self, id: [u8; 10]) -> Canister {
        Canister::load(&self.engine, self.store.as_ref().unwrap(), &id).unwrap()
    }

    pub fn snapshots(&self) -> Vec<(Vec<u8>, Snapshot)> {
        let mut all = Vec::new();
        let store = self.store.as_ref().unwrap();
        Snapshot::each(store, b"snapshot/", |key, snapshot| {
            all.push((key.to_vec(), snapshot));
            Ok(())
        })
        .unwrap();
        all
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub fn system(id: [u8; 10]) -> SystemState {
    SystemState::new(Principal::from_slice(&id), vec![Principal::anonymous()])
}

/// Everything of a canister that a snapshot holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub heaps: Vec<Vec<u8>>,
    pub stable: Vec<u8>,
    pub globals: Vec<u8>,
    pub certified_data: Vec<u8>,
}

pub fn picture(canister: &Canister) -> Picture {
    let heap = |index| {
        let mut bytes = vec![0; canister.memory_bytes(index) as usize];
        canister.read_memory(index, 0, &mut bytes);
        bytes
    };
    Picture {
        heaps: (0..canister.memory_count()).map(heap).collect(),
        stable: machine::stable(canister),
        globals: canister.globals(),
        certified_data: canister.system().certified_data.clone(),
    }
}

pub fn check(what: &str, canister: &Canister, expected: &Picture) {
    let found = picture(canister);
    for (index, (found, expected)) in found.heaps.iter().zip(&expected.heaps).enumerate() {
        assert_same(&format!("{what}: memory {index}"), found, expected);
    }
    assert_same(&format!("{what}: stable memory"), &found.stable, &expected.stable);
    assert!(found == *expected, "{what}: {:?} must be {:?}", found.globals, expected.globals);
}

pub fn program(dice: &mut Dice) -> Vec<u8> {
    let mut program: Vec<Step> = (0..1 + dice.below(12))
        .map(|_| match dice.below(8) {
            0 => (Op::Grow, dice.below(2), 0, 0),
            1 => (Op::HeapGrow, dice.below(2), 0, 0),
            2 => (Op::SetGlobals, dice.below(1 << 40), 0, 0),
            3 => (Op::Store8, dice.below(65_536), dice.below(256), 0),
            _ => (Op::Write, dice.below(4) * 60_000, dice.below(60_000), dice.below(5000)),
        })
        .collect();
    program.insert(0, (Op::Grow, 4 * u64::from(dice.below(3) == 0) + 4, 0, 0));
    machine::encode(&program)
}

/// Copies a directory as another process finds it now.
pub fn copy_directory(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
