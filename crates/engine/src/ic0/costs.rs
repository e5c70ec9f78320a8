//! What calls would cost, in cycles.

use wasmtime::Linker;

use super::contexts::ALL;
use super::{Host, Pointer, allow, read_heap, write_heap};
use crate::state::MessageState;

/// Keys that sign, as networks for tests name them and as the IC does.
const KEYS: [&str; 3] = ["dfx_test_key", "test_key_1", "key_1"];

/// The answer for a curve, algorithm or kind of key that there is not.
const NO_SUCH_KIND: u32 = 1;
/// The answer for a key that there is not.
const NO_SUCH_KEY: u32 = 2;

pub(super) fn link<P: Pointer>(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "cost_call", |mut caller: Host<'_>, method: u64, payload: u64, to: P| {
        allow(&mut caller, "cost_call", ALL)?;
        let state = caller.data();
        let prices = &state.subnet.prices;
        let callback = prices.executed(state.limits.instructions_callback, state.heap64);
        let cost = prices.request(method.saturating_add(payload)) + callback + prices.response_max();
        write_heap(&mut caller, "cost_call", to.bytes(), &cost.to_le_bytes())
    })?;
    linker.func_wrap("ic0", "cost_create_canister", |mut caller: Host<'_>, to: P| {
        allow(&mut caller, "cost_create_canister", ALL)?;
        let cost = caller.data().subnet.prices.creation;
        write_heap(&mut caller, "cost_create_canister", to.bytes(), &cost.to_le_bytes())
    })?;
    linker.func_wrap(
        "ic0",
        "cost_http_request",
        |mut caller: Host<'_>, request: u64, response: u64, to: P| {
            allow(&mut caller, "cost_http_request", ALL)?;
            let cost = caller.data().subnet.prices.http_outcall(request, response);
            write_heap(&mut caller, "cost_http_request", to.bytes(), &cost.to_le_bytes())
        },
    )?;
    signature::<P>(linker, "cost_sign_with_ecdsa", 1)?;
    signature::<P>(linker, "cost_sign_with_schnorr", 2)?;
    signature::<P>(linker, "cost_vetkd_derive_key", 1)
}

/// Of a threshold key that is one of `kinds`.
fn signature<P: Pointer>(
    linker: &mut Linker<MessageState>,
    name: &'static str,
    kinds: u32,
) -> wasmtime::Result<()> {
    linker.func_wrap(
        "ic0",
        name,
        move |mut caller: Host<'_>, key: P, key_bytes: P, kind: u32, to: P| -> wasmtime::Result<u32> {
            allow(&mut caller, name, ALL)?;
            let key = read_heap(&mut caller, name, key.bytes(), key_bytes.bytes())?;
            if kind >= kinds {
                return Ok(NO_SUCH_KIND);
            }
            if !KEYS.iter().any(|known| known.as_bytes() == key) {
                return Ok(NO_SUCH_KEY);
            }
            let cost = caller.data().subnet.prices.signature;
            write_heap(&mut caller, name, to.bytes(), &cost.to_le_bytes())?;
            Ok(0)
        },
    )?;
    Ok(())
}
