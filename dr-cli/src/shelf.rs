//! The snapshots that are shown as files, by a mount or a server: which there are, what they are read through, and what could
//! not be read.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dr_core::{
    Entry, EntryKind, Error, FileContent, Metadata, Repository, Snapshot, SnapshotFilter, SnapshotTree,
    SnapshotView, SparseMap, Stream,
};

use crate::error::Result;
use crate::render::json::{self, ItemError};
use crate::render::{Output, text};

/// So long a list of snapshots is believed before somebody who asks makes it be read again.
const BELIEVED: Duration = Duration::from_secs(5);
/// Of what cannot be read so many paths are named in each `COMPLAINTS_SPAN`, each once: programs try again and again.
const COMPLAINTS_MAX: usize = 20;
const COMPLAINTS_SPAN: Duration = Duration::from_secs(60);

/// The snapshots that are shown.
#[derive(Debug)]
pub(crate) struct Shelf {
    repository: Repository,
    filter: SnapshotFilter,
    known: Mutex<Known>,
    /// All snapshots are read through one, so that memory stays bounded however many are looked at.
    view: OnceLock<SnapshotView>,
    output: Output,
    /// The command's name, for programs that read what cannot be read.
    during: &'static str,
    complaints: Mutex<Complaints>,
}

/// What a regular file holds, in bytes that two files share only where they hold the same: how long it is, the chunks of its
/// data, and where they lie, since the same data at other places is another content.
pub(crate) fn content(content: &FileContent) -> Vec<u8> {
    let mut bytes = content.bytes.to_le_bytes().to_vec();
    add_references(&content.stream, &mut bytes);
    match &content.sparse {
        Some(SparseMap::Inline(extents)) => {
            let numbers = extents.iter().flat_map(|extent| [extent.offset, extent.bytes]);
            bytes.extend(numbers.flat_map(u64::to_le_bytes));
        }
        Some(SparseMap::Stream(stream)) => add_references(stream, &mut bytes),
        _ => {}
    }
    bytes
}

fn add_references(stream: &Stream, bytes: &mut Vec<u8>) {
    bytes.push(stream.level);
    for chunk in &stream.chunks {
        bytes.extend_from_slice(chunk.id.as_bytes());
    }
}

#[derive(Debug)]
struct Known {
    tree: Arc<SnapshotTree>,
    read: Instant,
}

#[derive(Debug)]
struct Complaints {
    since: Instant,
    named: HashSet<Vec<u8>>,
    unnamed: u64,
}

impl Shelf {
    /// Reads which snapshots there are.
    pub(crate) fn open(
        repository: Repository,
        filter: SnapshotFilter,
        during: &'static str,
        output: &Output,
    ) -> Result<Shelf> {
        for (id, error) in repository.unreadable_snapshots()? {
            output.warn(&format!("snapshot {id} cannot be read: {error}; 'dr check' says what is damaged"));
        }
        let tree = Arc::new(SnapshotTree::new(repository.snapshots(&filter)?));
        let complaints = Complaints { since: Instant::now(), named: HashSet::new(), unnamed: 0 };
        Ok(Shelf {
            repository,
            filter,
            known: Mutex::new(Known { tree, read: Instant::now() }),
            view: OnceLock::new(),
            output: output.clone(),
            during,
            complaints: Mutex::new(complaints),
        })
    }

    /// The snapshots as folders. Whoever finds the list old reads it again; others go on with the old one meanwhile, and so
    /// does everybody where the store does not answer.
    pub(crate) fn tree(&self) -> Arc<SnapshotTree> {
        {
            let mut known = lock(&self.known);
            if known.read.elapsed() < BELIEVED {
                return known.tree.clone();
            }
            known.read = Instant::now();
        }
        match self.repository.snapshots(&self.filter) {
            Ok(snapshots) => {
                let tree = Arc::new(SnapshotTree::new(snapshots));
                lock(&self.known).tree = tree.clone();
                tree
            }
            Err(error) => {
                self.complain(b"/", &error);
                lock(&self.known).tree.clone()
            }
        }
    }

    /// What snapshots are read through.
    pub(crate) fn view(&self, snapshot: &Snapshot) -> dr_core::Result<SnapshotView> {
        if let Some(view) = self.view.get() {
            return Ok(view.clone());
        }
        let view = self.repository.view(snapshot)?;
        Ok(self.view.get_or_init(|| view).clone())
    }

    /// A snapshot's topmost directory, which has no entry of its own: everybody may look into it.
    pub(crate) fn root(view: &SnapshotView, snapshot: &Snapshot) -> Entry {
        let mut metadata = Metadata::default();
        metadata.mode = 0o755;
        metadata.links = 2;
        metadata.modified = snapshot.time;
        metadata.changed = snapshot.time;
        Entry::new("", EntryKind::Directory(view.root_of(snapshot)), metadata)
    }

    /// Says on standard error what cannot be read, but not again and again.
    pub(crate) fn complain(&self, path: &[u8], error: &Error) {
        let mut complaints = lock(&self.complaints);
        if complaints.since.elapsed() >= COMPLAINTS_SPAN {
            if complaints.unnamed > 0 {
                let more = text::count(complaints.unnamed, "more error was", "more errors were");
                self.output.warn(&format!("{more} not shown"));
            }
            *complaints = Complaints { since: Instant::now(), named: HashSet::new(), unnamed: 0 };
        }
        if complaints.named.contains(path) {
            return;
        }
        if complaints.named.len() >= COMPLAINTS_MAX {
            complaints.unnamed += 1;
            return;
        }
        complaints.named.insert(path.to_vec());
        drop(complaints);
        let message = error.to_string();
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told where standard error is closed.
        let _ = if self.output.is_json() {
            json::write_line(&mut stderr, &ItemError::of_path(self.during, path, "unreadable", &message))
        } else {
            writeln!(stderr, "error: {}: {}", text::printable_path(path), text::printable(&message))
        };
    }
}

/// Locks a mutex, also one whose holder panicked: what is held here is valid after every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
