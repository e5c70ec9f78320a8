//! The canister and the world around it: ids, version, status, time, timer, certified data, counters, environment
//! variables.

use ic_principal::Principal;
use wasmtime::Linker;

use super::contexts::{ALL, CERTIFICATE, CERTIFY, NOT_START, TIMER};
use super::{Host, Pointer, allow, copy_out, read_heap};
use crate::outcome::Fault;
use crate::state::{MessageState, counter};

/// Most bytes of certified data.
const CERTIFIED_DATA_BYTES_MAX: u64 = 32;

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    link_ids::<P>(linker)?;
    link_time(linker)?;
    link_certification::<P>(linker)?;
    link_environment_variables::<P>(linker)
}

fn link_ids<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "canister_self_size", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_self_size", NOT_START)?;
        Ok(P::from_bytes(caller.data().system.id.as_slice().len()))
    })?;
    linker.func_wrap("ic0", "canister_self_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "canister_self_copy", NOT_START)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "canister_self_copy", range, |state| state.system.id.as_slice())
    })?;
    linker.func_wrap("ic0", "canister_version", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_version", NOT_START)?;
        Ok(caller.data().system.version)
    })?;
    linker.func_wrap("ic0", "canister_status", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_status", NOT_START)?;
        Ok(1_u32) // running: nothing stops a canister yet
    })?;
    linker.func_wrap("ic0", "is_controller", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "is_controller", ALL)?;
        let id = read_heap(&mut caller, "is_controller", from.bytes(), bytes.bytes())?;
        match Principal::try_from_slice(&id) {
            Ok(id) => Ok(u32::from(caller.data().system.controllers.contains(&id))),
            Err(_) => Err(caller.data_mut().fail(Fault::new(504, "Canister provided invalid principal id"))),
        }
    })?;
    linker.func_wrap("ic0", "in_replicated_execution", |caller: Host<'_>| {
        u32::from(caller.data().context.replicated())
    })?;
    Ok(())
}

fn link_time(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "time", |mut caller: Host<'_>| {
        allow(&mut caller, "time", NOT_START)?;
        Ok(caller.data().time_nanos)
    })?;
    linker.func_wrap("ic0", "global_timer_set", |mut caller: Host<'_>, at: u64| {
        allow(&mut caller, "global_timer_set", TIMER)?;
        let state = caller.data_mut();
        Ok(state.changes.global_timer.replace(at).unwrap_or(state.system.global_timer))
    })?;
    linker.func_wrap("ic0", "performance_counter", |mut caller: Host<'_>, kind: u32| {
        // A call context is one execution until canisters call each other, so both counters agree.
        if kind > 1 {
            let text = format!("ic0.performance_counter: Error getting performance counter type {kind}");
            return Err(caller.data_mut().fail(Fault::contract(text)));
        }
        let left = counter(&mut caller);
        Ok(caller.data().limits.instructions.wrapping_sub(left.cast_unsigned()))
    })?;
    Ok(())
}

fn link_certification<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "certified_data_set", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "certified_data_set", CERTIFY)?;
        if bytes.bytes() > CERTIFIED_DATA_BYTES_MAX {
            let text = format!(
                "ic0.certified_data_set: the data has {} bytes but the limit is {CERTIFIED_DATA_BYTES_MAX}",
                bytes.bytes()
            );
            return Err(caller.data_mut().fail(Fault::contract(text)));
        }
        let data = read_heap(&mut caller, "certified_data_set", from.bytes(), bytes.bytes())?;
        caller.data_mut().changes.certified_data = Some(data);
        Ok(())
    })?;
    linker.func_wrap("ic0", "data_certificate_present", |mut caller: Host<'_>| {
        allow(&mut caller, "data_certificate_present", NOT_START)?;
        Ok(0_u32) // no certified state yet
    })?;
    linker.func_wrap("ic0", "data_certificate_size", |mut caller: Host<'_>| -> wasmtime::Result<P> {
        allow(&mut caller, "data_certificate_size", CERTIFICATE)?;
        Err(caller.data_mut().fail(Fault::contract("ic0.data_certificate_size: no data certificate")))
    })?;
    linker.func_wrap(
        "ic0",
        "data_certificate_copy",
        |mut caller: Host<'_>, _: P, _: P, _: P| -> wasmtime::Result<()> {
            allow(&mut caller, "data_certificate_copy", CERTIFICATE)?;
            Err(caller.data_mut().fail(Fault::contract("ic0.data_certificate_copy: no data certificate")))
        },
    )?;
    Ok(())
}

/// There are no environment variables yet: the count is 0, no name exists, every index is out of range.
fn link_environment_variables<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    fn refuse<T>(caller: &mut Host<'_>, name: &str, what: &str) -> wasmtime::Result<T> {
        allow(caller, name, NOT_START)?;
        Err(caller.data_mut().fail(Fault::contract(format_args!("ic0.{name}: {what}"))))
    }
    const INDEX: &str = "the canister has no environment variable with that index";
    const NAME: &str = "the canister has no environment variable with that name";
    linker.func_wrap("ic0", "env_var_count", |mut caller: Host<'_>| {
        allow(&mut caller, "env_var_count", NOT_START)?;
        Ok(P::from_bytes(0))
    })?;
    linker.func_wrap("ic0", "env_var_name_size", |mut caller: Host<'_>, _: P| {
        refuse::<P>(&mut caller, "env_var_name_size", INDEX)
    })?;
    linker.func_wrap("ic0", "env_var_name_copy", |mut caller: Host<'_>, _: P, _: P, _: P, _: P| {
        refuse::<()>(&mut caller, "env_var_name_copy", INDEX)
    })?;
    linker.func_wrap("ic0", "env_var_name_exists", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "env_var_name_exists", NOT_START)?;
        read_heap(&mut caller, "env_var_name_exists", from.bytes(), bytes.bytes())?;
        Ok(0_u32)
    })?;
    linker.func_wrap("ic0", "env_var_value_size", |mut caller: Host<'_>, _: P, _: P| {
        refuse::<P>(&mut caller, "env_var_value_size", NAME)
    })?;
    linker.func_wrap("ic0", "env_var_value_copy", |mut caller: Host<'_>, _: P, _: P, _: P, _: P, _: P| {
        refuse::<()>(&mut caller, "env_var_value_copy", NAME)
    })?;
    Ok(())
}
