//! `debug_print` and `trap`.
//!
//! Neither fails on a bad range: a text about it takes the message's place. Both use at most the first 32 KiB.

use wasmtime::Linker;

use super::{Host, Pointer};
use crate::outcome::Fault;
use crate::state::{MessageState, charge};

/// Longest text that is looked at.
const TEXT_BYTES_MAX: u64 = 32 << 10;

/// Charges for logging `bytes` bytes: 2 for each that a record could hold, 50 for each that the execution's log has
/// room for.
fn charge_log(caller: &mut Host<'_>, bytes: u64) -> wasmtime::Result<()> {
    let free = caller.data().log.free();
    charge(caller, 2 * bytes.min(crate::system::LOG_BYTES_MAX) + 50 * bytes.min(free))
}

fn text(caller: &Host<'_>, from: u64, bytes: u64, bad: &str) -> Vec<u8> {
    let bytes = bytes.min(TEXT_BYTES_MAX);
    match caller.data().memories.heap() {
        Some(heap) if from.checked_add(bytes).is_some_and(|end| end <= heap.len() as u64) => {
            heap.read_vec(from as usize, bytes as usize) // both at most the heap's length
        }
        _ => bad.as_bytes().to_vec(),
    }
}

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "debug_print", |mut caller: Host<'_>, from: P, bytes: P| {
        charge_log(&mut caller, bytes.bytes())?;
        let line =
            text(&caller, from.bytes(), bytes.bytes(), "(debug_print message is out of memory bounds)");
        caller.data_mut().log.append(line);
        Ok(())
    })?;
    linker.func_wrap("ic0", "trap", |mut caller: Host<'_>, from: P, bytes: P| -> wasmtime::Result<()> {
        charge_log(&mut caller, bytes.bytes())?;
        let message = text(&caller, from.bytes(), bytes.bytes(), "(trap message is out of memory bounds)");
        let message = String::from_utf8_lossy(&message).into_owned();
        let detail = format!("Canister called `ic0.trap` with message: '{message}'");
        Err(caller.data_mut().fail(Fault::new(503, detail)))
    })?;
    Ok(())
}
