//! Calls to other canisters: one, many at once, nested, with cycles, and with state around the await.

use candid::{CandidType, Principal};
use futures_util::future::join_all;
use ic_cdk::call::Call;
use ic_cdk::futures::is_recovering_from_trap;
use serde_bytes::ByteBuf;

use crate::counters::count;
use crate::failure::Failure;

#[ic_cdk::update]
async fn forward(callee: Principal, method: String, arg: ByteBuf, cycles: u128) -> Result<ByteBuf, Failure> {
    perform(Call::unbounded_wait(callee, &method).take_raw_args(arg.into_vec()).with_cycles(cycles)).await
}

#[ic_cdk::update]
async fn forward_best_effort(
    callee: Principal,
    method: String,
    arg: ByteBuf,
    cycles: u128,
    seconds: u32,
) -> Result<ByteBuf, Failure> {
    let call = Call::bounded_wait(callee, &method).change_timeout(seconds);
    perform(call.take_raw_args(arg.into_vec()).with_cycles(cycles)).await
}

async fn perform(call: Call<'_, '_>) -> Result<ByteBuf, Failure> {
    Ok(ByteBuf::from(call.await?.into_bytes()))
}

pub async fn ping(callee: Principal) -> Result<u64, Failure> {
    Ok(Call::unbounded_wait(callee, "ping").await?.candid()?)
}

#[ic_cdk::update]
async fn fan_out(callees: Vec<Principal>, times: u32) -> u64 {
    let calls = (0..times).flat_map(|_| callees.iter().map(|callee| ping(*callee)));
    join_all(calls).await.iter().filter(|answer| answer.is_ok()).count() as u64
}

#[ic_cdk::update]
async fn ring(members: Vec<Principal>, hops: u32) -> u32 {
    if hops == 0 || members.is_empty() {
        return 0;
    }
    count("hops");
    let next = members[0];
    let mut members = members;
    members.rotate_left(1);
    1 + pass_on(next, members, hops - 1).await.unwrap_or_else(|failure| failure.trap())
}

async fn pass_on(next: Principal, members: Vec<Principal>, hops: u32) -> Result<u32, Failure> {
    Ok(Call::unbounded_wait(next, "ring").with_args(&(members, hops)).await?.candid()?)
}

#[ic_cdk::update]
async fn take_rounds(rounds: u32) {
    for _ in 0..rounds {
        ping(ic_cdk::api::canister_self()).await.unwrap_or_else(|failure| failure.trap());
    }
}

/// What applications hold across an await to keep a second call out: dropped at the end, or after a trap in cleanup.
struct Guard;

impl Guard {
    fn take() -> Self {
        count("started");
        Self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        count(if is_recovering_from_trap() { "cleaned_up" } else { "finished" });
    }
}

#[ic_cdk::update]
async fn twice(callee: Principal) -> Result<u64, Failure> {
    let _guard = Guard::take();
    count("before");
    let pings = ping(callee).await?;
    count("after");
    Ok(pings)
}

#[ic_cdk::update]
async fn trap_after_await(callee: Principal) {
    let _guard = Guard::take();
    count("before");
    // Whatever the answer is: the trap is the point.
    let _ = ping(callee).await;
    count("after");
    ic_cdk::trap("trapped after the await");
}

#[ic_cdk::update(manual_reply = true)]
fn refuse(text: String) -> std::marker::PhantomData<()> {
    ic_cdk::api::msg_reject(text);
    std::marker::PhantomData
}

#[ic_cdk::update]
fn fail(text: String) {
    ic_cdk::trap(text);
}

#[ic_cdk::update]
fn accept(at_most: u128) -> u128 {
    count("accepted");
    ic_cdk::api::msg_cycles_accept(at_most)
}

#[derive(CandidType)]
struct Payment {
    accepted: u128,
    refunded: u128,
}

#[ic_cdk::update]
async fn pay(callee: Principal, cycles: u128, at_most: u128) -> Result<Payment, Failure> {
    let reply = Call::unbounded_wait(callee, "accept").with_arg(at_most).with_cycles(cycles).await?;
    Ok(Payment { accepted: reply.candid()?, refunded: ic_cdk::api::msg_cycles_refunded() })
}

#[ic_cdk::query]
fn balance() -> u128 {
    ic_cdk::api::canister_cycle_balance()
}

#[ic_cdk::query(composite = true)]
async fn composite_sum(callees: Vec<Principal>) -> u64 {
    let values = join_all(callees.iter().map(|callee| value_of(*callee))).await;
    values.into_iter().map(|value| value.unwrap_or_else(|failure| failure.trap())).sum()
}

async fn value_of(callee: Principal) -> Result<u64, Failure> {
    Ok(Call::unbounded_wait(callee, "value").await?.candid()?)
}
