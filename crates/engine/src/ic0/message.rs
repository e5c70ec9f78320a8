//! What came with the message: argument, caller, method name, deadline, and a callee's reject.

use wasmtime::Linker;

use super::contexts::{ANSWER, ARGUMENT, INSPECT, NOT_START, REJECT_CODE, REJECT_MESSAGE};
use super::{Host, Pointer, allow, copy_out};
use crate::state::MessageState;

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "msg_arg_data_size", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_arg_data_size", ARGUMENT)?;
        Ok(P::from_bytes(caller.data().arg.len()))
    })?;
    linker.func_wrap("ic0", "msg_arg_data_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "msg_arg_data_copy", ARGUMENT)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "msg_arg_data_copy", range, |state| &state.arg)
    })?;
    linker.func_wrap("ic0", "msg_caller_size", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_caller_size", NOT_START)?;
        Ok(P::from_bytes(caller.data().caller.as_slice().len()))
    })?;
    linker.func_wrap("ic0", "msg_caller_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "msg_caller_copy", NOT_START)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "msg_caller_copy", range, |state| state.caller.as_slice())
    })?;
    linker.func_wrap("ic0", "msg_method_name_size", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_method_name_size", INSPECT)?;
        Ok(P::from_bytes(caller.data().method.len()))
    })?;
    linker.func_wrap("ic0", "msg_method_name_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "msg_method_name_copy", INSPECT)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "msg_method_name_copy", range, |state| state.method.as_bytes())
    })?;
    linker.func_wrap("ic0", "accept_message", |mut caller: Host<'_>| {
        allow(&mut caller, "accept_message", INSPECT)?;
        let changes = &mut caller.data_mut().changes;
        if changes.accepted {
            let text = "ic0.accept_message: the function was already called";
            return Err(caller.data_mut().fail(crate::outcome::Fault::contract(text)));
        }
        changes.accepted = true;
        Ok(())
    })?;
    linker.func_wrap("ic0", "msg_deadline", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_deadline", ANSWER)?;
        Ok(caller.data().incoming.deadline_nanos)
    })?;
    linker.func_wrap("ic0", "msg_reject_code", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_reject_code", REJECT_CODE)?;
        Ok(caller.data().incoming.reject.as_ref().map_or(0, |(code, _)| *code))
    })?;
    linker.func_wrap("ic0", "msg_reject_msg_size", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_reject_msg_size", REJECT_MESSAGE)?;
        Ok(P::from_bytes(reject_text(caller.data()).len()))
    })?;
    linker.func_wrap("ic0", "msg_reject_msg_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "msg_reject_msg_copy", REJECT_MESSAGE)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "msg_reject_msg_copy", range, reject_text)
    })?;
    Ok(())
}

fn reject_text(state: &MessageState) -> &[u8] {
    state.incoming.reject.as_ref().map_or(&[], |(_, text)| text.as_bytes())
}
