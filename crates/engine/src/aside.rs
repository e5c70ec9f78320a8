//! What a composite query has done to its canister, laid aside while another query of the same tree runs there.
//!
//! Invariants:
//! - Every query of a tree begins with the canister as it was before the tree, and its callbacks find what it did itself.
//! - Laying aside and resuming leave every byte, size and global as it was.

use crate::canister::Canister;
use crate::dirty::Pages;
use crate::error::Error;

/// See the module's documentation.
#[derive(Debug)]
pub struct QueryAside {
    heaps: Vec<Pages>,
    stable: Pages,
    globals: Vec<u8>,
}

impl Canister {
    /// Whether a composite query has run on it that has not ended.
    pub fn is_in_query_tree(&self) -> bool {
        self.query_tree.is_some()
    }

    /// Takes what the composite query that has not ended did out of the canister, which is then as before it; `None` if
    /// there is none.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn lay_query_aside(&mut self) -> Result<Option<QueryAside>, Error> {
        if self.query_tree.is_none() {
            return Ok(None);
        }
        let installed = self.installed.as_mut().expect("a query ran");
        let heaps = installed.heaps.iter().map(|heap| heap.staged_pages()).collect();
        let stable = installed.stable_pages_written();
        let globals = installed.globals();
        self.end_query_tree()?;
        Ok(Some(QueryAside { heaps, stable, globals }))
    }

    /// Puts back what was laid aside.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn resume_query(&mut self, aside: QueryAside) -> Result<(), Error> {
        assert!(self.query_tree.is_none(), "the query in between has ended");
        let installed = self.installed.as_mut().expect("a query ran");
        self.query_tree = Some(installed.globals());
        installed.begin(&self.system)?;
        for (heap, pages) in installed.heaps.iter_mut().zip(&aside.heaps) {
            heap.stage_pages(pages).map_err(Error::machine)?;
        }
        installed.write_stable_pages(&aside.stable)?;
        installed.resume_globals(&aside.globals, &self.system)
    }
}
