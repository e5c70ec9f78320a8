//! Cycles: balance, those attached to calls (none from outside), burning.

use wasmtime::Linker;

use super::contexts::{BURN, CYCLES_BACK, CYCLES_IN, NOT_START};
use super::{Host, Pointer, allow, write_heap};
use crate::outcome::Fault;
use crate::state::MessageState;

fn balance(state: &MessageState) -> u128 {
    state.system.cycles - state.changes.cycles_burned
}

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "canister_cycle_balance128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "canister_cycle_balance128", NOT_START)?;
        let cycles = balance(caller.data());
        write_heap(&mut caller, "canister_cycle_balance128", to.bytes(), &cycles.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "msg_cycles_available128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "msg_cycles_available128", CYCLES_IN)?;
        write_heap(&mut caller, "msg_cycles_available128", to.bytes(), &[0; 16])
    })?;
    linker.func_wrap("ic0", "msg_cycles_refunded128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "msg_cycles_refunded128", CYCLES_BACK)?;
        write_heap(&mut caller, "msg_cycles_refunded128", to.bytes(), &[0; 16])
    })?;
    linker.func_wrap("ic0", "msg_cycles_accept128", |mut caller: Host<'_>, _: u64, _: u64, to: P| {
        allow(&mut caller, "msg_cycles_accept128", CYCLES_IN)?;
        write_heap(&mut caller, "msg_cycles_accept128", to.bytes(), &[0; 16])
    })?;
    linker.func_wrap("ic0", "cycles_burn128", |mut caller: Host<'_>, high: u64, low: u64, to: P| {
        allow(&mut caller, "cycles_burn128", BURN)?;
        let asked = u128::from(high) << 64 | u128::from(low);
        let burned = asked.min(balance(caller.data()));
        write_heap(&mut caller, "cycles_burn128", to.bytes(), &burned.to_le_bytes())?;
        caller.data_mut().changes.cycles_burned += burned;
        Ok(())
    })?;
    if size_of::<P>() == 4 {
        link_64_bit(linker)?;
    }
    Ok(())
}

/// The older functions with 64-bit amounts, for modules with 32-bit heaps only.
fn link_64_bit(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "canister_cycle_balance", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_cycle_balance", NOT_START)?;
        u64::try_from(balance(caller.data())).map_err(|_| {
            caller.data_mut().fail(Fault::trapped("cycles amount exceeds 64-bit representation"))
        })
    })?;
    linker.func_wrap("ic0", "msg_cycles_available", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_cycles_available", CYCLES_IN)?;
        Ok(0_u64)
    })?;
    linker.func_wrap("ic0", "msg_cycles_refunded", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_cycles_refunded", CYCLES_BACK)?;
        Ok(0_u64)
    })?;
    linker.func_wrap("ic0", "msg_cycles_accept", |mut caller: Host<'_>, _: u64| {
        allow(&mut caller, "msg_cycles_accept", CYCLES_IN)?;
        Ok(0_u64)
    })?;
    Ok(())
}
