//! The canister and the world around it: ids, version, status, time, timer, certified data, counters, environment
//! variables.

use ic_principal::Principal;
use wasmtime::Linker;

use super::contexts::{ALL, CERTIFICATE, CERTIFY, NOT_START, ROOT_KEY, TIMER};
use super::{Host, Pointer, allow, copy_bytes_out, copy_out, read_heap};
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
    linker.func_wrap("ic0", "subnet_self_size", |mut caller: Host<'_>| {
        allow(&mut caller, "subnet_self_size", NOT_START)?;
        Ok(P::from_bytes(caller.data().subnet.id.as_slice().len()))
    })?;
    linker.func_wrap("ic0", "subnet_self_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "subnet_self_copy", NOT_START)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "subnet_self_copy", range, |state| state.subnet.id.as_slice())
    })?;
    linker.func_wrap("ic0", "root_key_size", |mut caller: Host<'_>| {
        allow(&mut caller, "root_key_size", ROOT_KEY)?;
        Ok(P::from_bytes(caller.data().subnet.root_key.len()))
    })?;
    linker.func_wrap("ic0", "root_key_copy", |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
        allow(&mut caller, "root_key_copy", ROOT_KEY)?;
        let range = (to.bytes(), offset.bytes(), bytes.bytes());
        copy_out(&mut caller, "root_key_copy", range, |state| &state.subnet.root_key)
    })?;
    linker.func_wrap("ic0", "canister_version", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_version", NOT_START)?;
        Ok(caller.data().system.version)
    })?;
    linker.func_wrap("ic0", "canister_status", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_status", NOT_START)?;
        Ok(caller.data().system.settings.run_state as u32)
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
        let before = match kind {
            0 => 0,
            1 => caller.data().incoming.instructions,
            _ => {
                let text = format!("ic0.performance_counter: Error getting performance counter type {kind}");
                return Err(caller.data_mut().fail(Fault::contract(text)));
            }
        };
        let left = counter(&mut caller);
        Ok(caller.data().limits.instructions.wrapping_sub(left.cast_unsigned()).wrapping_add(before))
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
        let state = caller.data();
        Ok(u32::from(state.incoming.certified && state.subnet.certifier.is_some()))
    })?;
    linker.func_wrap("ic0", "data_certificate_size", |mut caller: Host<'_>| {
        allow(&mut caller, "data_certificate_size", CERTIFICATE)?;
        certificate(&mut caller, "data_certificate_size")?;
        Ok(P::from_bytes(certificate_bytes(caller.data()).len()))
    })?;
    linker.func_wrap(
        "ic0",
        "data_certificate_copy",
        |mut caller: Host<'_>, to: P, offset: P, bytes: P| {
            allow(&mut caller, "data_certificate_copy", CERTIFICATE)?;
            certificate(&mut caller, "data_certificate_copy")?;
            let range = (to.bytes(), offset.bytes(), bytes.bytes());
            copy_out(&mut caller, "data_certificate_copy", range, certificate_bytes)
        },
    )?;
    Ok(())
}

/// Has the certificate made, or refuses where there is none.
fn certificate(caller: &mut Host<'_>, name: &str) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    if state.incoming.certificate.is_some() {
        return Ok(());
    }
    if let Some(certifier) = state.subnet.certifier.as_ref().filter(|_| state.incoming.certified) {
        let system = &state.system;
        let made = certifier.certificate(system.id, &system.certified_data, state.time_nanos);
        state.incoming.certificate = Some(made);
        return Ok(());
    }
    Err(caller.data_mut().fail(Fault::contract(format_args!("ic0.{name}: no data certificate"))))
}

fn certificate_bytes(state: &MessageState) -> &[u8] {
    state.incoming.certificate.as_deref().unwrap_or_default()
}

/// Longest name of an environment variable that is looked for, in bytes.
const VARIABLE_NAME_BYTES_MAX: u64 = 100;

/// Reads the name of an environment variable.
fn variable_name(caller: &mut Host<'_>, name: &str, from: u64, bytes: u64) -> wasmtime::Result<String> {
    if bytes > VARIABLE_NAME_BYTES_MAX {
        let text = format!(
            "ic0.{name}: the variable's name has {bytes} bytes but the limit is {VARIABLE_NAME_BYTES_MAX}"
        );
        return Err(caller.data_mut().fail(Fault::contract(text)));
    }
    String::from_utf8(read_heap(caller, name, from, bytes)?).map_err(|_| {
        let text = format!("ic0.{name}: the variable's name is not valid UTF-8");
        caller.data_mut().fail(Fault::contract(text))
    })
}

/// The name of the environment variable with that index, in order of the names.
fn variable_at(caller: &mut Host<'_>, name: &str, index: u64) -> wasmtime::Result<String> {
    let variables = &caller.data().system.settings.environment_variables;
    let found = usize::try_from(index).ok().and_then(|index| variables.keys().nth(index)).cloned();
    found.ok_or_else(|| {
        let text = format!("ic0.{name}: there is no environment variable with index {index}");
        caller.data_mut().fail(Fault::contract(text))
    })
}

fn variable_value(caller: &mut Host<'_>, name: &str, variable: &str) -> wasmtime::Result<String> {
    let found = caller.data().system.settings.environment_variables.get(variable).cloned();
    found.ok_or_else(|| {
        let text = format!("ic0.{name}: there is no environment variable \"{variable}\"");
        caller.data_mut().fail(Fault::contract(text))
    })
}

fn link_environment_variables<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "env_var_count", |mut caller: Host<'_>| {
        allow(&mut caller, "env_var_count", NOT_START)?;
        Ok(P::from_bytes(caller.data().system.settings.environment_variables.len()))
    })?;
    linker.func_wrap("ic0", "env_var_name_size", |mut caller: Host<'_>, index: P| {
        allow(&mut caller, "env_var_name_size", NOT_START)?;
        Ok(P::from_bytes(variable_at(&mut caller, "env_var_name_size", index.bytes())?.len()))
    })?;
    linker.func_wrap(
        "ic0",
        "env_var_name_copy",
        |mut caller: Host<'_>, index: P, to: P, offset: P, bytes: P| {
            allow(&mut caller, "env_var_name_copy", NOT_START)?;
            let name = variable_at(&mut caller, "env_var_name_copy", index.bytes())?;
            let range = (to.bytes(), offset.bytes(), bytes.bytes());
            copy_bytes_out(&mut caller, "env_var_name_copy", range, name.as_bytes())
        },
    )?;
    linker.func_wrap("ic0", "env_var_name_exists", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "env_var_name_exists", NOT_START)?;
        let name = variable_name(&mut caller, "env_var_name_exists", from.bytes(), bytes.bytes())?;
        Ok(u32::from(caller.data().system.settings.environment_variables.contains_key(&name)))
    })?;
    linker.func_wrap("ic0", "env_var_value_size", |mut caller: Host<'_>, from: P, bytes: P| {
        allow(&mut caller, "env_var_value_size", NOT_START)?;
        let name = variable_name(&mut caller, "env_var_value_size", from.bytes(), bytes.bytes())?;
        Ok(P::from_bytes(variable_value(&mut caller, "env_var_value_size", &name)?.len()))
    })?;
    linker.func_wrap(
        "ic0",
        "env_var_value_copy",
        |mut caller: Host<'_>, name: P, name_bytes: P, to: P, offset: P, bytes: P| {
            allow(&mut caller, "env_var_value_copy", NOT_START)?;
            let name = variable_name(&mut caller, "env_var_value_copy", name.bytes(), name_bytes.bytes())?;
            let value = variable_value(&mut caller, "env_var_value_copy", &name)?;
            let range = (to.bytes(), offset.bytes(), bytes.bytes());
            copy_bytes_out(&mut caller, "env_var_value_copy", range, value.as_bytes())
        },
    )?;
    Ok(())
}
