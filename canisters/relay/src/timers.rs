//! Timers, over the kit's own that turns the one timer of the system into many.
//!
//! - The interval's seconds are in stable memory, 0 meaning none, so that an upgrade can start it anew.

use std::cell::Cell;
use std::time::Duration;

use candid::Principal;
use ic_cdk_timers::TimerId;

use crate::calls;
use crate::counters::{count, get, set};

thread_local! {
    static INTERVAL: Cell<Option<TimerId>> = const { Cell::new(None) };
}

#[ic_cdk::update]
fn timer_in(seconds: u64) {
    ic_cdk_timers::set_timer(Duration::from_secs(seconds), async {
        count("ticks");
    });
}

#[ic_cdk::update]
fn ping_in(seconds: u64, callee: Principal) {
    ic_cdk_timers::set_timer(Duration::from_secs(seconds), async move {
        count("ticks");
        // Whether it was answered is for the callee's counter to say.
        let _ = calls::ping(callee).await;
    });
}

#[ic_cdk::update]
fn interval(seconds: u64) {
    set("interval_seconds", seconds);
    start_interval();
}

#[ic_cdk::update]
fn clear_interval() {
    set("interval_seconds", 0);
    start_interval();
}

#[ic_cdk::post_upgrade]
fn post_upgrade() {
    start_interval();
}

fn start_interval() {
    if let Some(timer) = INTERVAL.take() {
        ic_cdk_timers::clear_timer(timer);
    }
    let seconds = get("interval_seconds");
    if seconds > 0 {
        let timer = ic_cdk_timers::set_timer_interval(Duration::from_secs(seconds), || async {
            count("ticks");
        });
        INTERVAL.set(Some(timer));
    }
}

#[ic_cdk::query]
fn ticks() -> u64 {
    get("ticks")
}
