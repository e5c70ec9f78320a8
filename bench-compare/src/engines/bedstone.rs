//! Bedstone's store, used as its engine uses it: each changed page with its pre-image, one change a message.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bedstone_store::{Config, FileDisk, Memory, PageCount, PageIndex, Store};

use crate::engine::{Dirty, PAGE_BYTES, Page, PageStore};

/// What was set.
pub const TUNING: &str = "Config::new: durable always, checkpoints behind the scenes";

/// A store with one memory.
pub struct Bedstone {
    store: Store,
    memory: Memory,
}

impl Bedstone {
    /// Opens the store in a directory, or makes it with a memory of so many pages.
    pub fn open(directory: &Path, pages: u32) -> Result<Bedstone> {
        let disk = Arc::new(FileDisk::new(directory));
        let (store, _) = Store::open_or_create(disk, &Config::new([7; 32]))?;
        let memory = match store.memories()?.pop() {
            Some(memory) => memory,
            None => {
                let mut change = store.begin();
                let memory = change.create(PageCount::new(pages))?;
                change.grow(&memory, PageCount::new(pages));
                store.wait_durable(store.append(change)?)?;
                memory
            }
        };
        Ok(Bedstone { store, memory })
    }
}

impl PageStore for Bedstone {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        let mut change = self.store.begin();
        for page in pages {
            change.page(&self.memory, PageIndex::new(page.index), page.before, page.after);
        }
        Ok(self.store.wait_durable(self.store.append(change)?)?)
    }

    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        let mut page = [0; PAGE_BYTES];
        self.memory.read(u64::from(index) * PAGE_BYTES as u64, &mut page)?;
        Ok(Some(page))
    }
}
