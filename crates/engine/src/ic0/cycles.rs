//! Cycles: the balance, those that came with a call or came back from one, burning.

use ic_principal::Principal;
use wasmtime::Linker;

use super::contexts::{BURN, CYCLES_BACK, CYCLES_IN, MINT, NOT_START};
use super::{Host, Pointer, allow, write_heap};
use crate::outcome::Fault;
use crate::state::MessageState;

/// The canister that may make cycles.
const CYCLES_MINTING_CANISTER: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 4, 1, 1];

/// Cycles that came with the call and were not accepted.
fn available(state: &MessageState) -> u128 {
    state.incoming.cycles - state.changes.cycles_accepted
}

/// Takes up to `most` of them. Once the call is answered they went back with the answer.
fn accept(state: &mut MessageState, most: u128) -> u128 {
    let accepted = if state.is_answered() { 0 } else { most.min(available(state)) };
    state.changes.cycles_accepted += accepted;
    accepted
}

fn amount(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "canister_cycle_balance128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "canister_cycle_balance128", NOT_START)?;
        let cycles = caller.data().balance();
        write_heap(&mut caller, "canister_cycle_balance128", to.bytes(), &cycles.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "canister_liquid_cycle_balance128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "canister_liquid_cycle_balance128", NOT_START)?;
        let cycles = caller.data().liquid_balance();
        write_heap(&mut caller, "canister_liquid_cycle_balance128", to.bytes(), &cycles.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "msg_cycles_available128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "msg_cycles_available128", CYCLES_IN)?;
        let cycles = available(caller.data());
        write_heap(&mut caller, "msg_cycles_available128", to.bytes(), &cycles.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "msg_cycles_refunded128", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "msg_cycles_refunded128", CYCLES_BACK)?;
        let cycles = caller.data().incoming.refunded;
        write_heap(&mut caller, "msg_cycles_refunded128", to.bytes(), &cycles.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "msg_cycles_accept128", |mut caller: Host<'_>, high: u64, low: u64, to: P| {
        allow(&mut caller, "msg_cycles_accept128", CYCLES_IN)?;
        let accepted = accept(caller.data_mut(), amount(high, low));
        write_heap(&mut caller, "msg_cycles_accept128", to.bytes(), &accepted.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "cycles_burn128", |mut caller: Host<'_>, high: u64, low: u64, to: P| {
        allow(&mut caller, "cycles_burn128", BURN)?;
        let burned = amount(high, low).min(caller.data().liquid_balance());
        write_heap(&mut caller, "cycles_burn128", to.bytes(), &burned.to_le_bytes())?;
        caller.data_mut().changes.cycles_burned += burned;
        Ok(())
    })?;
    linker.func_wrap("ic0", "mint_cycles128", |mut caller: Host<'_>, high: u64, low: u64, to: P| {
        allow(&mut caller, "mint_cycles128", MINT)?;
        let state = caller.data_mut();
        if state.system.id != Principal::from_slice(&CYCLES_MINTING_CANISTER) {
            let text = format!(
                "ic0.mint_cycles cannot be executed on non Cycles Minting Canister: {} != {}",
                state.system.id,
                Principal::from_slice(&CYCLES_MINTING_CANISTER)
            );
            return Err(state.fail(Fault::contract(text)));
        }
        let minted = amount(high, low).min(u128::MAX - state.balance());
        state.changes.cycles_minted += minted;
        write_heap(&mut caller, "mint_cycles128", to.bytes(), &minted.to_le_bytes())
    })?;
    if size_of::<P>() == 4 {
        link_64_bit(linker)?;
    }
    Ok(())
}

/// An amount that the older functions can tell.
fn narrow(caller: &mut Host<'_>, cycles: u128) -> wasmtime::Result<u64> {
    u64::try_from(cycles)
        .map_err(|_| caller.data_mut().fail(Fault::trapped("cycles amount exceeds 64-bit representation")))
}

/// The older functions with 64-bit amounts, for modules with 32-bit heaps only.
fn link_64_bit(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "canister_cycle_balance", |mut caller: Host<'_>| {
        allow(&mut caller, "canister_cycle_balance", NOT_START)?;
        let cycles = caller.data().balance();
        narrow(&mut caller, cycles)
    })?;
    linker.func_wrap("ic0", "msg_cycles_available", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_cycles_available", CYCLES_IN)?;
        let cycles = available(caller.data());
        narrow(&mut caller, cycles)
    })?;
    linker.func_wrap("ic0", "msg_cycles_refunded", |mut caller: Host<'_>| {
        allow(&mut caller, "msg_cycles_refunded", CYCLES_BACK)?;
        let cycles = caller.data().incoming.refunded;
        narrow(&mut caller, cycles)
    })?;
    linker.func_wrap("ic0", "msg_cycles_accept", |mut caller: Host<'_>, most: u64| {
        allow(&mut caller, "msg_cycles_accept", CYCLES_IN)?;
        let accepted = accept(caller.data_mut(), most.into());
        narrow(&mut caller, accepted)
    })?;
    Ok(())
}
