//! The directory of compiled modules: made for one user alone, and shared by that user's processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bedstone::{CompileCache, Error, Network};

/// A path of this test's own, where nothing is.
fn place(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("caches-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn files(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

fn message(result: Result<CompileCache, Error>) -> String {
    match result {
        Err(Error::Machine(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Runs a canister on a network that keeps compiled modules; networks with different seeds share no engine.
fn run(cache: CompileCache, seed: u8) {
    let network = Network::builder().compile_cache(cache).seed([seed; 32]).build().unwrap();
    let canister = network.create_canister().unwrap();
    let wasm = wat::parse_str(
        r#"(module (import "ic0" "msg_reply" (func $reply))
          (func (export "canister_update f") (call $reply)))"#,
    )
    .unwrap();
    network.install(canister, &wasm, ()).unwrap();
}

#[test]
fn directory_and_key_are_the_user_s_alone() {
    let directory = place("made").join("in").join("another");
    let cache = CompileCache::open(&directory).unwrap();
    let key = directory.join("key");
    assert_eq!((mode(&directory), mode(&key)), (0o700, 0o600));
    assert_eq!(files(&directory), ["key"]);
    let bytes = fs::read(&key).unwrap();
    assert!(bytes.len() == 32 && bytes != [0; 32]);

    run(cache, 1);
    let written = files(&directory);
    assert_eq!(written.len(), 2);
    assert_eq!(mode(&directory.join(&written[0])), 0o600);
    // Opened again it has the same key: what was written is found.
    run(CompileCache::open(&directory).unwrap(), 2);
    assert_eq!(files(&directory), written);
    assert_eq!(fs::read(&key).unwrap(), bytes);
    fs::remove_dir_all(place("made")).unwrap_or_default();
}

#[test]
fn what_is_open_to_others_is_refused() {
    let directory = place("open");
    CompileCache::open(&directory).unwrap();
    set_mode(&directory, 0o777);
    assert!(message(CompileCache::open(&directory)).ends_with("others may write in it"));
    set_mode(&directory, 0o700);
    for mode in [0o640, 0o604, 0o620] {
        set_mode(&directory.join("key"), mode);
        assert!(message(CompileCache::open(&directory)).contains("others may read it"), "{mode:o}");
    }
    set_mode(&directory.join("key"), 0o600);
    for key in [&[1; 31][..], &[1; 33], &[]] {
        fs::write(directory.join("key"), key).unwrap();
        assert!(message(CompileCache::open(&directory)).contains("its key is damaged"));
    }
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "a file").unwrap();
    let text = message(CompileCache::open(&directory));
    assert!(text.contains(&directory.display().to_string()), "{text}");
    fs::remove_file(directory).unwrap();
}

#[test]
fn those_who_come_at_once_agree_on_a_key() {
    let directory = place("agree");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let directory = directory.clone();
            std::thread::spawn(move || {
                CompileCache::open(&directory).unwrap();
                fs::read(directory.join("key")).unwrap()
            })
        })
        .collect();
    let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(files(&directory), ["key"]);
    fs::remove_dir_all(directory).unwrap();
}
