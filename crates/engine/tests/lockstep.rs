//! Random programs, many of which fail, run by the same canister in every mode: outcomes are equal, and after each message
//! all memories are, byte for byte, what a model says.

use bedstone_engine::Entry;

use crate::machine::{Dice, Model, Op, Step, WASM_PAGE};
use crate::support::with_stack;
use crate::twins::Twins;

/// Messages per kind of heap.
const MESSAGES: u64 = 200;
/// Largest memories: enough for many pages, few enough to be compared after each message.
const WASM_PAGES_MAX: u64 = 12;

/// An address below `bytes`, often close to the border of a page.
fn address(dice: &mut Dice, bytes: u64) -> u64 {
    let at = dice.below(bytes.max(1));
    match dice.below(4) {
        0 => (at & !4095).saturating_sub(dice.below(20)),
        1 => (at | 4095).saturating_sub(dice.below(70)),
        _ => at,
    }
}

fn length(dice: &mut Dice) -> u64 {
    match dice.below(10) {
        0 => 0,
        1..7 => dice.below(66),
        7 | 8 => dice.below(300),
        _ => dice.below(3 * 4096 + 10),
    }
}

/// One step; nearly all of them stay inside both memories.
fn step(dice: &mut Dice, model: &Model) -> Step {
    let (heap, stable) = (model.heap.len() as u64, model.stable.len() as u64);
    let len = length(dice);
    let far = if dice.below(100) == 0 { 200 } else { 0 };
    // Programs stand at 32,768 and must not be overwritten while they run: every write goes further up.
    let low = 2 * WASM_PAGE;
    let to = low + address(dice, (heap - low + far).saturating_sub(len));
    let from = address(dice, (heap + far).saturating_sub(len));
    let inside = address(dice, (stable + far).saturating_sub(len));
    match dice.below(40) {
        0..10 => (Op::Read, to, inside, len),
        10..20 => (Op::Write, inside, from, len),
        20 | 21 => (Op::Read32, to, inside, len),
        22 | 23 => (Op::Write32, inside, from, len),
        24..28 => (Op::Store, low + address(dice, heap - low - 8 + far), dice.next(), 0),
        28 => (Op::Store8, low + address(dice, heap - low - 1), dice.next(), 0),
        29 => (Op::Store128, low + address(dice, heap - low - 16), dice.next(), 0),
        30 => (Op::Fill, to, dice.next(), len),
        31 | 32 => (Op::Copy, to, from, len),
        33 if heap < WASM_PAGES_MAX * WASM_PAGE => (Op::HeapGrow, dice.below(2), 0, 0),
        34 if stable < WASM_PAGES_MAX * WASM_PAGE => (Op::Grow, dice.below(3), 0, 0),
        35 if stable < WASM_PAGES_MAX * WASM_PAGE => (Op::Grow32, dice.below(2), 0, 0),
        36 => (Op::HeapSize, 0, 0, 0),
        37 => (Op::Size, 0, 0, 0),
        38 => (Op::SetGlobals, dice.next(), 0, 0),
        _ => (Op::Globals, 0, 0, 0),
    }
}

fn program(dice: &mut Dice, twins: &Twins) -> Vec<Step> {
    let memory64 = twins.model.memory64;
    let most = if dice.below(8) == 0 { 400 } else { 40 };
    let steps = 1 + dice.below(most);
    let mut program = Vec::new();
    while (program.len() as u64) < steps {
        let step = step(dice, &twins.model);
        let narrow = matches!(step.0, Op::Read32 | Op::Write32 | Op::Grow32 | Op::Size32);
        if !(memory64 && narrow) {
            program.push(step);
        }
    }
    match dice.below(12) {
        0 => program.push((Op::Unreachable, 0, 0, 0)),
        1 => program.push((Op::Trap, 0, 0, 0)),
        2 => program.push((Op::ReplyTwice, 0, 0, 0)),
        3 => program.push((Op::Read, 0, 0, 1 << 63)),
        _ => {}
    }
    program
}

fn run(seed: u64, memory64: bool) {
    let mut dice = Dice(seed);
    let mut twins = Twins::new(memory64);
    twins.run(&[(Op::Grow, 4, 0, 0), (Op::HeapGrow, 2, 0, 0)]);
    for _ in 0..MESSAGES {
        let entry = match dice.below(10) {
            0 => Entry::Query("look"),
            1 => Entry::Update("look"),
            2 => Entry::Query("wake"),
            _ => Entry::Update("run"),
        };
        let program = program(&mut dice, &twins);
        twins.execute(entry, &program);
        twins.check_memories();
    }
}

#[test]
fn programs_on_a_32_bit_heap() {
    with_stack(|| run(11, false));
}

#[test]
fn programs_on_a_64_bit_heap() {
    with_stack(|| run(12, true));
}
