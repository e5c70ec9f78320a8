//! The prebuilt canisters, Rust and Motoko, install, answer, trap cleanly and survive upgrades, in every mode with the same
//! outcomes, instruction counts and log lines, message by message, and with the same bytes in both memories.

use std::path::Path;
use std::sync::Arc;

use bedstone_engine::{Engine, Entry, InstallMode, Module, Outcome, Response, WasmMemoryPersistence};
use candid::{Nat, decode_args, encode_args, utils::ArgumentEncoder};

use crate::machine::{self, assert_same};
use crate::support::{MODES, Subject, with_stack};

/// One canister in every mode, in lockstep.
struct Fleet {
    name: &'static str,
    ships: Vec<(&'static str, Subject, Arc<Module>)>,
    /// Heap and stable memory after the last message that did not fail.
    memories: (Vec<u8>, Vec<u8>),
}

/// Compares a memory with what it must be, a piece at a time.
fn assert_memory(what: &str, bytes: u64, expected: &[u8], read: impl Fn(u64, &mut [u8])) {
    assert_eq!(bytes, expected.len() as u64, "{what}: length of a memory");
    let mut piece = vec![0; 1 << 16];
    for (index, expected) in (0..).zip(expected.chunks(piece.len())) {
        read(index << 16, &mut piece[..expected.len()]);
        assert_same(what, &piece[..expected.len()], expected);
    }
}

const UPGRADE: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
const SKIP: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: true, wasm_memory_persistence: None };
const KEEP: InstallMode = InstallMode::Upgrade {
    skip_pre_upgrade: false,
    wasm_memory_persistence: Some(WasmMemoryPersistence::Keep),
};

impl Fleet {
    fn installed(name: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../canisters/prebuilt");
        let bytes = std::fs::read(folder.join(format!("{name}.wasm"))).unwrap();
        let ship = |(mode, config)| {
            let engine = Engine::new(config).unwrap();
            let module = engine.compile(&bytes).unwrap();
            (mode, Subject::empty(&engine), module)
        };
        let mut fleet =
            Self { name, ships: MODES.into_iter().map(ship).collect(), memories: Default::default() };
        assert_eq!(fleet.install(InstallMode::Install).response, Response::None, "{name}");
        fleet
    }

    /// Does the same in every mode; outcomes and memories must be equal, and the memories unchanged if it failed.
    fn each(&mut self, what: &str, mut act: impl FnMut(&mut Subject, &Arc<Module>) -> Outcome) -> Outcome {
        let mut first: Option<Outcome> = None;
        for (mode, subject, module) in &mut self.ships {
            let what = format!("{}, {what}, {mode}", self.name);
            let outcome = act(subject, module);
            let same = first.get_or_insert_with(|| {
                if !matches!(outcome.response, Response::Trapped(_)) {
                    self.memories = (machine::heap(&subject.canister), machine::stable(&subject.canister));
                }
                outcome.clone()
            });
            assert_eq!(*same, outcome, "{what}");
            let canister = &subject.canister;
            let (heap, stable) = &self.memories;
            assert_memory(&what, canister.heap_bytes(), heap, |at, into| canister.read_heap(at, into));
            assert_memory(&what, canister.stable_bytes(), stable, |at, into| canister.read_stable(at, into));
        }
        first.expect("there are modes")
    }

    fn install(&mut self, mode: InstallMode) -> Outcome {
        let nothing = encode_args(()).unwrap();
        self.each(&format!("{mode:?}"), |subject, module| {
            subject.install_module(Arc::clone(module), mode, &nothing)
        })
    }

    fn upgrade(&mut self, mode: InstallMode) {
        let outcome = self.install(mode);
        assert_eq!(outcome.response, Response::None, "{}", self.name);
    }

    fn execute(&mut self, entry: Entry<'_>, args: impl ArgumentEncoder) -> Outcome {
        let args = encode_args(args).unwrap();
        self.each(&format!("{entry:?}"), |subject, _| subject.execute(entry, &args))
    }

    fn reply(&mut self, entry: Entry<'_>, args: impl ArgumentEncoder) -> Vec<u8> {
        match self.execute(entry, args).response {
            Response::Reply(bytes) => bytes,
            other => panic!("{}, {entry:?}: {other:?}", self.name),
        }
    }

    /// A call as an update, with its one result.
    fn update<T: for<'a> candid::Deserialize<'a> + candid::CandidType>(
        &mut self,
        method: &str,
        args: impl ArgumentEncoder,
    ) -> T {
        decode_args::<(T,)>(&self.reply(Entry::Update(method), args)).unwrap().0
    }

    /// A query as a query, with its one result.
    fn query<T: for<'a> candid::Deserialize<'a> + candid::CandidType>(
        &mut self,
        method: &str,
        args: impl ArgumentEncoder,
    ) -> T {
        decode_args::<(T,)>(&self.reply(Entry::Query(method), args)).unwrap().0
    }

    /// An update without a result.
    fn tell(&mut self, method: &str, args: impl ArgumentEncoder) {
        decode_args::<()>(&self.reply(Entry::Update(method), args)).unwrap();
    }

    /// An update that traps, with a text in its fault.
    fn traps(&mut self, method: &str, args: impl ArgumentEncoder, text: &str) {
        match self.execute(Entry::Update(method), args).response {
            Response::Trapped(fault) => {
                assert!(fault.detail.contains(text), "{}, {method}: {fault:?}", self.name)
            }
            other => panic!("{}, {method}: {other:?}", self.name),
        }
    }
}

/// Entries for `insert_many`, the keys spread over the whole range.
fn entries(from: u128, count: u128) -> serde_bytes_like::Bytes {
    let entry = |key: u128| {
        [key.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes(), key.to_le_bytes()]
    };
    serde_bytes_like::Bytes((from..from + count).flat_map(entry).flatten().collect())
}

/// A Candid blob.
mod serde_bytes_like {
    use candid::types::{Serializer, Type, TypeInner};

    pub struct Bytes(pub Vec<u8>);

    impl candid::CandidType for Bytes {
        fn _ty() -> Type {
            TypeInner::Vec(TypeInner::Nat8.into()).into()
        }

        fn idl_serialize<S: Serializer>(&self, serializer: S) -> Result<(), S::Error> {
            serializer.serialize_blob(&self.0)
        }
    }
}

/// The maps: `btreemap`, its twin on the heap, and the one on another stable library.
fn map(name: &'static str, survives: bool, upgrade: impl Fn(&mut Fleet)) {
    let mut fleet = Fleet::installed(name);
    let nat = |number: u128| Nat::from(number);
    assert_eq!(fleet.update::<Option<Nat>>("insert", (nat(5), nat(50))), None);
    assert_eq!(fleet.update::<Option<Nat>>("insert", (nat(5), nat(51))), Some(nat(50)));
    for from in [10, 2010, 0] {
        fleet.update::<u64>("insert_many", (entries(from, 2000),));
    }
    assert_eq!(fleet.query::<u64>("len", ()), 4011);
    fleet.traps("insert_many", (serde_bytes_like::Bytes(vec![1; 33]),), "");
    fleet.traps("insert", (nat(1),), "");
    assert_eq!(fleet.query::<Option<Nat>>("get", (nat(5),)), Some(nat(51)));
    assert_eq!(fleet.update::<Option<Nat>>("get", (nat(6),)), None);
    upgrade(&mut fleet);
    assert_eq!(fleet.query::<u64>("len", ()), if survives { 4011 } else { 0 });
    assert_eq!(fleet.query::<Option<Nat>>("get", (nat(5),)), survives.then(|| nat(51)));
    fleet.update::<u64>("insert_many", (entries(7000, 100),));
    fleet.upgrade(InstallMode::Reinstall);
    assert_eq!(fleet.query::<u64>("len", ()), 0);
}

#[test]
fn btreemap() {
    with_stack(|| {
        map("btreemap", true, |fleet| {
            fleet.upgrade(UPGRADE);
            fleet.upgrade(SKIP);
        });
    });
}

#[test]
fn btreemap_heap() {
    with_stack(|| map("btreemap-heap", false, |fleet| fleet.upgrade(UPGRADE)));
}

/// Its upgrade needs its `pre_upgrade`: skipping it traps, and leaves all in place.
#[test]
fn stable_memory() {
    with_stack(|| {
        map("stable-memory", true, |fleet| {
            assert!(matches!(fleet.install(SKIP).response, Response::Trapped(_)));
            fleet.upgrade(UPGRADE);
        });
    });
}

#[test]
fn structures() {
    with_stack(|| {
        let mut fleet = Fleet::installed("structures");
        for value in 0..20_u64 {
            fleet.update::<u64>("vec_push", (value * 3,));
        }
        fleet.tell("vec_set", (4_u64, 99_u64));
        for line in ["first", "second", &"long ".repeat(500)] {
            fleet.update::<u64>("log_append", (line,));
        }
        fleet.update::<String>("cell_set", ("a cell".to_owned(),));
        fleet.tell("heap_set", (77_u64,));
        fleet.tell("write_pages", (1000_u32,));
        let before = fleet.reply(Entry::Query("scratch"), ());
        fleet.traps("trap_after_writing", (1000_u32,), "");
        fleet.traps("trap_after_writing", (1500_u32,), "");
        fleet.traps("vec_set", (1000_u64, 1_u64), "");
        assert_eq!(fleet.reply(Entry::Query("scratch"), ()), before);
        let outcome = fleet.execute(Entry::Update("log_line"), ("a line",));
        assert_eq!(outcome.log, [b"a line"]);
        fleet.tell("set_certified", (serde_bytes_like::Bytes(vec![7; 32]),));
        fleet.traps("set_certified", (serde_bytes_like::Bytes(vec![7; 33]),), "");
        assert_eq!(fleet.query::<u64>("version", ()), fleet.ships[0].1.canister.system().version);
        assert_eq!(fleet.query::<u64>("time", ()), 1_700_000_000_000_000_000);
        assert_eq!(fleet.query::<candid::Principal>("whoami", ()), candid::Principal::anonymous());
        fleet.reply(Entry::Query("balance"), ());
        fleet.upgrade(UPGRADE);
        assert_eq!(fleet.query::<Option<u64>>("vec_get", (4_u64,)), Some(99));
        assert_eq!(fleet.query::<u64>("vec_len", ()), 20);
        assert_eq!(fleet.query::<Option<String>>("log_read", (1_u64,)), Some("second".to_owned()));
        assert_eq!(fleet.query::<u64>("log_len", ()), 3);
        assert_eq!(fleet.query::<String>("cell_get", ()), "a cell");
        assert_eq!(fleet.query::<u64>("heap_get", ()), 77);
        fleet.tell("write_pages", (10_u32,));
    });
}

fn motoko_counter(name: &'static str, upgrade: InstallMode, refused: Option<InstallMode>) {
    let mut fleet = Fleet::installed(name);
    let nat = |number: u64| Nat::from(number);
    assert_eq!(fleet.update::<Nat>("inc", ()), nat(1));
    fleet.tell("set", (nat(1 << 40),));
    assert_eq!(fleet.update::<Nat>("inc", ()), nat((1 << 40) + 1));
    assert_eq!(fleet.update::<Nat>("fill", (nat(20_000),)), nat(20_000));
    fleet.traps("boom", (), "boom");
    if let Some(mode) = refused {
        assert!(matches!(fleet.install(mode).response, Response::Trapped(_)));
    }
    for round in 0..2 {
        assert_eq!(fleet.query::<Nat>("get", ()), nat((1 << 40) + 1 + round));
        assert_eq!(fleet.query::<Nat>("size", ()), nat(20_000));
        assert_eq!(fleet.query::<Option<u64>>("item", (nat(1234),)), Some(1234 * 1234));
        fleet.upgrade(upgrade);
        fleet.update::<Nat>("inc", ());
    }
    fleet.traps("boom", (), "boom");
    assert_eq!(fleet.query::<Option<u64>>("item", (nat(19_999),)), Some(19_999 * 19_999));
    fleet.reply(Entry::Query("info"), ());
}

#[test]
fn motoko_counter_with_enhanced_persistence() {
    with_stack(|| motoko_counter("motoko-counter", KEEP, Some(UPGRADE)));
}

#[test]
fn motoko_counter_with_classical_persistence() {
    with_stack(|| motoko_counter("motoko-counter-classic", UPGRADE, Some(KEEP)));
}

fn motoko_region(name: &'static str, upgrade: InstallMode) {
    let mut fleet = Fleet::installed(name);
    assert_eq!(fleet.update::<u64>("grow", (2_u64,)), 0);
    fleet.tell("storeNat64", (131_064_u64, 0xfeed_u64));
    fleet.traps("storeNat64", (131_065_u64, 1_u64), "");
    fleet.tell("storeBlob", (4_000_u64, serde_bytes_like::Bytes((0..5000).map(|byte| byte as u8).collect())));
    fleet.update::<u64>("fill", (Nat::from(3000_u64),));
    fleet.traps("boom", (60_u64,), "boom");
    fleet.upgrade(upgrade);
    assert_eq!(fleet.query::<u64>("size", ()), 2);
    assert_eq!(fleet.query::<u64>("loadNat64", (131_064_u64,)), 0xfeed);
    assert_eq!(fleet.query::<u64>("loadNat64", (8 * 2999_u64,)), 2999 * 2_654_435_761 + 1);
    fleet.reply(Entry::Query("loadBlob"), (8000_u64, Nat::from(1000_u64)));
    assert_eq!(fleet.update::<u64>("grow", (1_u64,)), 2);
    fleet.upgrade(upgrade);
    assert_eq!(fleet.query::<u64>("size", ()), 3);
}

#[test]
fn motoko_region_with_enhanced_persistence() {
    with_stack(|| motoko_region("motoko-region", KEEP));
}

#[test]
fn motoko_region_with_classical_persistence() {
    with_stack(|| motoko_region("motoko-region-classic", UPGRADE));
}
