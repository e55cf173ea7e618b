//! Backs up what is in no file system: the rows of a table, each as a file.
//!
//!     cargo run -p dr-core --example custom_source
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, Entry, EntryKind, Extent, FileContent,
    Metadata, Repository, RepositoryOptions, Source, SourceDirectory, SourceFile, SourceItem, Stream,
    Timestamp,
};
use dr_store::MemoryStore;

/// A row: its content, and when it was changed, in seconds since 1970.
type Row = (String, i64);

/// A table, whose rows become files right below `/`.
#[derive(Debug, Clone)]
struct Table(Arc<BTreeMap<String, Row>>);

impl Table {
    fn entry(&self, key: &str) -> io::Result<Entry> {
        let (content, changed) = self.0.get(key).ok_or(io::ErrorKind::NotFound)?;
        let mut metadata = Metadata::default();
        (metadata.mode, metadata.links) = (0o600, 1);
        // A file whose length, times and inode are those of the parent snapshot is not read again.
        metadata.modified = Timestamp::from_nanoseconds(i128::from(*changed) * 1_000_000_000);
        metadata.changed = metadata.modified;
        let file = FileContent::new(content.len() as u64, Stream::default(), None);
        Ok(Entry::new(key, EntryKind::File(file), metadata))
    }
}

impl Source for Table {
    fn paths(&self) -> Vec<PathBuf> {
        vec![PathBuf::from("/")]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

impl SourceDirectory for Table {
    // In ascending order of name, which a `BTreeMap` keeps.
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let item = |key: &String| SourceItem { name: key.clone().into_bytes(), entry: self.entry(key) };
        Ok(self.0.keys().map(item).collect())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, _name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        let key = str::from_utf8(name).map_err(|_| io::ErrorKind::NotFound)?;
        Ok(Box::new(OpenRow { table: self.clone(), key: key.to_owned() }))
    }
}

#[derive(Debug)]
struct OpenRow {
    table: Table,
    key: String,
}

impl SourceFile for OpenRow {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.table.0.get(&self.key).map(|(content, _)| content.as_bytes()).unwrap_or_default();
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    // Looked at before and after the bytes are read: one that changed meanwhile is noted in the snapshot.
    fn entry(&self) -> io::Result<Entry> {
        self.table.entry(&self.key)
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let row = |text: &str| (text.to_owned(), 1_700_000_000);
    let rows = [("ada".to_owned(), row("first programmer")), ("grace".to_owned(), row("first compiler"))];
    let table = Table(Arc::new(rows.into()));

    let key = Credentials::key([7; 32]);
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())?;
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let options = BackupOptions::new().host("database");
    let first = repository.backup(&table, &options, &ctx)?;
    let second = repository.backup(&table, &options, &ctx)?;
    println!("read {} bytes, then {}", first.totals.bytes_read, second.totals.bytes_read);
    assert_eq!((first.entries_new, second.entries_unchanged), (2, 2));
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
