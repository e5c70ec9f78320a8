//! States of pages, without a handler: faults are made by calling what it calls.

use super::*;

/// The budget of runs is the process's.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn closed(pages: usize, kind: Protected) -> Mapping {
    let shape = Shape { capacity: 4 * RUNS_MAX * PAGE, guard: PAGE, huge_pages: false, step: PAGE };
    let mapping = Mapping::with_len(shape, pages * PAGE).unwrap().with_protection(kind).unwrap();
    mapping.close_if_all_open().unwrap();
    mapping
}

fn sweep(mapping: &Mapping, changed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut seen = Vec::new();
    mapping
        .sweep(|page| {
            seen.push(page);
            changed(page)
        })
        .unwrap();
    seen
}

/// How many mappings the kernel has made of it.
fn kernel_mappings(mapping: &Mapping) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let (start, end) = (mapping.base().addr(), mapping.base().addr() + mapping.len());
    let parse = |text: &str| usize::from_str_radix(text, 16).unwrap();
    maps.lines()
        .filter_map(|line| line.split_whitespace().next()?.split_once('-'))
        .filter(|(from, to)| parse(from) < end && parse(to) > start)
        .count()
}

/// As many sweeps without a change as close everything.
fn settle(mapping: &Mapping) {
    for _ in 0..LIVES_BY_ITSELF {
        sweep(mapping, |_| false);
    }
    assert!(sweep(mapping, |_| false).is_empty());
}

#[test]
fn pages_that_do_not_change_are_closed() {
    let _alone = ALONE.lock();
    let mapping = closed(100, Protected::Compared);
    assert!(sweep(&mapping, |_| false).is_empty());
    mapping.write(5 * PAGE - 1, &[1, 2]);
    mapping.set_byte(50 * PAGE, 1);
    for round in 0..LIVES_BY_ITSELF {
        assert_eq!(sweep(&mapping, |_| false), [4, 5, 50], "{round}");
    }
    assert!(sweep(&mapping, |_| false).is_empty());
    assert!((0..100).all(|page| !mapping.is_open(page)));
}

#[test]
fn pages_that_change_stay_open() {
    let _alone = ALONE.lock();
    let mapping = closed(100, Protected::Compared);
    mapping.write(0, &[1; 3 * PAGE]);
    for _ in 0..2 * LIVES_BY_ITSELF {
        assert!(sweep(&mapping, |page| page == 1).contains(&1));
    }
    assert!(mapping.is_open(1) && !mapping.is_open(0) && !mapping.is_open(2));
    settle(&mapping);
}

#[test]
fn faults_in_a_row_open_pages_ahead() {
    let _alone = ALONE.lock();
    let mapping = closed(1000, Protected::Compared);
    let mut faults = 0;
    for page in 100..600 {
        if !mapping.is_open(page) {
            assert!(mapping.open_on_fault(mapping.base().addr() + page * PAGE));
            faults += 1;
        }
        assert!(!mapping.open_on_fault(mapping.base().addr() + page * PAGE), "it is open");
    }
    assert!(faults < 20, "{faults}");
    assert!(sweep(&mapping, |_| true).len() < 500 + AHEAD_MAX);
    for _ in 0..LIVES_WITH_OTHERS {
        sweep(&mapping, |_| false);
    }
    assert!(sweep(&mapping, |_| false).len() < 20, "those that faulted themselves");
}

#[test]
fn after_many_faults_everything_is_open() {
    let _alone = ALONE.lock();
    let mapping = closed(1000, Protected::Compared);
    for page in (0..2 * FAULTS_MIN + 4).step_by(2) {
        if !mapping.is_open(page) {
            assert!(mapping.open_on_fault(mapping.base().addr() + page * PAGE));
        }
    }
    assert_eq!(sweep(&mapping, |page| page < 10).len(), 1000);
    assert!(mapping.is_open(2) && !mapping.is_open(999));
    settle(&mapping);
}

#[test]
fn small_growth_is_open_and_what_shrank_is_forgotten() {
    let _alone = ALONE.lock();
    let mapping = closed(100, Protected::Compared);
    mapping.grow_to(116 * PAGE).unwrap();
    assert!(mapping.is_open(100) && mapping.is_open(115));
    mapping.grow_to(1000 * PAGE).unwrap();
    assert!(mapping.is_open(115) && !mapping.is_open(116) && !mapping.is_open(999));
    mapping.set_byte(500 * PAGE, 1);
    mapping.set_byte(99 * PAGE, 1);
    mapping.shrink_to(110 * PAGE).unwrap();
    assert_eq!(sweep(&mapping, |_| false), (99..110).collect::<Vec<_>>());
    mapping.grow_to(1000 * PAGE).unwrap();
    assert!(!mapping.is_open(500));
    assert_eq!(mapping.byte(500 * PAGE), 0);
}

#[test]
fn the_kernel_s_mappings_are_joined_again() {
    let _alone = ALONE.lock();
    let mapping = closed(4 * RUNS_MAX, Protected::Compared);
    for round in 0..20 {
        for page in (round..4000).step_by(7) {
            mapping.set_byte(page * PAGE, 1);
        }
        assert!(kernel_mappings(&mapping) > 1000);
        settle(&mapping);
        let left = kernel_mappings(&mapping);
        assert!(left <= 2, "{left} in round {round}");
    }
}

#[test]
fn the_kernel_s_mappings_are_joined_again_where_nobody_wrote_before() {
    let _alone = ALONE.lock();
    let scatter = |mapping: &Mapping, what| {
        for page in (3..mapping.pages()).step_by(9) {
            mapping.set_byte(page * PAGE, 1);
        }
        assert!(kernel_mappings(mapping) > 500, "{what}");
        match mapping.keeps_images() {
            true => mapping.close_all().unwrap(),
            false => settle(mapping),
        }
        // The guard is another, and so is a file.
        let left = kernel_mappings(mapping);
        assert!(left <= 3, "{what}: {left}");
    };
    for kind in [Protected::Compared, Protected::Imaged] {
        let grown = closed(0, kind);
        grown.grow_to(4000 * PAGE).unwrap();
        grown.close_if_many_open().unwrap();
        scatter(&grown, "grown from nothing");

        let mapped = closed(6000, kind);
        let file = crate::sys::AnonymousFile::new(3000 * PAGE as u64).unwrap();
        mapped.map_file(std::os::fd::AsFd::as_fd(&file), 3000 * PAGE).unwrap();
        mapped.close_if_all_open().unwrap();
        scatter(&mapped, "half a file");

        let both = closed(0, kind);
        both.map_file(std::os::fd::AsFd::as_fd(&file), 3000 * PAGE).unwrap();
        both.close_if_all_open().unwrap();
        both.grow_to(3100 * PAGE).unwrap();
        both.close_all().unwrap();
        both.grow_to(6000 * PAGE).unwrap();
        both.close_all().unwrap();
        scatter(&both, "a file that has grown");
    }
}

#[test]
fn without_room_for_another_run_everything_is_open() {
    let _alone = ALONE.lock();
    for kind in [Protected::Compared, Protected::Imaged] {
        let mapping = closed(4 * RUNS_MAX, kind);
        for page in 0..RUNS_MAX {
            mapping.set_byte(2 * page * PAGE, 1);
        }
        assert!(!mapping.is_open(1) && !mapping.is_open(3 * RUNS_MAX));
        mapping.set_byte(3 * RUNS_MAX * PAGE, 1);
        assert!((0..4 * RUNS_MAX).all(|page| mapping.is_open(page)));
        assert!(kernel_mappings(&mapping) <= 2);
        match kind {
            Protected::Compared => {
                let all: Vec<_> = (0..4 * RUNS_MAX).collect();
                // More changed than stays open by itself: everything does, for one more message.
                assert_eq!(sweep(&mapping, |page| page % 2 == 0), all);
                mapping.close_if_all_open().unwrap();
                assert_eq!(sweep(&mapping, |_| false), all);
                settle(&mapping);
            }
            Protected::Imaged => mapping.close_if_many_open().unwrap(),
        }
        assert!((0..4 * RUNS_MAX).all(|page| !mapping.is_open(page)));
        assert!(kernel_mappings(&mapping) <= 2);
    }
}

#[test]
fn announced_pages_are_kept_and_opened_together() {
    let _alone = ALONE.lock();
    let mapping = closed(10, Protected::Imaged);
    mapping.set_byte(2 * PAGE, 2);
    mapping.close_all().unwrap();
    mapping.begin_images();
    assert!(!mapping.open_on_fault(mapping.base().addr() + PAGE), "nobody announced it");
    assert!(mapping.protection_failed());

    mapping.expect_writes(1..4);
    assert!(mapping.open_on_fault(mapping.base().addr() + 2 * PAGE));
    assert!((1..4).all(|page| mapping.is_open(page)) && !mapping.is_open(4));
    mapping.set_byte(2 * PAGE, 9);
    let mut images = Vec::new();
    mapping.each_image(|page, bytes| images.push((page, bytes[0])));
    assert_eq!(images, [(1, 0), (2, 2), (3, 0)]);
    mapping.restore_images(0);
    assert_eq!((mapping.byte(2 * PAGE), mapping.image_count()), (2, 0));
}
