//! What the benchmarks ask of whatever takes part: keep pages, or keep entries.
//!
//! - When a call that writes returns, what it wrote survives a power cut, all of it; otherwise none of it.
//! - A later call sees what an earlier one wrote, also after the directory was opened again.
//! - Preparing is not measured: calls are timed from outside, with everything they need in hand.

use anyhow::Result;

/// The size of a page.
pub const PAGE_BYTES: usize = 4096;

/// The content of a page.
pub type Page = [u8; PAGE_BYTES];

/// A page that a message has changed.
#[derive(Clone, Copy)]
pub struct Dirty<'a> {
    /// Which page; ascending within a commit.
    pub index: u32,
    /// What it held before. Whoever tracks changes has it in hand; rivals ignore it.
    pub before: &'a Page,
    /// What it holds now.
    pub after: &'a Page,
}

/// Keeps pages by their index.
pub trait PageStore {
    /// Makes the new content of some pages durable, as one.
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()>;

    /// The content of a page; `None` where it keeps none.
    fn read(&mut self, index: u32) -> Result<Option<Page>>;
}

/// Keeps a map from keys to values: what an application sees. The benchmark `keys` knows nothing else of those
/// that take part, so whatever answers these two calls can take part, through whichever layers it does.
pub trait Engine {
    /// Makes entries durable in one transaction; a value replaces the one under the same key.
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()>;

    /// The value under a key, in a transaction of its own.
    fn get(&mut self, key: u128) -> Result<Option<u128>>;
}
