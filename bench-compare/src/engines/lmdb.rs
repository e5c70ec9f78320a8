//! LMDB: a copy-on-write B-tree in a file that is mapped.
//!
//! - A page of 4,096 bytes does not fit into a page of a B-tree of the same size: it takes overflow pages of its own,
//!   two of them with their head.

use std::path::Path;

use anyhow::Result;
use lmdb::{Database, DatabaseFlags, Environment, Error, Transaction, WriteFlags};

use crate::engine::{Dirty, Engine, Page, PageStore};

/// What was set.
pub const TUNING: &str = "a map of 4 GiB, since the default is too small; durable by default";

const MAP_BYTES: usize = 4 << 30;

/// An environment with one database, which holds what the one benchmark or the other puts there.
pub struct Lmdb {
    environment: Environment,
    database: Database,
}

impl Lmdb {
    /// Opens the environment in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Lmdb> {
        std::fs::create_dir_all(directory)?;
        let environment = Environment::new().set_map_size(MAP_BYTES).open(directory)?;
        let database = environment.create_db(None, DatabaseFlags::empty())?;
        Ok(Lmdb { environment, database })
    }

    fn find<T>(&self, key: &[u8], then: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let transaction = self.environment.begin_ro_txn()?;
        match transaction.get(self.database, &key) {
            Ok(bytes) => then(bytes).map(Some),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl PageStore for Lmdb {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        let mut transaction = self.environment.begin_rw_txn()?;
        for page in pages {
            let key = page.index.to_be_bytes();
            transaction.put(self.database, &key, page.after, WriteFlags::empty())?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        self.find(&index.to_be_bytes(), super::page)
    }
}

impl Engine for Lmdb {
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()> {
        let mut transaction = self.environment.begin_rw_txn()?;
        for (key, value) in entries {
            let (key, value) = (key.to_be_bytes(), value.to_be_bytes());
            transaction.put(self.database, &key, &value, WriteFlags::empty())?;
        }
        Ok(transaction.commit()?)
    }

    fn get(&mut self, key: u128) -> Result<Option<u128>> {
        self.find(&key.to_be_bytes(), super::value)
    }
}
