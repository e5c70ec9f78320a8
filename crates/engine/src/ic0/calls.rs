//! Calls to other canisters: put together step by step, then queued. They leave when the message has succeeded.

use ic_principal::Principal;
use wasmtime::Linker;

use super::contexts::{CALL, CALL_WITH_CYCLES};
use super::{Host, Pointer, allow, heap_range, read_heap};
use crate::message::{Closure, Context, OutgoingCall};
use crate::outcome::Fault;
use crate::state::MessageState;

/// Longest method name, in bytes.
const METHOD_BYTES_MAX: u64 = 20_000;
/// Longest method name and argument together, in bytes, while a call is put together; what is longer than a message between
/// subnets is the receiver's business.
const PAYLOAD_BYTES_MAX: u64 = 10 << 20;
/// Longest wait for an answer of a best-effort call.
const TIMEOUT_SECONDS_MAX: u32 = 300;
/// Most calls to one canister that may wait for their answers.
const OPEN_CALLS_MAX: u32 = 500;
/// What `call_perform` returns when the call is not made.
const NOT_PERFORMED: u32 = 2;

/// The call under construction, for a function that changes it.
fn under_construction<'a>(
    caller: &'a mut Host<'_>,
    name: &str,
) -> wasmtime::Result<(&'a mut OutgoingCall, &'a crate::state::Memories)> {
    let state = caller.data_mut();
    if state.call.is_none() {
        let text = format!("ic0.{name}: there is no call under construction");
        return Err(state.fail(Fault::contract(text)));
    }
    Ok((state.call.as_mut().expect("looked at"), &state.memories))
}

fn check_payload(caller: &mut Host<'_>, name: &str, bytes: u64) -> wasmtime::Result<()> {
    if bytes <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let text = format!("ic0.{name}: the call has {bytes} bytes but the limit is {PAYLOAD_BYTES_MAX}");
    Err(caller.data_mut().fail(Fault::contract(text)))
}

/// Drops the call under construction; its cycles come back.
fn abandon(state: &mut MessageState) {
    if let Some(call) = state.call.take() {
        state.changes.cycles_sent -= call.cycles;
    }
}

fn new_call<P: Pointer>(
    caller: &mut Host<'_>,
    callee: (P, P),
    method: (P, P),
    on_reply: Closure,
    on_reject: Closure,
) -> wasmtime::Result<()> {
    const NAME: &str = "call_new";
    allow(caller, NAME, CALL)?;
    abandon(caller.data_mut());
    if method.1.bytes() > METHOD_BYTES_MAX {
        let text = format!(
            "ic0.{NAME}: the method's name has {} bytes but the limit is {METHOD_BYTES_MAX}",
            method.1.bytes()
        );
        return Err(caller.data_mut().fail(Fault::contract(text)));
    }
    let callee = principal(caller, NAME, callee)?;
    let method = read_heap(caller, NAME, method.0.bytes(), method.1.bytes())?;
    caller.data_mut().call = Some(OutgoingCall {
        callee,
        method: String::from_utf8_lossy(&method).into_owned(),
        arg: Vec::new(),
        cycles: 0,
        timeout_seconds: None,
        on_reply,
        on_reject,
        on_cleanup: None,
        prepaid_execution: 0,
        prepaid_response: 0,
    });
    Ok(())
}

/// Reads an id, of which there are none longer than 29 bytes.
fn principal<P: Pointer>(
    caller: &mut Host<'_>,
    name: &str,
    (at, bytes): (P, P),
) -> wasmtime::Result<Principal> {
    let (at, bytes) = heap_range(caller, name, at.bytes(), bytes.bytes())?;
    let mut id = [0; Principal::MAX_LENGTH_IN_BYTES];
    let state = caller.data_mut();
    match id.get_mut(..bytes) {
        Some(id) => {
            state.memories.heap().expect("the range was checked").read(at, id);
            Ok(Principal::from_slice(id))
        }
        None => Err(state.fail(Fault::new(504, "Canister provided invalid principal id"))),
    }
}

/// Attaches cycles, if the canister has them to spend.
fn add_cycles(caller: &mut Host<'_>, name: &str, cycles: u128) -> wasmtime::Result<()> {
    allow(caller, name, CALL_WITH_CYCLES)?;
    under_construction(caller, name)?;
    let state = caller.data_mut();
    if state.liquid_balance() < cycles {
        let text = format!("Canister {} is out of cycles", state.system.id);
        return Err(state.fail(Fault::new(504, text)));
    }
    state.changes.cycles_sent += cycles;
    state.call.as_mut().expect("looked at").cycles += cycles;
    Ok(())
}

/// Queues the call under construction, or gives its cycles back.
fn perform(caller: &mut Host<'_>) -> wasmtime::Result<u32> {
    allow(caller, "call_perform", CALL)?;
    under_construction(caller, "call_perform")?;
    let state = caller.data_mut();
    let composite = matches!(
        state.context,
        Context::CompositeQuery | Context::CompositeReplyCallback | Context::CompositeRejectCallback
    );
    let mut call = state.call.take().expect("looked at");
    if composite {
        state.changes.calls.push(call);
        return Ok(0);
    }
    let waiting = state.system.open_calls.get(&call.callee).copied().unwrap_or(0);
    let made = state.changes.calls.iter().filter(|made| made.callee == call.callee).count();
    let full = waiting as usize + made >= OPEN_CALLS_MAX as usize;
    let prices = &state.subnet.prices;
    call.prepaid_execution = prices.executed(state.limits.instructions_callback, state.heap64);
    call.prepaid_response = prices.response_max();
    let bytes = (call.method.len() + call.arg.len()) as u64;
    let cost = prices.request(bytes) + call.prepaid_execution + call.prepaid_response;
    if full || state.liquid_balance() < cost {
        state.changes.cycles_sent -= call.cycles;
        return Ok(NOT_PERFORMED);
    }
    state.changes.cycles_sent += cost;
    state.changes.calls.push(call);
    Ok(0)
}

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    #[rustfmt::skip] // the order of the specification
    linker.func_wrap(
        "ic0",
        "call_new",
        |mut caller: Host<'_>, callee: P, callee_bytes: P, method: P, method_bytes: P,
         reply: P, reply_environment: P, reject: P, reject_environment: P| {
            let closure = |function: P, environment: P| Closure {
                function: function.bytes(),
                environment: environment.bytes(),
            };
            let (reply, reject) = (closure(reply, reply_environment), closure(reject, reject_environment));
            new_call(&mut caller, (callee, callee_bytes), (method, method_bytes), reply, reject)
        },
    )?;
    linker.func_wrap("ic0", "call_on_cleanup", |mut caller: Host<'_>, function: P, environment: P| {
        const NAME: &str = "call_on_cleanup";
        allow(&mut caller, NAME, CALL)?;
        let (call, _) = under_construction(&mut caller, NAME)?;
        let closure = Closure { function: function.bytes(), environment: environment.bytes() };
        match call.on_cleanup.replace(closure) {
            None => Ok(()),
            Some(_) => {
                let text = "ic0.call_on_cleanup can be called at most once between `ic0.call_new` and `ic0.call_perform`";
                Err(caller.data_mut().fail(Fault::contract(text)))
            }
        }
    })?;
    linker.func_wrap("ic0", "call_data_append", |mut caller: Host<'_>, from: P, bytes: P| {
        const NAME: &str = "call_data_append";
        allow(&mut caller, NAME, CALL)?;
        let (call, _) = under_construction(&mut caller, NAME)?;
        let total = (call.method.len() as u64 + call.arg.len() as u64).saturating_add(bytes.bytes());
        check_payload(&mut caller, NAME, total)?;
        let (from, bytes) = heap_range(&mut caller, NAME, from.bytes(), bytes.bytes())?;
        let (call, memories) = under_construction(&mut caller, NAME)?;
        memories.heap().expect("the range was checked").append_to(from, bytes, &mut call.arg);
        Ok(())
    })?;
    linker.func_wrap("ic0", "call_with_best_effort_response", |mut caller: Host<'_>, seconds: u32| {
        const NAME: &str = "call_with_best_effort_response";
        allow(&mut caller, NAME, CALL)?;
        let (call, _) = under_construction(&mut caller, NAME)?;
        match call.timeout_seconds.replace(seconds.min(TIMEOUT_SECONDS_MAX)) {
            None => Ok(()),
            Some(_) => {
                let text = "ic0.call_with_best_effort_response failed because a timeout is already set.";
                Err(caller.data_mut().fail(Fault::contract(text)))
            }
        }
    })?;
    linker.func_wrap("ic0", "call_cycles_add128", |mut caller: Host<'_>, high: u64, low: u64| {
        add_cycles(&mut caller, "call_cycles_add128", u128::from(high) << 64 | u128::from(low))
    })?;
    if size_of::<P>() == 4 {
        linker.func_wrap("ic0", "call_cycles_add", |mut caller: Host<'_>, cycles: u64| {
            add_cycles(&mut caller, "call_cycles_add", cycles.into())
        })?;
    }
    linker.func_wrap("ic0", "call_perform", |mut caller: Host<'_>| perform(&mut caller))?;
    Ok(())
}
