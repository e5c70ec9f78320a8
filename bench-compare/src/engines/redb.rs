//! redb: a copy-on-write B-tree in one file.

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::engine::{Dirty, Engine, PAGE_BYTES, Page, PageStore};

/// What was set.
pub const TUNING: &str = "Durability::Immediate";

const PAGES: TableDefinition<'_, u32, &[u8; PAGE_BYTES]> = TableDefinition::new("pages");
const ENTRIES: TableDefinition<'_, u128, u128> = TableDefinition::new("entries");

/// A database with a table for each benchmark.
pub struct Redb {
    database: Database,
}

impl Redb {
    /// Opens the database in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Redb> {
        std::fs::create_dir_all(directory)?;
        let database = Database::create(directory.join("database.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(PAGES)?;
        transaction.open_table(ENTRIES)?;
        transaction.commit()?;
        Ok(Redb { database })
    }
}

impl PageStore for Redb {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(PAGES)?;
        for page in pages {
            table.insert(page.index, page.after)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        let table = self.database.begin_read()?.open_table(PAGES)?;
        Ok(table.get(index)?.map(|found| *found.value()))
    }
}

impl Engine for Redb {
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(ENTRIES)?;
        for (key, value) in entries {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn get(&mut self, key: u128) -> Result<Option<u128>> {
        let table = self.database.begin_read()?.open_table(ENTRIES)?;
        Ok(table.get(key)?.map(|found| found.value()))
    }
}
