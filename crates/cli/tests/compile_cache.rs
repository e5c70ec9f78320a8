//! Where the command keeps compiled canisters, and that it works without.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::support::{Ran, Room};

fn run(room: &Room, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    room.run_with(arguments, |command| {
        command.env_remove("BEDSTONE_COMPILE_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        command.envs(variables.iter().copied());
    })
}

fn count(room: &Room, directory: &str) -> usize {
    fs::read_dir(room.path(directory)).map_or(0, Iterator::count)
}

#[test]
fn compiled_canisters_are_kept_where_they_are_wanted() {
    let room = Room::with_tiny();
    let home = room.path("home").display().to_string();
    let caches = room.path("caches").display().to_string();
    let install = |variables: &[(&str, &str)], arguments: &[&str]| {
        let all = [&["install", "tiny", "tiny.wat", "--mode", "reinstall"], arguments].concat();
        let all = if count(&room, ".bedstone") == 0 {
            [&["install", "tiny", "tiny.wat"], arguments].concat()
        } else {
            all
        };
        let ran = run(&room, variables, &all);
        assert_eq!((ran.code, ran.stderr.contains("warning")), (0, false), "{ran:?}");
    };
    // A key and an entry.
    install(&[("HOME", &home)], &[]);
    assert_eq!(count(&room, "home/.cache/bedstone"), 2);
    let called = run(&room, &[("HOME", &home)], &["status"]);
    assert_eq!(called.code, 0);
    assert_eq!(count(&room, "home/.cache/bedstone"), 2, "found again");

    install(&[("HOME", &home), ("XDG_CACHE_HOME", &caches)], &[]);
    assert_eq!(count(&room, "caches/bedstone"), 2);
    install(&[("HOME", &home), ("XDG_CACHE_HOME", &caches)], &["--compile-cache", "here"]);
    assert_eq!((count(&room, "here"), count(&room, "caches/bedstone")), (2, 2));
    install(&[("HOME", &home), ("BEDSTONE_COMPILE_CACHE", "there")], &[]);
    assert_eq!(count(&room, "there"), 2);

    fs::remove_dir_all(room.path("home")).unwrap();
    install(&[("HOME", &home), ("BEDSTONE_COMPILE_CACHE", "off")], &[]);
    install(&[("HOME", &home)], &["--compile-cache", "off"]);
    install(&[], &[]);
    assert!(!room.path("home").exists() && !room.path("off").exists());
}

#[test]
fn every_compiler_gives_the_same() {
    let room = Room::with_tiny();
    let mut replies = Vec::new();
    for compiler in ["optimising", "baseline", "both"] {
        let mode = if replies.is_empty() { "install" } else { "reinstall" };
        room.ok(["install", "tiny", "tiny.wat", "--mode", mode, "--compiler", compiler]);
        let mut told = room.json(["status", "tiny", "--json", "--compiler", compiler]);
        let version = told.as_object_mut().unwrap().remove("version").unwrap();
        assert_eq!(version, replies.len() + 1);
        replies.push(told);
    }
    assert!(replies.iter().all(|told| *told == replies[0]), "{replies:?}");
}

#[test]
fn a_cache_that_is_open_to_others_is_left_alone() {
    let room = Room::with_tiny();
    fs::create_dir(room.path("shared")).unwrap();
    fs::set_permissions(room.path("shared"), Permissions::from_mode(0o777)).unwrap();
    let ran = run(&room, &[], &["install", "tiny", "tiny.wat", "--compile-cache", "shared"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected = "warning: compiled modules cannot be kept in shared: it belongs to somebody else, or others may write in it; \
                    --compile-cache names another place";
    assert!(ran.stderr.contains(expected), "{ran:?}");
    assert_eq!(count(&room, "shared"), 0);
}
