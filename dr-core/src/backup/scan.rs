//! Walks the source beside the parents, hands out the files that changed, and puts the directories together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::ahead::{self, Ahead, ListedBy, Listing, Opened};
use super::file::{FileDone, FileJob, Place, is_racy, problem_of};
use super::options::BackupOptions;
use super::parent::{ParentDirectory, Parents};
use super::report::BackupWarning;
use super::storer::{Scratch, Storer};
use super::workers;
use crate::error::Result;
use crate::format::snapshot::{Problem, ProblemKind, Totals};
use crate::format::tree::check_entry;
use crate::limits::REPORTED_PROBLEMS_MAX;
use crate::observer::{Change, Event};
use crate::source::{Remark, SourceDirectory, SourceItem};
use crate::time::Timestamp;
use crate::tree::{DirectoryWriter, Entry, EntryKind, Stream};

/// Directories whose files are still being read. More than these wait for the readers.
const WAITING_MAX: usize = 4096;

/// What a scan found so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    pub(crate) entries_new: u64,
    pub(crate) entries_changed: u64,
    pub(crate) entries_unchanged: u64,
    pub(crate) entries_excluded: u64,
    pub(crate) warning_count: u64,
    pub(crate) warnings: Vec<BackupWarning>,
    pub(crate) problems: Vec<Problem>,
    /// Whether anything but the directories that lead to the named paths differs from the first parent.
    pub(crate) differs: bool,
}

/// A walk in progress.
pub(crate) struct Scan<'s, 'a> {
    storer: &'s Storer<'a>,
    parents: &'s Parents<'a>,
    /// The paths that were asked for, ascending.
    named: Vec<Vec<u8>>,
    open: HashMap<u64, OpenDirectory<'s>>,
    /// The directories being listed, outermost first.
    stack: Vec<u64>,
    next_id: u64,
    root: Option<Stream>,
    pub(crate) tally: Tally,
}

/// A directory that is not yet put together.
struct OpenDirectory<'p> {
    path: Vec<u8>,
    /// Open while it is listed.
    directory: Option<Arc<dyn SourceDirectory>>,
    items: std::vec::IntoIter<SourceItem>,
    place: ahead::Place,
    /// Of the directories among its items that are still to be walked, the first ones.
    below: VecDeque<Arc<Ahead>>,
    looked: Timestamp,
    parent: ParentDirectory<'p>,
    entries: Vec<Option<Entry>>,
    pending: usize,
    /// Its own entry, what the first parent has in its place, and where it belongs; none for `/`.
    own: Option<(Entry, Option<Entry>, Place)>,
}

impl<'s, 'a> Scan<'s, 'a> {
    pub(crate) fn new(storer: &'s Storer<'a>, parents: &'s Parents<'a>, mut named: Vec<Vec<u8>>) -> Self {
        named.sort_unstable();
        Scan {
            storer,
            parents,
            named,
            open: HashMap::new(),
            stack: Vec::new(),
            next_id: 0,
            root: None,
            tally: Tally::default(),
        }
    }

    /// Walks the tree below `root`; calls `pause` between entries, with the walk in a state that `so_far` can tell.
    pub(crate) fn run(
        &mut self,
        root: Arc<dyn SourceDirectory>,
        pause: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<Stream> {
        let Listing { looked, opened } = Listing::of_root(root, &*self.storer.repository.clock);
        let opened = opened.map_err(|error| {
            crate::Error::new(crate::ErrorKind::Source, "the source cannot be listed").with_source(error)
        })?;
        if !workers::is_alone(self.storer) {
            self.storer.queue.push_directories(opened.below.iter().cloned());
        }
        self.open_directory(Vec::new(), opened, looked, self.parents.root(), None);
        let mut scratch = Scratch::new(self.storer.options)?;
        loop {
            self.storer.ctx.cancel.check()?;
            for done in self.storer.queue.take_done()? {
                self.settle(done)?;
            }
            if let Some(root) = self.root.take() {
                return Ok(root);
            }
            let top = self.stack.last().copied().filter(|_| self.open.len() < WAITING_MAX + self.stack.len());
            let Some(top) = top else {
                for done in self.storer.queue.wait_done()? {
                    self.settle(done)?;
                }
                continue;
            };
            self.step(top)?;
            workers::work_alone(self.storer, &mut scratch);
            pause(self)?;
        }
    }

    /// Takes one entry of a directory, or ends its listing.
    fn step(&mut self, id: u64) -> Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        match open.items.next() {
            Some(item) => self.take(id, item),
            None => {
                open.directory = None;
                self.stack.pop();
                self.finish_if_done(id)
            }
        }
    }

    fn take(&mut self, id: u64, item: SourceItem) -> Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let path = [open.path.as_slice(), b"/", &item.name].concat();
        let known = open.parent.find(&item.name);
        let Some(directory) = open.directory.clone() else { return Ok(()) };
        let looked = open.looked;
        let entry = match item.entry {
            Ok(entry) if entry.name != item.name => {
                let why = "the source gives it another name than it lists";
                self.lose(id, Problem::new(path, ProblemKind::Unreadable, why));
                return Ok(());
            }
            Ok(entry) => entry,
            Err(error) => {
                self.lose(id, problem_of(&path, &error));
                return Ok(());
            }
        };
        match entry.kind {
            EntryKind::Directory(_) => self.take_directory(id, &directory, entry, known, path),
            EntryKind::File(_) => {
                self.take_file(id, directory, entry, known, path);
                Ok(())
            }
            _ => {
                self.take_other(id, &*directory, entry, known, path, looked);
                Ok(())
            }
        }
    }

    fn take_directory(
        &mut self,
        id: u64,
        directory: &Arc<dyn SourceDirectory>,
        mut entry: Entry,
        known: Vec<Option<Entry>>,
        path: Vec<u8>,
    ) -> Result<()> {
        self.tally.totals.directories += 1;
        let looked = self.storer.repository.clock.now();
        let mut is_whole = true;
        let known_entry = known.iter().flatten().find(|before| before.is_directory()).cloned();
        match known_entry.filter(|before| is_unchanged(before, &entry, self.storer.options)) {
            Some(before) => entry.metadata.xattrs = before.metadata.xattrs,
            None => is_whole = self.complete(&**directory, &mut entry, &path),
        }
        // What could not be read now is looked at again next time.
        entry.metadata.racy = !is_whole || is_racy(&entry, looked);
        let Listing { looked, opened } = self.list(id, directory, &entry.name);
        let place = self.reserve(id);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let problem = problem_of(&path, &error);
                let is_gone = problem.kind == ProblemKind::Vanished;
                self.lose(id, problem);
                // What is known of a directory that cannot be listed is kept: its name, owner and mode.
                self.put(place, (!is_gone).then_some(entry));
                return self.finish_if_done(id);
            }
        };
        let first = known.first().cloned().flatten();
        let parent = self.parents.directory_of(&known);
        self.open_directory(path, opened, looked, parent, Some((entry, first, place)));
        Ok(())
    }

    /// Lists a directory, or takes what was listed ahead.
    fn list(&mut self, id: u64, above: &Arc<dyn SourceDirectory>, name: &[u8]) -> Listing {
        let clock = &*self.storer.repository.clock;
        let queue = &self.storer.queue;
        let Some(open) = self.open.get_mut(&id) else { return Listing::too_deep(clock) };
        let is_next = |next: &mut Arc<Ahead>| next.name() == name;
        let next = open.below.pop_front_if(is_next);
        let Some(next) = next.or_else(|| Ahead::new(name, above, &open.place).map(Arc::new)) else {
            return Listing::too_deep(clock);
        };
        let (listing, listed_by) = next.take(clock);
        queue.came_to(&next, listed_by);
        if workers::is_alone(self.storer) {
            return listing;
        }
        if open.below.is_empty() {
            open.below = Ahead::among(open.items.as_slice(), above, &open.place);
            queue.push_directories(open.below.iter().cloned());
        }
        if let (ListedBy::Walk, Ok(opened)) = (listed_by, &listing.opened) {
            queue.push_directories(opened.below.iter().cloned());
        }
        listing
    }

    fn take_file(
        &mut self,
        id: u64,
        directory: Arc<dyn SourceDirectory>,
        mut entry: Entry,
        known: Vec<Option<Entry>>,
        path: Vec<u8>,
    ) {
        let is_new = known.iter().all(Option::is_none);
        let is_same = |before: &&Entry| {
            // Where the store does not answer, the file is read, and what stores it says so.
            is_unchanged(before, &entry, self.storer.options)
                && self.parents.has_content(before, self.storer).unwrap_or(false)
        };
        let before = known.iter().flatten().find(is_same);
        let place = self.reserve(id);
        let Some(before) = before else {
            let change = if is_new { Change::New } else { Change::Changed };
            self.count(change);
            self.differs(id);
            self.storer.queue.push_file(FileJob { directory, entry, path, place, change });
            return;
        };
        entry.kind.clone_from(&before.kind);
        entry.metadata.xattrs.clone_from(&before.metadata.xattrs);
        self.compare(id, known.first().and_then(Option::as_ref), &entry);
        self.count(Change::Unchanged);
        self.tell(path, Change::Unchanged, &entry);
        self.tally.totals.files += 1;
        self.tally.totals.bytes += file_bytes(&entry);
        self.put(place, Some(entry));
    }

    fn take_other(
        &mut self,
        id: u64,
        directory: &dyn SourceDirectory,
        mut entry: Entry,
        known: Vec<Option<Entry>>,
        path: Vec<u8>,
        looked: Timestamp,
    ) {
        let before = known.iter().flatten().find(|before| is_unchanged(before, &entry, self.storer.options));
        let change = match before {
            Some(before) => {
                entry.kind.clone_from(&before.kind);
                entry.metadata.xattrs.clone_from(&before.metadata.xattrs);
                Change::Unchanged
            }
            None => {
                let mut is_whole = true;
                if let Err(error) = directory.complete(&mut entry) {
                    let has_no_target =
                        matches!(&entry.kind, EntryKind::Symlink(target) if target.is_empty());
                    let problem = problem_of(&path, &error);
                    if has_no_target || problem.kind == ProblemKind::Vanished {
                        self.lose(id, problem);
                        return;
                    }
                    self.note(Problem { kind: ProblemKind::Attributes, ..problem });
                    is_whole = false;
                }
                entry.metadata.racy = !is_whole || is_racy(&entry, looked);
                if known.iter().all(Option::is_none) { Change::New } else { Change::Changed }
            }
        };
        self.compare(id, known.first().and_then(Option::as_ref), &entry);
        self.count(change);
        self.tell(path, change, &entry);
        self.tally.totals.others += 1;
        let place = self.reserve(id);
        self.put(place, Some(entry));
    }

    /// Adds what a listing does not give; whether that could be read.
    fn complete(&mut self, directory: &dyn SourceDirectory, entry: &mut Entry, path: &[u8]) -> bool {
        match directory.complete(entry) {
            Ok(()) => true,
            Err(error) => {
                self.note(Problem::new(path, ProblemKind::Attributes, error));
                false
            }
        }
    }

    /// Takes the result of a file that was read.
    fn settle(&mut self, done: FileDone) -> Result<()> {
        for problem in done.problems {
            self.note(problem);
        }
        self.tally.totals.files_read += 1;
        self.tally.totals.bytes_read += done.bytes_read;
        if let Some(entry) = &done.entry {
            self.tally.totals.files += 1;
            self.tally.totals.bytes += file_bytes(entry);
        }
        self.put(done.place, done.entry);
        self.finish_if_done(done.place.directory)
    }

    fn open_directory(
        &mut self,
        path: Vec<u8>,
        opened: Opened,
        looked: Timestamp,
        parent: ParentDirectory<'s>,
        own: Option<(Entry, Option<Entry>, Place)>,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        let Opened { directory, place, items, unordered, remarks, below } = opened;
        self.take_remarks(&path, remarks);
        let unordered: Vec<Vec<u8>> =
            (unordered.iter()).map(|item| [path.as_slice(), b"/", &item.name].concat()).collect();
        let open = OpenDirectory {
            path,
            directory: Some(directory),
            entries: Vec::with_capacity(items.len()),
            items: items.into_iter(),
            place,
            below,
            looked,
            parent,
            pending: 0,
            own,
        };
        self.open.insert(id, open);
        self.stack.push(id);
        for path in unordered {
            let why = "the source lists it twice, or out of order";
            self.lose(id, Problem::new(path, ProblemKind::Unreadable, why));
        }
    }

    /// Puts a directory together once it was listed and all its files are read; then perhaps the one above it.
    fn finish_if_done(&mut self, mut id: u64) -> Result<()> {
        loop {
            let is_done = |open: &OpenDirectory<'_>| open.directory.is_none() && open.pending == 0;
            if !self.open.get(&id).is_some_and(is_done) {
                return Ok(());
            }
            let Some(mut open) = self.open.remove(&id) else { return Ok(()) };
            let stream = match open.parent.unchanged_stream() {
                Some(stream) => stream,
                None => write_directory(open.entries.into_iter().flatten(), self.storer)?,
            };
            let Some((mut entry, known, place)) = open.own else {
                // `/` has no entry that could differ.
                let first = self.parents.snapshots.first();
                let is_same = first.is_some_and(|first| first.root == stream);
                self.tally.differs |= !is_same && self.named.first().is_some_and(|named| named == b"/");
                self.root = Some(stream);
                return Ok(());
            };
            entry.kind = EntryKind::Directory(stream);
            let change = match &known {
                None => Change::New,
                Some(known) if *known == entry => Change::Unchanged,
                Some(_) => Change::Changed,
            };
            if change != Change::Unchanged {
                self.tally.differs |= !self.only_leads_on(&open.path);
                self.mark(place.directory);
            }
            self.count(change);
            self.tell(open.path, change, &entry);
            self.put(place, Some(entry));
            id = place.directory;
        }
    }

    /// The tree as far as it was walked: every directory on the way holds what is done, and the one being listed. `None`
    /// where the walk is over.
    pub(crate) fn so_far(&mut self) -> Result<Option<Stream>> {
        self.storer.settle()?;
        for done in self.storer.queue.take_done()? {
            self.settle(done)?;
        }
        if self.stack.is_empty() {
            return Ok(None);
        }
        let mut below: Option<(Entry, Place)> = None;
        let mut stream = Stream::default();
        for id in self.stack.iter().rev() {
            let Some(open) = self.open.get(id) else { continue };
            let mut entries = open.entries.clone();
            if let Some((entry, place)) = below.take() {
                entries[place.number] = Some(entry);
            }
            stream = write_directory(entries.into_iter().flatten(), self.storer)?;
            if let Some((entry, _, place)) = &open.own {
                let mut entry = entry.clone();
                entry.kind = EntryKind::Directory(stream.clone());
                below = Some((entry, *place));
            }
        }
        Ok(Some(stream))
    }

    fn reserve(&mut self, directory: u64) -> Place {
        let Some(open) = self.open.get_mut(&directory) else { return Place { directory, number: 0 } };
        open.entries.push(None);
        open.pending += 1;
        Place { directory, number: open.entries.len() - 1 }
    }

    fn put(&mut self, place: Place, entry: Option<Entry>) {
        let entry = entry.and_then(|entry| self.fit(place.directory, entry));
        if let Some(open) = self.open.get_mut(&place.directory) {
            open.entries[place.number] = entry;
            open.pending -= 1;
        }
    }

    /// Holds an entry to the limits that readers enforce, so that no entry makes its directory unreadable. What does not
    /// fit is left out, and said.
    fn fit(&mut self, directory: u64, mut entry: Entry) -> Option<Entry> {
        let Err(error) = check_entry(&entry) else { return Some(entry) };
        let above = self.open.get(&directory).map(|open| open.path.clone()).unwrap_or_default();
        let path = [above.as_slice(), b"/", &entry.name].concat();
        entry.metadata.xattrs.clear();
        entry.metadata.racy = true;
        let fits = check_entry(&entry).is_ok();
        let kind = if fits { ProblemKind::Attributes } else { ProblemKind::Unreadable };
        self.lose(directory, Problem::new(path, kind, error));
        fits.then_some(entry)
    }

    fn compare(&mut self, directory: u64, known: Option<&Entry>, entry: &Entry) {
        if known != Some(entry) {
            self.differs(directory);
        }
    }

    fn differs(&mut self, directory: u64) {
        self.tally.differs = true;
        self.mark(directory);
    }

    /// Whether a directory is there only because a named path is below.
    fn only_leads_on(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        let first = self.named.partition_point(|named| *named < below);
        let leads = self.named.get(first).is_some_and(|named| named.starts_with(&below));
        let is_named = |path: &[u8]| self.named.binary_search_by(|named| named.as_slice().cmp(path)).is_ok();
        let above =
            below.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &below[..end.max(1)]);
        leads && !above.into_iter().any(is_named)
    }

    /// Has a directory written anew.
    fn mark(&mut self, directory: u64) {
        if let Some(open) = self.open.get_mut(&directory) {
            open.parent.differs();
        }
    }

    /// Notes an entry that will not be in the snapshot.
    fn lose(&mut self, directory: u64, problem: Problem) {
        self.differs(directory);
        self.note(problem);
    }

    pub(crate) fn note(&mut self, problem: Problem) {
        self.storer.ctx.problem(&problem);
        self.tally.problems.push(problem);
    }

    /// Tells and counts what a source left out of a listing.
    fn take_remarks(&mut self, path: &[u8], remarks: Vec<Remark>) {
        for remark in remarks {
            let event = match remark {
                Remark::Excluded { name, reason } => {
                    self.tally.entries_excluded += 1;
                    Event::Excluded { path: [path, b"/", &name].concat(), reason }
                }
                Remark::Warning { name, detail } => {
                    let path = [path, b"/", &name].concat();
                    self.tally.warning_count += 1;
                    if self.tally.warnings.len() < REPORTED_PROBLEMS_MAX {
                        let (path, detail) = (path.clone(), detail.clone());
                        self.tally.warnings.push(BackupWarning { path, detail });
                    }
                    Event::Warning { path, detail }
                }
            };
            self.storer.ctx.observer.event(&event);
        }
    }

    fn count(&mut self, change: Change) {
        match change {
            Change::New => self.tally.entries_new += 1,
            Change::Changed => self.tally.entries_changed += 1,
            _ => self.tally.entries_unchanged += 1,
        }
    }

    fn tell(&self, path: Vec<u8>, change: Change, entry: &Entry) {
        self.storer.ctx.observer.event(&Event::EntryDone { path, change, bytes: file_bytes(entry) });
    }
}

fn file_bytes(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(content) => content.bytes,
        _ => 0,
    }
}

fn write_directory(entries: impl Iterator<Item = Entry>, storer: &Storer<'_>) -> Result<Stream> {
    let mut writer = DirectoryWriter::default();
    for entry in entries {
        writer.push(entry, storer)?;
    }
    writer.finish(storer)
}

/// Whether an entry is what the parent has, going by length, times and inode: then it is not looked at any further.
fn is_unchanged(before: &Entry, now: &Entry, options: &BackupOptions) -> bool {
    let (then, current) = (&before.metadata, &now.metadata);
    let same_kind = match (&before.kind, &now.kind) {
        (EntryKind::File(before), EntryKind::File(now)) => before.bytes == now.bytes,
        (EntryKind::CharacterDevice(before), EntryKind::CharacterDevice(now))
        | (EntryKind::BlockDevice(before), EntryKind::BlockDevice(now)) => before == now,
        (before, now) => std::mem::discriminant(before) == std::mem::discriminant(now),
    };
    same_kind
        && !then.racy
        && then.modified == current.modified
        && (options.ignore_ctime || then.changed == current.changed)
        && (options.ignore_inode || then.inode == current.inode)
}
