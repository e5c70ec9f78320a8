//! One file per command: its flags, and what it does with them.

pub mod call;
pub mod compare;
pub mod delete;
pub mod demo;
pub mod doctor;
pub mod fork;
pub mod insert_until_killed;
pub mod install;
pub mod instrument;
pub mod logs;
pub mod repair;
pub mod snapshot;
pub mod status;
pub mod upgrade;
pub mod verify;

use clap::builder::NonEmptyStringValueParser;

/// What a canister may be called on the command line.
fn name() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}
