//! What the system can enter: the exports, and the one function behind every callback.

use crate::machine::{self, Machine, environment, stored};
use crate::program::Entry;
use crate::system;

fn run_argument() {
    Machine::default().run(&system::argument());
}

fn run_stored(entry: Entry) -> bool {
    let program = stored(entry);
    if let Some(program) = &program {
        Machine::default().run(program);
    }
    program.is_some()
}

#[unsafe(export_name = "canister_init")]
extern "C" fn init() {
    run_argument();
}

#[unsafe(export_name = "canister_post_upgrade")]
extern "C" fn post_upgrade() {
    run_argument();
}

#[unsafe(export_name = "canister_update update")]
extern "C" fn update() {
    run_argument();
}

#[unsafe(export_name = "canister_query query")]
extern "C" fn query() {
    run_argument();
}

#[unsafe(export_name = "canister_composite_query composite_query")]
extern "C" fn composite_query() {
    run_argument();
}

#[unsafe(export_name = "canister_query transform")]
extern "C" fn transform() {
    run_stored(Entry::Transform);
}

#[unsafe(export_name = "canister_pre_upgrade")]
extern "C" fn pre_upgrade() {
    run_stored(Entry::PreUpgrade);
}

#[unsafe(export_name = "canister_heartbeat")]
extern "C" fn heartbeat() {
    run_stored(Entry::Heartbeat);
}

#[unsafe(export_name = "canister_global_timer")]
extern "C" fn global_timer() {
    run_stored(Entry::GlobalTimer);
}

#[unsafe(export_name = "canister_on_low_wasm_memory")]
extern "C" fn on_low_wasm_memory() {
    run_stored(Entry::OnLowWasmMemory);
}

#[unsafe(export_name = "canister_inspect_message")]
extern "C" fn inspect_message() {
    if !run_stored(Entry::InspectMessage) {
        system::accept();
    }
}

/// Every reply, reject and cleanup callback: `number` says which program to run.
extern "C" fn callback(number: u32) {
    match environment(number) {
        Some(program) => Machine::default().run(&program),
        None => machine::mistake(&format!("there is no program for the environment {number}")),
    }
}

/// Where the system finds [`callback`]: a function pointer is an index into the table.
pub fn callback_index() -> u32 {
    callback as extern "C" fn(u32) as usize as u32
}
