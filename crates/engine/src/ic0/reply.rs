//! Answering: reply data, reply, reject.

use wasmtime::Linker;

use super::contexts::ANSWER;
use super::{Host, Pointer, allow, heap_range, read_heap};
use crate::message::Context;
use crate::outcome::Fault;
use crate::state::{MessageState, Reply};

/// Largest reply of updates and callbacks, in bytes.
const REPLY_BYTES_MAX: usize = 2 << 20;
/// Largest reply of queries, in bytes.
const QUERY_REPLY_BYTES_MAX: usize = 3 << 20;

fn reply_bytes_max(context: Context) -> usize {
    match context {
        Context::NonReplicatedQuery | Context::CompositeQuery => QUERY_REPLY_BYTES_MAX,
        _ => REPLY_BYTES_MAX,
    }
}

/// Refuses a second answer.
fn open(caller: &mut Host<'_>, name: &str) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    let done = match state.reply {
        Reply::Open => return Ok(()),
        Reply::Replied | Reply::Answered => "replied",
        Reply::Rejected(_) => "rejected",
    };
    Err(state.fail(Fault::contract(format_args!("ic0.{name}: the call is already {done}"))))
}

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "msg_reply_data_append", |mut caller: Host<'_>, from: P, bytes: P| {
        const NAME: &str = "msg_reply_data_append";
        allow(&mut caller, NAME, ANSWER)?;
        open(&mut caller, NAME)?;
        let (from, bytes) = heap_range(&mut caller, NAME, from.bytes(), bytes.bytes())?;
        let state = caller.data_mut();
        let most = reply_bytes_max(state.context);
        let total = state.reply_data.len() + bytes;
        if total > most {
            let text = format!("ic0.{NAME}: application payload size ({total}) cannot be larger than {most}");
            return Err(state.fail(Fault::contract(text)));
        }
        let heap = state.memories.heap().expect("the range was checked");
        heap.append_to(from, bytes, &mut state.reply_data);
        Ok(())
    })?;
    linker.func_wrap("ic0", "msg_reply", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_reply", ANSWER)?;
        open(&mut caller, "msg_reply")?;
        caller.data_mut().reply = Reply::Replied;
        Ok(())
    })?;
    linker.func_wrap("ic0", "msg_reject", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "msg_reject", ANSWER)?;
        open(&mut caller, "msg_reject")?;
        let text = read_heap(&mut caller, "msg_reject", from.bytes(), bytes.bytes())?;
        let Ok(text) = String::from_utf8(text) else {
            let text = "ic0.msg_reject: invalid UTF-8 string provided";
            return Err(caller.data_mut().fail(Fault::contract(text)));
        };
        caller.data_mut().reply = Reply::Rejected(text);
        Ok(())
    })?;
    Ok(())
}
