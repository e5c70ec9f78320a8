//! Canisters that this one creates, and what else the management canister does for it.
//!
//! - A child is listed from the moment it exists until it is deleted, whatever fails in between.

use std::cell::RefCell;

use candid::{CandidType, Func, Nat, Principal};
use ic_cdk::call::Call;
use ic_cdk_management_canister::{
    self as management, CanisterInstallMode, CreateCanisterArgs, DeleteCanisterArgs, HttpMethod,
    HttpRequestArgs, HttpRequestResult, InstallCodeArgs, StopCanisterArgs, TransformArgs, TransformContext,
    TransformFunc,
};
use ic_stable_structures::StableBTreeMap;
use serde_bytes::ByteBuf;

use crate::calls;
use crate::counters::{Stable, memory, memory_ids};
use crate::failure::Failure;

/// What an outcall may return, in bytes: its price grows with it.
const RESPONSE_BYTES_MAX: u64 = 65_536;

thread_local! {
    static CHILDREN: RefCell<StableBTreeMap<Principal, (), Stable>> =
        RefCell::new(StableBTreeMap::init(memory(memory_ids::CHILDREN)));
}

#[ic_cdk::update]
async fn spawn_child(wasm: ByteBuf, cycles: u128) -> Result<Principal, Failure> {
    let settings = CreateCanisterArgs { settings: None };
    let created = management::create_canister_with_extra_cycles(&settings, cycles).await?;
    let child = created.canister_id;
    CHILDREN.with_borrow_mut(|children| children.insert(child, ()));
    let install = InstallCodeArgs {
        mode: CanisterInstallMode::Install,
        canister_id: child,
        wasm_module: wasm.into_vec(),
        arg: candid::encode_args(()).expect("an empty argument encodes"),
    };
    management::install_code(&install).await?;
    calls::ping(child).await?;
    Ok(child)
}

#[ic_cdk::update]
async fn stop_and_delete(child: Principal) -> Result<(), Failure> {
    management::stop_canister(&StopCanisterArgs { canister_id: child }).await?;
    management::delete_canister(&DeleteCanisterArgs { canister_id: child }).await?;
    CHILDREN.with_borrow_mut(|children| children.remove(&child));
    Ok(())
}

#[ic_cdk::query]
fn children() -> Vec<Principal> {
    CHILDREN.with_borrow(|children| children.keys().collect())
}

#[ic_cdk::update]
async fn random() -> Result<ByteBuf, Failure> {
    Ok(ByteBuf::from(management::raw_rand().await?))
}

#[derive(CandidType)]
struct Page {
    status: Nat,
    body: ByteBuf,
}

/// Priced by what the response may be at most, with the cycles that the system names for that.
#[ic_cdk::update]
async fn fetch(url: String) -> Result<Page, Failure> {
    let function =
        TransformFunc(Func { principal: ic_cdk::api::canister_self(), method: "transform".into() });
    let request = HttpRequestArgs {
        url,
        method: HttpMethod::GET,
        max_response_bytes: Some(RESPONSE_BYTES_MAX),
        transform: Some(TransformContext { function, context: Vec::new() }),
        ..Default::default()
    };
    // The request's size as the system counts it: the URL and the transform's name; there are no headers and no body.
    let bytes = (request.url.len() + "transform".len()) as u64;
    let cycles = ic_cdk::api::cost_http_request(bytes, RESPONSE_BYTES_MAX);
    let call = Call::unbounded_wait(Principal::management_canister(), "http_request");
    let response: HttpRequestResult = call.with_arg(&request).with_cycles(cycles).await?.candid()?;
    Ok(Page { status: response.status, body: ByteBuf::from(response.body) })
}

/// Headers differ from node to node: dates, ids of requests.
#[ic_cdk::query]
fn transform(argument: TransformArgs) -> HttpRequestResult {
    HttpRequestResult { headers: Vec::new(), ..argument.response }
}
