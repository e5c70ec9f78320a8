//! fjall: a log-structured merge tree with a journal.
//!
//! - Values of 4,096 bytes and more are offered to LZ4 on their way into the journal, in vain when they are random.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engine::{Dirty, Engine, Page, PageStore};

/// What was set.
pub const TUNING: &str = "one keyspace; each batch with PersistMode::SyncData";

/// A database with one keyspace, which holds what the one benchmark or the other puts there.
pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    /// Opens the database in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Fjall> {
        let database = Database::builder(directory).open()?;
        let keyspace = database.keyspace("all", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, keyspace })
    }
}

impl PageStore for Fjall {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for page in pages {
            batch.insert(&self.keyspace, page.index.to_be_bytes(), &page.after[..]);
        }
        Ok(batch.commit()?)
    }

    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        let found = self.keyspace.get(index.to_be_bytes())?;
        found.map(|bytes| super::page(&bytes)).transpose()
    }
}

impl Engine for Fjall {
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in entries {
            batch.insert(&self.keyspace, key.to_be_bytes(), value.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn get(&mut self, key: u128) -> Result<Option<u128>> {
        let found = self.keyspace.get(key.to_be_bytes())?;
        found.map(|bytes| super::value(&bytes)).transpose()
    }
}
