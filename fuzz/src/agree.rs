//! Every way of running a canister gives the same outcomes, charges, bytes and globals, message by message.

use bedstone_engine::{Canister, Entry, Response};

use crate::Numbers;
use crate::canister::{MODES, Seen, bare, install, overflowed, send};
use crate::generate;

/// Messages per case.
const MESSAGES: u64 = 6;

/// One case; `false` if the module was refused.
pub fn run(seed: u64) -> bool {
    let Some(wasm) = generate::canister(seed) else { return false };
    let mut canisters: Vec<Canister> = Vec::new();
    let mut first = None;
    for (mode, name) in MODES.iter().enumerate() {
        let Some((canister, outcome)) = install(mode, &wasm) else {
            assert!(canisters.is_empty(), "seed {seed}: refused in {name:?} only");
            return false;
        };
        if overflowed(&outcome) {
            return true;
        }
        let seen = (bare(outcome), Seen::of(&canister));
        check(seed, "install", name, first.get_or_insert_with(|| seen.clone()), &seen);
        canisters.push(canister);
    }
    let mut numbers = Numbers::new(seed ^ 0xa9ee);
    for index in 0..MESSAGES {
        let entry = match numbers.below(5) {
            0 | 1 => Entry::Update(generate::METHODS[0]),
            2 => Entry::Update(generate::METHODS[1]),
            3 => Entry::Update(generate::METHODS[2]),
            _ => Entry::Query(generate::METHODS[2]),
        };
        let mut first = None;
        for (canister, name) in canisters.iter_mut().zip(&MODES) {
            let before = Seen::of(canister);
            let outcome = send(canister, entry);
            if overflowed(&outcome) {
                return true;
            }
            let after = Seen::of(canister);
            check_effects(seed, index, entry, &outcome, &before, &after);
            let seen = (bare(outcome), after);
            check(seed, &format!("message {index}"), name, first.get_or_insert_with(|| seen.clone()), &seen);
        }
    }
    true
}

fn check<T: PartialEq + std::fmt::Debug>(
    seed: u64,
    when: &str,
    mode: &impl std::fmt::Debug,
    first: &T,
    this: &T,
) {
    if first != this {
        let (first, this) = (format!("{first:?}"), format!("{this:?}"));
        let at = first.bytes().zip(this.bytes()).position(|(a, b)| a != b).unwrap_or(0);
        let cut = |text: &str| text.chars().skip(at.saturating_sub(200)).take(500).collect::<String>();
        panic!("seed {seed}, {when}, {mode:?}: expected …{}… but got …{}…", cut(&first), cut(&this));
    }
}

/// What an outcome says of pages is what a comparison of whole memories finds.
fn check_effects(
    seed: u64,
    index: u64,
    entry: Entry<'_>,
    outcome: &bedstone_engine::Outcome,
    before: &Seen,
    after: &Seen,
) {
    let kept = !matches!(outcome.response, Response::Trapped(_))
        && matches!(entry, Entry::Update(name) if name != generate::METHODS[2]);
    if !kept {
        assert_eq!(before, after, "seed {seed}, message {index}: {entry:?} left a trace");
        return;
    }
    let heap = before.heap_pages_changed(after);
    assert_eq!(outcome.heap_pages_dirtied, heap, "seed {seed}, message {index}: heap pages");
    let stable = before.stable_pages_changed(after);
    assert!(
        outcome.stable_pages_dirtied >= stable,
        "seed {seed}, message {index}: {stable} stable pages changed"
    );
}
