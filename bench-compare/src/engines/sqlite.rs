//! SQLite: a B-tree in one file, with a write-ahead log beside it.
//!
//! - A page of 4,096 bytes does not fit into a page of a B-tree of the same size: most of it is in an overflow page.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension};

use crate::engine::{Dirty, Engine, Page, PageStore};

/// What was set.
pub const TUNING: &str = "journal_mode=WAL, synchronous=FULL; prepared statements";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS pages (number INTEGER PRIMARY KEY, content BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";
const PUT_PAGE: &str =
    "INSERT INTO pages VALUES (?1, ?2) ON CONFLICT DO UPDATE SET content = excluded.content";
const PUT_ENTRY: &str =
    "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";

/// A connection to a database with a table for each benchmark.
pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens the database in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Sqlite> {
        std::fs::create_dir_all(directory)?;
        let connection = Connection::open(directory.join("database.sqlite"))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        anyhow::ensure!(
            mode == "wal",
            "SQLite keeps a journal of the kind `{mode}` here, not a write-ahead log"
        );
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        connection.execute_batch(TABLES)?;
        Ok(Sqlite { connection })
    }
}

impl PageStore for Sqlite {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let mut put = transaction.prepare_cached(PUT_PAGE)?;
        for page in pages {
            put.execute((page.index, &page.after[..]))?;
        }
        drop(put);
        Ok(transaction.commit()?)
    }

    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        let mut query = self.connection.prepare_cached("SELECT content FROM pages WHERE number = ?1")?;
        let found: Option<Vec<u8>> = query.query_row([index], |row| row.get(0)).optional()?;
        found.map(|bytes| super::page(&bytes)).transpose()
    }
}

impl Engine for Sqlite {
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let mut put = transaction.prepare_cached(PUT_ENTRY)?;
        for (key, value) in entries {
            put.execute((&key.to_be_bytes()[..], &value.to_be_bytes()[..]))?;
        }
        drop(put);
        Ok(transaction.commit()?)
    }

    fn get(&mut self, key: u128) -> Result<Option<u128>> {
        let mut query = self.connection.prepare_cached("SELECT value FROM entries WHERE key = ?1")?;
        let found: Option<[u8; 16]> =
            query.query_row([&key.to_be_bytes()[..]], |row| row.get(0)).optional()?;
        Ok(found.map(u128::from_be_bytes))
    }
}
