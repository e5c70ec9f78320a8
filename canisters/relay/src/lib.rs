//! A canister that calls others, as applications do.
//!
//! - All state is in stable memory, so an upgrade needs no `pre_upgrade`. Timers are not state: `post_upgrade` starts the
//!   interval anew.
//! - A call that fails is an answer, `Err` with its code and text. Only `ring`, `take_rounds` and `composite_sum` trap.
//! - A counter, other than `interval_seconds`, is only ever added to, so a test can tell from the differences what happened.

mod calls;
mod children;
mod counters;
mod failure;
mod system;
mod timers;

const CANDID: &[u8] = include_bytes!("../relay.did");

/// The interface, readable from the module itself.
#[used]
#[unsafe(link_section = "icp:public candid:service")]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../relay.did");
