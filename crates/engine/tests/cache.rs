//! Compiled modules on disk: found again, checked, replaced, let go.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bedstone_engine::{
    CompileCache, Counter, Engine, EngineConfig, InstallMode, Response, StableAccess, SubnetInfo,
};

use crate::support::{Subject, with_stack};

const KEY: [u8; 32] = [7; 32];
const ROOMY: u64 = 1 << 30;

/// Replies with what it counted so far, and traps at 3.
const COUNTER: &str = r#"
    (module
      (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
      (import "ic0" "msg_reply" (func $reply))
      (memory 1)
      (data (i32.const 16) "data")
      (global $count (mut i32) (i32.const 0))
      (func (export "canister_update count")
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (if (i32.eq (global.get $count) (i32.const 3)) (then unreachable))
        (i32.store8 (i32.const 20) (global.get $count))
        (call $append (i32.const 16) (i32.const 5))
        (call $reply)))"#;

/// An empty directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

fn engine_with(directory: &Path, config: EngineConfig, bytes_max: u64) -> Engine {
    let cache = CompileCache::open(directory, KEY, bytes_max).unwrap();
    Engine::with_cache(config, SubnetInfo::default(), Some(Arc::new(cache))).unwrap()
}

fn engine(directory: &Path) -> Engine {
    engine_with(directory, EngineConfig::default(), ROOMY)
}

/// The entries by path.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn only_entry(directory: &Path) -> PathBuf {
    let [entry] = entries(directory).try_into().expect("one module, one entry");
    entry
}

/// Tells a file from one that took its place.
fn identity(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Makes an entry look unused for so long.
fn age(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - seconds);
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Runs the counter on an engine; all that may be seen of it.
fn run(engine: &Engine) -> Vec<(Response, u64, u64)> {
    let mut subject = Subject::installed(engine, COUNTER);
    let seen = (0..4).map(|_| subject.update("count", &[])).collect::<Vec<_>>();
    seen.into_iter()
        .map(|outcome| (outcome.response, outcome.instructions, outcome.heap_pages_dirtied))
        .collect()
}

#[test]
fn an_entry_is_used_again() {
    with_stack(|| {
        let directory = directory("used");
        let without = run(&Engine::new(EngineConfig::default()).unwrap());
        assert!(matches!(&without[2].0, Response::Trapped(_)), "the trap is part of what is compared");
        assert_eq!(run(&engine(&directory)), without);
        // The form that counts through traps has an entry, too.
        let written = entries(&directory);
        assert_eq!(written.len(), 2);
        let identities = || written.iter().map(|path| identity(path)).collect::<Vec<_>>();
        let before = identities();
        written.iter().for_each(|path| age(path, 0));
        assert_eq!(run(&engine(&directory)), without);
        assert_eq!(
            (entries(&directory), identities()),
            (written.clone(), before),
            "neither was written again"
        );
        let unused = |path: &PathBuf| fs::metadata(path).unwrap().mtime() == 1_000_000_000;
        assert!(!written.iter().any(unused), "both were used");
        fs::remove_dir_all(directory).unwrap();
    });
}

#[test]
fn what_is_not_whole_is_compiled_anew_and_replaced() {
    with_stack(|| {
        let directory = directory("damaged");
        let module = wat::parse_str("(module (memory 1) (func (export \"canister_update f\")))").unwrap();
        engine(&directory).compile(&module).unwrap();
        let path = only_entry(&directory);
        let whole = fs::read(&path).unwrap();
        let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
        for at in [0, 7, 8, 39, 40, 47, 48, 60, 200, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            damaged.push((format!("byte {at} changed"), bytes));
        }
        for length in [0, 1, 8, 40, 47, 48, 49, whole.len() / 2, whole.len() - 1] {
            damaged.push((format!("cut off at {length}"), whole[..length].to_vec()));
        }
        let mut longer = whole.clone();
        longer.push(0);
        damaged.push(("a byte more".to_owned(), longer));
        for (what, bytes) in damaged {
            fs::write(&path, &bytes).unwrap();
            age(&path, 0);
            let before = identity(&path);
            engine(&directory).compile(&module).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_ne!(identity(&path), before, "{what}: replaced");
            let now = identity(&path);
            engine(&directory).compile(&module).unwrap();
            assert_eq!(identity(&path), now, "{what}: what replaced it is used");
        }
        fs::remove_dir_all(directory).unwrap();
    });
}

#[test]
fn an_entry_of_another_key_or_another_module_is_not_used() {
    with_stack(|| {
        let directory = directory("foreign");
        let parse = |text: &str| wat::parse_str(text).unwrap();
        let one = parse("(module (func (export \"canister_update one\")))");
        let two = parse("(module (func (export \"canister_update two\")))");
        let methods = |engine: &Engine, module: &[u8]| {
            let module = engine.compile(module).unwrap();
            module.manifest().entry_points.updates.keys().cloned().collect::<Vec<_>>()
        };
        methods(&engine(&directory), &one);
        let first = only_entry(&directory);
        let ones = fs::read(&first).unwrap();
        methods(&engine(&directory), &two);
        let second = entries(&directory).into_iter().find(|path| *path != first).unwrap();
        // A whole entry under another's name.
        fs::write(&second, &ones).unwrap();
        assert_eq!(methods(&engine(&directory), &two), ["two"]);
        assert_ne!(fs::read(&second).unwrap(), ones);

        let before = identity(&first);
        let other = CompileCache::open(&directory, [8; 32], ROOMY).unwrap();
        let stranger =
            Engine::with_cache(EngineConfig::default(), SubnetInfo::default(), Some(Arc::new(other)))
                .unwrap();
        assert_eq!(methods(&stranger, &one), ["one"]);
        assert_ne!(identity(&first), before, "sealed anew with the other key");
        assert_ne!(fs::read(&first).unwrap()[8..40], ones[8..40]);
        fs::remove_dir_all(directory).unwrap();
    });
}

#[test]
fn whatever_decides_about_the_code_decides_about_the_entry() {
    with_stack(|| {
        let directory = directory("names");
        let module = wat::parse_str("(module (memory 1) (func (export \"canister_update f\")))").unwrap();
        let mut expected = 0;
        for stable in [StableAccess::Native, StableAccess::Host] {
            for counter in [Counter::Global, Counter::Threaded] {
                for allow_multi_memory in [false, true] {
                    let config =
                        EngineConfig { stable, counter, allow_multi_memory, ..EngineConfig::default() };
                    engine_with(&directory, config, ROOMY).compile(&module).unwrap();
                    expected += 1;
                    assert_eq!(entries(&directory).len(), expected, "{config:?}");
                }
            }
        }
        // A custom section changes nothing but the hash of what is installed.
        let mut other = module.clone();
        other.extend([0, 2, 1, b'x']);
        engine(&directory).compile(&other).unwrap();
        assert_eq!(entries(&directory).len(), expected + 1);
        fs::remove_dir_all(directory).unwrap();
    });
}

#[test]
fn those_not_used_for_longest_go() {
    with_stack(|| {
        let directory = directory("bound");
        let module = |name: &str| {
            let text = format!("(module (memory 1) (func (export \"canister_update {name}\")))");
            wat::parse_str(text).unwrap()
        };
        engine(&directory).compile(module("a")).unwrap();
        let first = only_entry(&directory);
        let room = fs::metadata(&first).unwrap().len() * 5 / 2; // two, and not three
        let bounded = || engine_with(&directory, EngineConfig::default(), room);
        bounded().compile(module("b")).unwrap();
        let second = entries(&directory).into_iter().find(|path| *path != first).unwrap();
        age(&first, 10);
        age(&second, 5);
        bounded().compile(module("a")).unwrap(); // used: now the younger of the two
        bounded().compile(module("c")).unwrap();
        let left = entries(&directory);
        assert!(left.len() == 2 && left.contains(&first) && !left.contains(&second));

        // What is larger than the bound is not kept, and pushes nothing out.
        engine_with(&directory, EngineConfig::default(), 10).compile(module("d")).unwrap();
        assert_eq!(entries(&directory), left);
        fs::remove_dir_all(directory).unwrap();
    });
}

#[test]
fn without_a_directory_to_write_to_all_goes_on() {
    with_stack(|| {
        let directory = directory("gone");
        let engine = engine(&directory);
        fs::remove_dir_all(&directory).unwrap();
        let mut subject = Subject::installed(&engine, COUNTER);
        assert!(matches!(subject.update("count", &[]).response, Response::Reply(_)));
        assert!(!directory.exists());
    });
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let directory = directory("shared");
    for mode in [0o770, 0o702, 0o722] {
        fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        let error = CompileCache::open(&directory, KEY, ROOMY).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{mode:o}");
    }
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    assert!(CompileCache::open(&directory, KEY, ROOMY).is_ok(), "others may read: they cannot seal");
    let file = directory.join("file");
    fs::write(&file, "").unwrap();
    assert!(CompileCache::open(&file, KEY, ROOMY).is_err());
    assert!(CompileCache::open(&directory.join("missing"), KEY, ROOMY).is_err());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn many_use_one_directory_at_once() {
    let directory = directory("many");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let directory = directory.clone();
            std::thread::Builder::new()
                .stack_size(16 << 20)
                .spawn(move || {
                    for _ in 0..3 {
                        let mut subject = Subject::installed(&engine(&directory), COUNTER);
                        assert!(matches!(subject.update("count", &[]).response, Response::Reply(_)));
                        subject.install(COUNTER, InstallMode::Reinstall);
                    }
                })
                .unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    only_entry(&directory);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn every_part_of_a_large_entry_is_checked_and_used() {
    with_stack(|| {
        let directory = directory("large");
        let wasm =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../canisters/prebuilt/btreemap.wasm"));
        let wasm = wasm.unwrap();
        let installed = |engine: &Engine| {
            let mut subject = Subject::empty(engine);
            let arg = b"DIDL\0\0";
            let outcome = subject.install_module(engine.compile(&wasm).unwrap(), InstallMode::Install, arg);
            assert_eq!(outcome.response, Response::None);
            (outcome, subject.update("get", b"DIDL\0\x01\x7d\x07"))
        };
        let expected = installed(&engine(&directory));
        let path = only_entry(&directory);
        let whole = fs::read(&path).unwrap();
        assert!(whole.len() > 1 << 20, "more than a part");
        let before = identity(&path);
        assert_eq!(installed(&engine(&directory)), expected);
        assert_eq!(identity(&path), before);
        for at in [1 << 19, whole.len() - 1000] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let before = identity(&path);
            engine(&directory).compile(&wasm).unwrap();
            assert_ne!(identity(&path), before, "byte {at}: replaced");
        }
        fs::remove_dir_all(directory).unwrap();
    });
}
