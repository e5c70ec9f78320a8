//! A canister that does what the bytes it is called with say: every system function, in every entry point.
//!
//! Tests of the specification's corner cases write what happens in a message as a program, beside what they expect of
//! it, instead of adding a method to a canister for each. `program.rs` makes programs and says what operations mean,
//! [`machine`] runs them, [`system`] makes the calls.
//!
//! - Nothing but the program's own calls happens in an entry point, apart from reading the program. No call is made on
//!   the side, no state is kept but registers, stored programs and callbacks' programs, all on the heap.
//! - `canister_init`, `canister_post_upgrade` and the three methods run their argument. Every other entry point runs the
//!   program stored for it, and does nothing without one, except that messages are then accepted.
//! - A mistake in a program, such as an empty stack, is a trap whose text begins with `script:`.

#[allow(dead_code, reason = "the canister runs programs and tests make them")]
#[path = "../program.rs"]
mod program;

#[cfg(target_family = "wasm")]
mod entry_points;
#[cfg(target_family = "wasm")]
mod machine;
#[cfg(target_family = "wasm")]
mod system;

const CANDID: &[u8] = include_bytes!("../scripted.did");

/// Says that there is no interface, readable from the module itself.
#[used]
#[cfg_attr(target_family = "wasm", unsafe(link_section = "icp:public candid:service"))]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../scripted.did");
