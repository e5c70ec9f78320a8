//! Each rule of the fault model: what it allows happens for some seed, what it forbids for none.

use std::io::IoSlice;
use std::time::Duration;

use super::*;
use crate::disk::{Cloned, Disk, DiskFile, Open, RelPath};

const KIB: usize = 1024;

fn path(path: &str) -> RelPath {
    RelPath::new(path)
}

fn write(file: &Arc<dyn DiskFile>, at: u64, bytes: &[u8]) {
    file.write_at(at, &[IoSlice::new(bytes)]).unwrap();
}

/// A disk with its directory, and a synced file of that content under a synced name.
fn with_file(bytes: &[u8]) -> (Arc<SimDisk>, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(1);
    disk.make_dir(&RelPath::root()).unwrap();
    let file = disk.open(&path("f"), Open::Create).unwrap();
    write(&file, 0, bytes);
    file.sync_data().unwrap();
    disk.sync_dir(&RelPath::root()).unwrap();
    (disk, file)
}

/// What some reading of the disk gives after power cuts with many seeds, each answer once.
fn after_power_cuts<T: Ord>(disk: &SimDisk, read: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..400).map(|seed| read(&disk.power_cut(seed))).collect()
}

#[test]
fn a_sector_is_any_of_its_versions_since_the_last_sync() {
    let (disk, file) = with_file(&[0; 4 * KIB]);
    write(&file, 512, &[9; 512]);
    file.sync_data().unwrap();
    for version in 1..=3 {
        write(&file, 512, &[version; 1024]);
    }
    let read = |disk: &SimDisk| {
        let bytes = disk.bytes("f").unwrap();
        let sectors: Vec<_> = bytes.chunks(512).map(|sector| (sector[0], sector.to_vec())).collect();
        assert!(sectors.iter().all(|(first, sector)| sector.iter().all(|byte| byte == first)), "never torn");
        assert!([0, 3, 4, 5, 6, 7].iter().all(|clean| sectors[*clean].0 == 0), "a clean sector stays");
        (sectors[1].0, sectors[2].0)
    };
    let seen = after_power_cuts(&disk, read);
    let expected: BTreeSet<_> = [9, 1, 2, 3].iter().flat_map(|a| [0, 1, 2, 3].map(|b| (*a, b))).collect();
    assert_eq!(seen, expected, "each for itself");
    file.sync_data().unwrap();
    assert_eq!(after_power_cuts(&disk, read), [(3, 3)].into());
}

#[test]
fn sectors_of_one_write_may_all_be_there_or_none() {
    let (disk, file) = with_file(&[0; 64 * KIB]);
    write(&file, 0, &[1; 64 * KIB]);
    let seen = after_power_cuts(&disk, |disk| {
        let bytes = disk.bytes("f").unwrap();
        match bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() {
            0 => "none",
            sum if sum == bytes.len() => "all",
            sum if sum < bytes.len() / 4 => "few",
            sum if sum > bytes.len() * 3 / 4 => "most",
            _ => "some",
        }
    });
    assert_eq!(seen, ["all", "few", "most", "none", "some"].into());
}

#[test]
fn the_length_and_the_content_survive_independently() {
    let (disk, file) = with_file(&[7; 700]);
    write(&file, 4096, &[8; 512]);
    write(&file, 8192, &[9; 512]);
    let seen = after_power_cuts(&disk, |disk| {
        let bytes = disk.bytes("f").unwrap();
        assert_eq!(bytes[..700], [7; 700]);
        assert!(bytes.iter().skip(700).take(324).all(|byte| *byte == 0), "cut off at the old end");
        (bytes.len(), bytes.get(4096).copied(), bytes.get(8192).copied())
    });
    let lengths: BTreeSet<_> = seen.iter().map(|(length, ..)| *length).collect();
    assert_eq!(lengths, [700, 4608, 8704].into());
    let whole: BTreeSet<_> = seen.iter().filter(|seen| seen.0 == 8704).map(|seen| (seen.1, seen.2)).collect();
    let contents = [0, 7, 8, 9].map(Some);
    let expected = contents.iter().flat_map(|a| contents.map(|b| (*a, b))).collect();
    assert_eq!(whole, expected, "zeros, stale bytes or what was written");
}

#[test]
fn stale_bytes_appear_only_beyond_the_durable_length() {
    let (disk, file) = with_file(&[7; 4 * KIB]);
    file.set_len(64 * 1024).unwrap();
    file.sync_data().unwrap();
    write(&file, 8192, &[1; 4096]);
    let seen = after_power_cuts(&disk, |disk| disk.bytes("f").unwrap()[8192]);
    assert_eq!(seen, [0, 1].into());
    disk.set_model(Model { stale_bytes: false, ..Model::default() });
    write(&file, 64 * 1024, &[1; 4096]);
    let seen = after_power_cuts(&disk, |disk| disk.bytes("f").unwrap().get(64 * 1024).copied());
    assert_eq!(seen, [None, Some(0), Some(1)].into());
}

#[test]
fn a_shorter_file_reads_as_zeros_when_it_grows_again() {
    let (disk, file) = with_file(&[7; 5000]);
    file.set_len(100).unwrap();
    file.set_len(9000).unwrap();
    let bytes = disk.bytes("f").unwrap();
    assert_eq!((bytes.len(), bytes[99], bytes[100], bytes[4999]), (9000, 7, 0, 0));
    let seen = after_power_cuts(&disk, |disk| disk.bytes("f").unwrap().len());
    assert_eq!(seen, [100, 5000, 9000].into());
    file.sync_data().unwrap();
    assert_eq!(after_power_cuts(&disk, |disk| disk.bytes("f").unwrap()), [bytes].into());
}

/// Random operations against a plain vector; what is clean survives every power cut.
#[test]
fn reads_show_what_was_written_and_syncs_keep_it() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let (disk, mut file) = with_file(&[]);
        let (mut shown, mut durable) = (Vec::new(), Vec::new());
        let mut touched = BTreeSet::new();
        for _ in 0..60 {
            match random.below(10) {
                0 => {
                    let length = random.below(20 * KIB);
                    file.set_len(length as u64).unwrap();
                    touched.extend(length.min(shown.len()) / 512..=length.max(shown.len()) / 512);
                    shown.resize(length, 0);
                }
                1 => {
                    file.sync_data().unwrap();
                    durable.clone_from(&shown);
                    touched.clear();
                }
                2 => {
                    disk.crash(Crash::Kill);
                    assert!(file.len().is_err(), "a handle of the life before");
                    file = disk.open(&path("f"), Open::Write).unwrap();
                }
                _ => {
                    let at = random.below(20 * KIB);
                    let bytes = vec![random.number() as u8; random.below(6 * KIB)];
                    file.write_at(
                        at as u64,
                        &[IoSlice::new(&bytes[..bytes.len() / 2]), IoSlice::new(&bytes[bytes.len() / 2..])],
                    )
                    .unwrap();
                    if !bytes.is_empty() {
                        touched.extend(at.min(shown.len()) / 512..=(at + bytes.len()) / 512);
                        shown.resize(shown.len().max(at + bytes.len()), 0);
                        shown[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
            assert_eq!(disk.bytes("f").unwrap(), shown, "seed {seed}");
        }
        for cut in 0..5 {
            let bytes = disk.power_cut(cut).bytes("f").unwrap();
            for (sector, expected) in durable.chunks(512).enumerate() {
                let found = bytes.get(sector * 512..sector * 512 + expected.len());
                assert!(touched.contains(&sector) || found == Some(expected), "seed {seed}, sector {sector}");
            }
        }
    }
}

#[test]
fn names_survive_as_a_prefix_or_in_any_selection_that_keeps_their_order() {
    let disk = SimDisk::new(1);
    disk.make_dir(&RelPath::root()).unwrap();
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        let file = disk.open(&path(name), Open::Create).unwrap();
        write(&file, 0, &[byte]);
        file.sync_data().unwrap();
    }
    disk.rename(&path("c"), &path("a")).unwrap();
    disk.unlink(&path("b")).unwrap();
    let read = |disk: &SimDisk| {
        disk.files()
            .into_iter()
            .map(|(name, bytes)| format!("{name}{}", bytes[0]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let prefixes = ["", "a1", "a1 b2", "a1 b2 c3", "a3 b2", "a3"].map(String::from).into();
    assert_eq!(after_power_cuts(&disk, read), prefixes);
    disk.set_model(Model { names: NamesKept::AnyInOrderPerName, ..Model::default() });
    let more = ["b2", "b2 c3", "c3", "a1 c3"].map(String::from);
    assert_eq!(after_power_cuts(&disk, read), prefixes.into_iter().chain(more).collect());
    disk.sync_dir(&RelPath::root()).unwrap();
    assert_eq!(after_power_cuts(&disk, read), ["a3".to_string()].into());
}

#[test]
fn a_rename_between_directories_is_atomic_and_synced_by_either() {
    for synced in ["x", "y"] {
        let (disk, _) = with_file(&[1]);
        for dir in ["x", "y"] {
            disk.make_dir(&path(dir)).unwrap();
        }
        disk.sync_dir(&RelPath::root()).unwrap();
        drop(disk.open(&path("x/f"), Open::Create).unwrap());
        disk.sync_dir(&path("x")).unwrap();
        disk.rename(&path("x/f"), &path("y/g")).unwrap();
        let read = |disk: &SimDisk| disk.paths().into_keys().collect::<Vec<_>>().join(" ");
        assert_eq!(after_power_cuts(&disk, read), ["f x/f", "f y/g"].map(String::from).into());
        disk.sync_dir(&path(synced)).unwrap();
        assert_eq!(after_power_cuts(&disk, read), ["f y/g".to_string()].into());
    }
}

#[test]
fn a_synced_file_may_have_no_name_and_a_named_file_no_content() {
    let disk = SimDisk::new(1);
    disk.make_dir(&RelPath::root()).unwrap();
    let file = disk.open(&path("f"), Open::Create).unwrap();
    write(&file, 0, &[1; 10]);
    let named = disk.fork();
    file.sync_data().unwrap();
    assert_eq!(after_power_cuts(&disk, |disk| disk.paths().len()), [0, 1].into());
    named.sync_dir(&RelPath::root()).unwrap();
    assert!(after_power_cuts(&named, |disk| disk.bytes("f").unwrap()).contains(&Vec::new()));
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_without_the_data() {
    let (disk, file) = with_file(&[0; 1024]);
    write(&file, 0, &[1; 1024]);
    disk.set_faults(Faults::fail(1, EIO));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(disk.bytes("f").unwrap(), [1; 1024], "reads still show it");
    file.sync_data().unwrap();
    let sectors = |disk: &SimDisk| {
        let bytes = disk.bytes("f").unwrap();
        (bytes[0], bytes[512])
    };
    let lost: BTreeSet<_> = (0..200)
        .map(|seed| {
            let (disk, file) = with_file(&[0; 1024]);
            disk.state().random = Random(seed);
            write(&file, 0, &[1; 1024]);
            disk.set_faults(Faults::fail(1, EIO));
            file.sync_data().unwrap_err();
            file.sync_data().unwrap();
            let after = after_power_cuts(&disk, sectors);
            assert_eq!(after.len(), 1, "what was lost is decided");
            after.into_iter().next().unwrap()
        })
        .collect();
    assert_eq!(lost, [(0, 0), (0, 1), (1, 0), (1, 1)].into());
    // Written again and synced, it is durable.
    write(&file, 0, &[1; 1024]);
    file.sync_data().unwrap();
    assert_eq!(after_power_cuts(&disk, sectors), [(1, 1)].into());
}

#[test]
fn between_processes_the_kernel_may_forget_what_it_could_not_write() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = with_file(&[0; 512]);
        disk.state().random = Random(seed);
        write(&file, 0, &[1; 512]);
        disk.set_faults(Faults::fail(1, EIO));
        file.sync_data().unwrap_err();
        disk.crash(Crash::Kill);
        seen.insert((disk.bytes("f").unwrap()[0], disk.power_cut(1).bytes("f").unwrap()[0]));
    }
    assert_eq!(seen, [(0, 0), (1, 0), (1, 1)].into());
}

#[test]
fn after_a_failed_sync_of_a_directory_its_names_may_be_lost_for_good() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (disk, _) = with_file(&[0]);
        disk.state().random = Random(seed);
        drop(disk.open(&path("g"), Open::Create).unwrap());
        disk.set_faults(Faults::fail(1, EIO));
        disk.sync_dir(&RelPath::root()).unwrap_err();
        disk.sync_dir(&RelPath::root()).unwrap();
        assert_eq!(disk.paths().len(), 2);
        seen.extend(after_power_cuts(&disk, |disk| disk.paths().len()));
    }
    assert_eq!(seen, [1, 2].into());
}

#[test]
fn the_last_operation_happens_in_part_and_no_later_one() {
    let mut lengths = BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = with_file(&[0; 10]);
        disk.state().random = Random(seed);
        disk.set_faults(Faults::stop(2));
        write(&file, 0, &[1; 10]);
        assert!(file.write_at(0, &[IoSlice::new(&[2; 10])]).is_err());
        assert!(disk.is_stopped());
        assert!(file.read_at(0, &mut [0]).is_err() && file.sync_data().is_err());
        assert!(disk.list(&RelPath::root()).is_err() && disk.lock(Duration::ZERO).is_err());
        assert!(disk.open(&path("f"), Open::Read).is_err() && disk.unlink(&path("f")).is_err());
        disk.crash(Crash::Kill);
        let bytes = disk.bytes("f").unwrap();
        let written = bytes.iter().filter(|byte| **byte == 2).count();
        assert!(
            bytes[..written].iter().all(|byte| *byte == 2) && bytes[written..].iter().all(|byte| *byte == 1)
        );
        lengths.insert(written);
    }
    assert_eq!(lengths, (0..=10).collect());
}

#[test]
fn a_write_that_finds_no_room_writes_what_fits() {
    let (disk, file) = with_file(&[1; 4096]);
    disk.set_room(Some(3 * 4096));
    let error = file.write_at(4096 - 10, &[IoSlice::new(&[2; 3 * 4096])]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.bytes("f").unwrap().len(), 3 * 4096);
    assert_eq!(disk.space().unwrap().free_bytes, 0);
    write(&file, 0, &[3; 3 * 4096]);
    file.set_len(1 << 40).unwrap();
    assert!(file.write_at(1 << 30, &[IoSlice::new(&[1])]).is_err(), "a hole needs room too");
    assert!(disk.clone_file(&path("f"), &path("g")).is_err());
    disk.unlink(&path("f")).unwrap();
    assert_eq!(disk.space().unwrap().free_bytes, 3 * 4096);
}

#[test]
fn a_failing_write_writes_a_prefix_and_a_failing_read_nothing() {
    let (disk, file) = with_file(&[1; 10]);
    disk.set_faults(Faults { fail: vec![(1, ENOSPC)], fail_reads: vec![(2, EIO)], ..Faults::none() });
    assert!(file.write_at(0, &[IoSlice::new(&[2; 10])]).is_err());
    assert!(file.read_at(0, &mut [0]).is_ok());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(file.read_at(0, &mut [0]).is_ok());
    assert_eq!(file.read_at(5, &mut [0; 6]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn any_part_of_a_clone_may_be_left() {
    let (disk, _) = with_file(&[1; 64 * KIB]);
    let how = disk.clone_file(&path("f"), &path("g")).unwrap();
    assert_eq!(how, Cloned::Shared);
    assert_eq!(disk.bytes("g").unwrap(), [1; 64 * KIB]);
    assert!(disk.clone_file(&path("f"), &path("g")).is_err(), "it exists");
    let seen = after_power_cuts(&disk, |disk| {
        let bytes = disk.bytes("g").ok()?;
        Some((bytes.len(), bytes.iter().step_by(512).filter(|byte| **byte == 1).count()))
    });
    assert!(seen.contains(&None) && seen.contains(&Some((0, 0))) && seen.contains(&Some((64 * KIB, 128))));
    assert!(seen.len() > 10);
    let copy = disk.open(&path("g"), Open::Write).unwrap();
    copy.sync_data().unwrap();
    disk.sync_dir(&RelPath::root()).unwrap();
    write(&copy, 0, &[2; 512]);
    assert_eq!(disk.bytes("f").unwrap(), [1; 64 * KIB], "the files are two");
    assert_eq!(after_power_cuts(&disk, |disk| disk.bytes("g").unwrap().len()), [64 * KIB].into());
}

#[test]
fn a_file_costs_what_was_written_to_it() {
    let (disk, file) = with_file(&[]);
    let length = 2 << 40;
    file.set_len(length).unwrap();
    write(&file, 1 << 30, &[3; 4096]);
    write(&file, length - 4096, &[4; 4096]);
    file.sync_data().unwrap();
    assert_eq!(file.allocated_bytes().unwrap(), 2 * 4096);
    assert_eq!(file.data_ranges(0).unwrap(), Some(1 << 30..(1 << 30) + 4096));
    assert_eq!(file.data_ranges((1 << 30) + 100).unwrap(), Some((1 << 30) + 100..(1 << 30) + 4096));
    assert_eq!(file.data_ranges((1 << 30) + 4096).unwrap(), Some(length - 4096..length));
    assert_eq!(file.data_ranges(length).unwrap(), None);
    let after = disk.power_cut(1);
    assert_eq!(after.paths()["f"], length);
    let mut page = [0; 4096];
    after.open(&path("f"), Open::Read).unwrap().read_at(length - 4096, &mut page).unwrap();
    assert_eq!(page, [4; 4096]);
}

#[test]
fn rot_stays_where_it_is() {
    let (disk, file) = with_file(&[1; 1024]);
    disk.rot("f", 600, 0x80).unwrap();
    file.sync_data().unwrap();
    for seed in 0..10 {
        let bytes = disk.power_cut(seed).bytes("f").unwrap();
        assert_eq!((bytes[600], bytes[599]), (0x81, 1));
    }
}

#[test]
fn a_disk_that_lies_loses_what_it_promised() {
    let (disk, file) = with_file(&[0; 512]);
    disk.set_faults(Faults { ignore_syncs: true, ..Faults::none() });
    write(&file, 0, &[1; 512]);
    file.sync_data().unwrap();
    drop(disk.open(&path("g"), Open::Create).unwrap());
    disk.sync_dir(&RelPath::root()).unwrap();
    let seen = after_power_cuts(&disk, |disk| (disk.bytes("f").unwrap()[0], disk.paths().len()));
    assert_eq!(seen, [(0, 1), (0, 2), (1, 1), (1, 2)].into());
}

#[test]
fn a_crash_frees_the_lock() {
    let (disk, _) = with_file(&[]);
    let lock = disk.lock(Duration::ZERO).unwrap();
    assert_eq!(disk.lock(Duration::ZERO).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    disk.crash(Crash::Kill);
    let again = disk.lock(Duration::ZERO).unwrap();
    drop(lock);
    assert!(disk.lock(Duration::ZERO).is_err());
    drop(again);
    assert!(disk.lock(Duration::ZERO).is_ok());
}

#[test]
fn the_same_seed_does_the_same() {
    let run = |seed, at| {
        let (disk, file) = with_file(&[0; 64 * KIB]);
        disk.set_tracing();
        write(&file, at, &[1; 8 * KIB]);
        disk.set_faults(Faults::fail(1, EIO));
        file.sync_data().unwrap_err();
        write(&file, at, &[2; 8 * KIB]);
        (disk.trace_hash(), disk.trace(), disk.power_cut(seed).files())
    };
    assert!(run(1, 100) == run(1, 100));
    assert!((2..6).any(|seed| run(1, 100).2 != run(seed, 100).2));
    assert_ne!(run(1, 100).0, run(1, 101).0);
}

#[test]
fn something_may_happen_in_the_midst_of_a_sync() {
    let (disk, file) = with_file(&[0; 512]);
    write(&file, 0, &[1; 512]);
    let (seen, inside) = (Arc::new(Mutex::new(None)), disk.clone());
    let target = seen.clone();
    disk.set_interrupt(Some(Box::new(move || {
        let after = after_power_cuts(&inside, |disk| disk.bytes("f").unwrap()[0]);
        *target.lock().unwrap() = Some((inside.bytes("f").unwrap()[0], after));
    })));
    file.sync_data().unwrap();
    file.sync_data().unwrap();
    assert_eq!(*seen.lock().unwrap(), Some((1, [0, 1].into())), "written, and not yet durable");
}

#[test]
fn failures_are_counted() {
    let (disk, file) = with_file(&[0; 512]);
    disk.set_faults(Faults { fail: vec![(1, EIO)], fail_reads: vec![(1, EIO)], ..Faults::none() });
    assert!(file.sync_data().is_err() && file.read_at(0, &mut [0]).is_err());
    assert!(file.sync_data().is_ok() && file.read_at(0, &mut [0]).is_ok());
    assert_eq!(disk.failures(), 2);
    disk.set_room(Some(0));
    assert!(file.write_at(4096, &[IoSlice::new(&[1])]).is_err());
    assert_eq!(disk.failures(), 3);
}

#[test]
fn syncs_of_files_and_of_directories_fail_by_their_own_count() {
    let (disk, file) = with_file(&[0; 512]);
    let faults = Faults { fail_syncs: vec![(2, EIO)], fail_dir_syncs: vec![(1, EIO)], ..Faults::none() };
    disk.set_faults(faults);
    let root = RelPath::root();
    assert!(file.sync_data().is_ok() && disk.sync_dir(&root).is_err());
    assert!(file.sync_data().is_err() && disk.sync_dir(&root).is_ok());
    assert!(file.sync_data().is_ok());
    assert_eq!(disk.failures(), 2);
}
