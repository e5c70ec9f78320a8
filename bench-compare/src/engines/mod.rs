//! Those that take part, a file each.
//!
//! - Each is opened in a directory of its own, which is made when it is missing.
//! - Each says in `TUNING` what was set; all else is as its authors left it.

pub mod bedstone;
pub mod canister;
pub mod fjall;
pub mod lmdb;
pub mod raw;
pub mod redb;
pub mod sqlite;

use crate::engine::{PAGE_BYTES, Page};

/// A page out of the bytes that an engine gave back.
fn page(bytes: &[u8]) -> anyhow::Result<Page> {
    let wrong = |_| anyhow::anyhow!("a page of {} bytes came back; it has {PAGE_BYTES}", bytes.len());
    bytes.try_into().map_err(wrong)
}

/// A value out of the bytes that an engine gave back.
fn value(bytes: &[u8]) -> anyhow::Result<u128> {
    let wrong = |_| anyhow::anyhow!("a value of {} bytes came back; it has 16", bytes.len());
    Ok(u128::from_be_bytes(bytes.try_into().map_err(wrong)?))
}
