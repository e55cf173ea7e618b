//! Named streams: each put is a snapshot of one file, which may go on where the one before ended, or be left out where nothing
//! has changed.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::options::{BackupOptions, Parent, StreamInput};
use super::parent::Parents;
use super::scan::Tally;
use super::segment::StreamCutter;
use super::storer::{Scratch, Storer};
use super::stream::{ReadAhead, split_name, write_path};
use super::{BackupReport, Ending, Run, condemned, workers};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::id::SnapshotId;
use crate::log::Log;
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner, Repository, find_path};
use crate::snapshot::{Origin, Relation, Snapshot};
use crate::tree::{Entry, EntryKind, Stream, stream_chunks};

/// The tag of a snapshot that only says that its content was the same again.
const HEARTBEAT: &str = "heartbeat";

/// What a caller may ask of a put.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PutOptions {
    /// What it has in common with a backup. The parent counts for nothing: it is the newest snapshot of the same host and name.
    pub backup: BackupOptions,
    /// Whether the bytes are the whole of the stream.
    pub mode: PutContent,
    /// What to do where the stream is what it was.
    pub unchanged: WhenUnchanged,
}

/// Whether bytes are the whole of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutContent {
    /// They are all of it.
    #[default]
    Whole,
    /// They go on where the newest snapshot ends; without one, they are the beginning.
    Append,
}

/// What to do where a stream is what it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenUnchanged {
    /// Make a snapshot like any other.
    #[default]
    Save,
    /// Make none.
    Skip,
    /// Make one that shares all of the one before and has the tag `heartbeat`: its time says when the content was last known to
    /// be the same. A heartbeat before it is forgotten, so that there is one at most behind each content.
    Heartbeat,
}

impl PutOptions {
    /// A whole stream that is saved whatever it holds.
    pub fn new(backup: BackupOptions) -> PutOptions {
        PutOptions { backup, ..PutOptions::default() }
    }

    /// Says whether the bytes are the whole of the stream.
    #[must_use]
    pub fn mode(mut self, mode: PutContent) -> Self {
        self.mode = mode;
        self
    }

    /// Says what to do where the stream is what it was.
    #[must_use]
    pub fn unchanged(mut self, unchanged: WhenUnchanged) -> Self {
        self.unchanged = unchanged;
        self
    }
}

/// What a put did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a report says whether there is a new snapshot"]
pub struct PutReport {
    /// What it has in common with a backup's. There is no snapshot after a dry run, and where the stream was left out.
    pub backup: BackupReport,
    /// How it ended.
    pub outcome: PutOutcome,
    /// The newest snapshot of the stream before, where it was looked for.
    pub previous: Option<SnapshotId>,
}

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOutcome {
    /// The stream is in a new snapshot (or would be, were it no dry run).
    Saved,
    /// It is what it was, and there is no new snapshot.
    Unchanged,
    /// It is what it was, and a new snapshot says so.
    Heartbeat,
}

impl Repository {
    /// Puts a stream into the repository under its name: a snapshot of one file. Other than
    /// [`backup_stream`](Repository::backup_stream) it may go on where the newest snapshot of that host and name ends, without
    /// reading more of it than its last chunk, and may leave out what has not changed.
    ///
    /// # Errors
    /// `Source` where the stream fails or is not confirmed (no snapshot is made then), `InvalidInput` for a bad name or
    /// where what is there under it is no stream, `AlreadyExists` where another call put the stream while this one was to
    /// append to it, `Cancelled`, and what the store answers.
    pub fn put(&self, input: StreamInput, options: &PutOptions, ctx: &Context<'_>) -> Result<PutReport> {
        let repository = &self.0;
        let (log, index) = repository.current()?;
        let names = split_name(&input.name)?;
        let path = PathBuf::from(format!("/{}", names.join("/")));
        let chunks = ChunkReader::new(repository, &log, index);
        let before = Before::find(repository, &log, &chunks, options, &path)?;
        let parent = before
            .as_ref()
            .map_or(Parent::Nothing, |before| Parent::Snapshot(before.snapshot.id.to_string()));
        // Whether to leave it out is said by `unchanged` alone.
        let own =
            BackupOptions { parent, partial_every: None, skip_if_unchanged: false, ..options.backup.clone() };
        let (mode, unchanged) = (options.mode, options.unchanged);
        let put =
            Put { repository, log: &log, chunks: &chunks, before, mode, unchanged, path, options: &own };
        // A stream cannot be read a second time.
        let (report, stale) = put.run(input, *ctx)?.ok_or_else(condemned)?;
        if let (Some(stale), Some(beat)) = (stale, &report.backup.snapshot) {
            // Housekeeping: the new heartbeat is there whatever comes of it. Where somebody has forgotten it already, the old
            // one may be the last that holds the content.
            let _ = self.forget_replaced(&[stale], beat);
        }
        Ok(report)
    }
}

/// The newest snapshot of a stream, and the stream.
struct Before {
    snapshot: Snapshot,
    entry: Entry,
    stream: Stream,
}

impl Before {
    /// Finds what was put under the same name. Where the stream is to go on from it, nothing that cannot be read is passed over.
    fn find(
        repository: &Inner,
        log: &Log,
        chunks: &ChunkReader<'_>,
        options: &PutOptions,
        path: &Path,
    ) -> Result<Option<Before>> {
        let must = options.mode == PutContent::Append;
        if !must && options.unchanged == WhenUnchanged::Save {
            return Ok(None);
        }
        if must && !chunks.index.is_whole() {
            return Err(Error::corrupt(
                "a part of the index is missing, so the stream cannot be gone on from",
            )
            .with_remedy("run 'dr repair index', or put the whole stream"));
        }
        let unreadable = if must { Unreadable::Refused } else { Unreadable::PassedOver };
        let Some(snapshot) = newest(repository, log, &options.backup.host, path, 0, unreadable)? else {
            return Ok(None);
        };
        if must {
            refuse_older_copy(repository, log, &snapshot)?;
        }
        let found = find_path(&snapshot, path.as_os_str().as_encoded_bytes(), chunks);
        let entry = match found {
            Ok(found) => found.entry,
            Err(error) if must => return Err(error),
            Err(_) => None,
        };
        let stream = entry.as_ref().and_then(|entry| match &entry.kind {
            EntryKind::File(content) if content.sparse.is_none() => Some(content.stream.clone()),
            _ => None,
        });
        match (entry, stream) {
            (Some(entry), Some(stream)) => Ok(Some(Before { snapshot, entry, stream })),
            _ if must => {
                Err(Error::new(ErrorKind::InvalidInput, "what is there under that name is no stream")
                    .with_path(path)
                    .with_remedy("choose another name, or put the whole stream"))
            }
            _ => Ok(None),
        }
    }
}

/// What a snapshot is that cannot be read.
#[derive(Clone, Copy, PartialEq)]
enum Unreadable {
    Refused,
    PassedOver,
}

/// The newest whole snapshot of one host and path that was committed in `since` or later: one that was made of another stands
/// where that stood. One that cannot be read is an error where it must not be passed over.
fn newest(
    repository: &Inner,
    log: &Log,
    host: &str,
    path: &Path,
    since: u64,
    unreadable: Unreadable,
) -> Result<Option<Snapshot>> {
    let mut bodies = None;
    let mut newest: Option<Snapshot> = None;
    let states: Vec<_> = log.fold.live_snapshots().filter(|state| state.slot >= since).collect();
    for state in states.into_iter().rev() {
        // No snapshot stands behind the slot that committed it.
        if newest.as_ref().is_some_and(|newest| newest.place > state.slot) {
            break;
        }
        match repository.read_snapshot(log, state, &mut bodies) {
            Ok(snapshot) if snapshot.host == host && snapshot.paths == [path] && !snapshot.partial => {
                if newest.as_ref().is_none_or(|newest| rank(newest) < rank(&snapshot)) {
                    newest = Some(snapshot);
                }
            }
            Ok(_) => {}
            Err(error) if unreadable == Unreadable::Refused => {
                return Err(error.with_remedy(
                    "a newer snapshot cannot be read, and may be of this stream: run 'dr check', or put the whole stream",
                ));
            }
            Err(_) => {}
        }
    }
    if let Some(newest) = newest.as_ref().filter(|_| unreadable == Unreadable::Refused) {
        newest.refuse_newer()?;
    }
    Ok(newest.filter(|snapshot| !snapshot.newer))
}

/// What snapshots of a stream are ordered by.
fn rank(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.place, snapshot.slot)
}

/// Refuses to go on from what came from elsewhere where another snapshot of the stream is of a later time: which of them is
/// the end of the stream cannot be told.
fn refuse_older_copy(repository: &Inner, log: &Log, chosen: &Snapshot) -> Result<()> {
    let is_foreign = |origin: &Origin| matches!(origin.relation(), Some(Relation::Copy | Relation::Merged));
    if !chosen.origins.iter().any(is_foreign) {
        return Ok(());
    }
    let is_later = |other: &Snapshot| {
        other.host == chosen.host && other.paths == chosen.paths && !other.partial && other.time > chosen.time
    };
    let mut bodies = None;
    for state in log.fold.live_snapshots() {
        let other = repository.read_snapshot(log, state, &mut bodies).ok().filter(is_later);
        if let Some(other) = other {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a copied or merged snapshot came last, but snapshot {} is of a later time",
                    other.id
                ),
            )
            .with_object(format!("snapshot {}", chosen.id))
            .with_remedy("put the whole stream, or forget the one that is not to be gone on from"));
        }
    }
    Ok(())
}

fn has_beat(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == HEARTBEAT)
}

/// A put under way.
struct Put<'p> {
    repository: &'p Inner,
    log: &'p Log,
    chunks: &'p ChunkReader<'p>,
    before: Option<Before>,
    mode: PutContent,
    unchanged: WhenUnchanged,
    path: PathBuf,
    options: &'p BackupOptions,
}

impl Put<'_> {
    /// Makes the report, and names the heartbeat that the new one takes the place of. `None` where the rules of the log refused
    /// the commit.
    fn run(&self, input: StreamInput, ctx: Context<'_>) -> Result<Option<(PutReport, Option<SnapshotId>)>> {
        let (repository, options) = (self.repository, self.options);
        let names = split_name(&input.name)?;
        let started = options.time.unwrap_or_else(|| repository.clock.now());
        if !options.dry_run {
            repository.prepare_to_write(self.log)?;
        }
        let distrusted = repository.distrusted();
        let index = self.chunks.index.clone();
        let reader = ChunkReader::new(repository, self.log, index.clone());
        let paths = std::slice::from_ref(&self.path);
        let parents = Parents::find(repository, self.log, reader, options, paths, !distrusted.is_empty())?;
        let storer = Storer::new(repository, index.with_distrusted(distrusted), options, ctx)?;
        let guard = |log: &Log| self.refuse_another(log);
        let beat_guard = |log: &Log| self.refuse_outdated(log);
        let mut run = Run::new(&storer, started, paths.to_vec(), &parents)?;
        run.guard = (self.mode == PutContent::Append).then_some(&guard);
        let StreamInput { reader, confirm, .. } = input;
        let (mut outcome, mut stale) = (PutOutcome::Saved, None);
        let ended = workers::with_workers(&storer, || {
            self.refuse_lost(&parents, &storer)?;
            let ahead = ReadAhead::start(reader, ctx.cancel.clone())?;
            let mut scratch = Scratch::new(options)?;
            let stream = self.read(&storer, ahead, &mut scratch)?;
            confirm()?;
            let mut tally = self.tally(&stream);
            let Some(before) = self.same(&parents, &storer, &stream)? else {
                let root = write_path(&storer, &names, stream, started)?;
                storer.settle()?;
                return Ok((run.commit(root, false, &tally)?, tally));
            };
            let changed = std::mem::replace(&mut tally.entries_changed, 0);
            tally.entries_unchanged = 1;
            if self.unchanged == WhenUnchanged::Skip {
                outcome = PutOutcome::Unchanged;
                return Ok((Ending::Unchanged, tally));
            }
            outcome = PutOutcome::Heartbeat;
            stale =
                (has_beat(&before.snapshot.tags) && !before.snapshot.protected).then_some(before.snapshot.id);
            if !has_beat(&run.tags) {
                run.tags.push(HEARTBEAT.to_owned());
            }
            let outer = run.guard.replace(&beat_guard);
            let root = before.snapshot.root.clone();
            let ending = match run.commit(root.clone(), false, &tally) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    // Something newer came between: it is no heartbeat of that, but a snapshot like any other.
                    (outcome, stale) = (PutOutcome::Saved, None);
                    (run.tags, run.guard) = (options.tags.clone(), outer);
                    (tally.entries_unchanged, tally.entries_changed) = (0, changed);
                    run.commit(root, false, &tally)?
                }
                ending => ending?,
            };
            Ok((ending, tally))
        });
        let stale = stale.filter(|_| matches!(ended, Ok((Ending::Snapshot(_), _))));
        let previous = self.before.as_ref().map(|before| before.snapshot.id);
        let report = run.conclude(ended)?;
        Ok(report.map(|backup| (PutReport { backup, outcome, previous }, stale)))
    }

    /// What was there before, where the stream is the same, may be left out, and that still counts.
    fn same(&self, parents: &Parents<'_>, storer: &Storer<'_>, stream: &Stream) -> Result<Option<&Before>> {
        let is_sure = !parents.must_look && !parents.snapshots.is_empty();
        // Where nothing new was stored, all of what is there is where it was.
        let new_chunks = storer.counts.new_chunks.load(Ordering::Relaxed);
        let same = self.before.as_ref().filter(|before| {
            self.unchanged != WhenUnchanged::Save && is_sure && new_chunks == 0 && before.stream == *stream
        });
        let Some(before) = same else { return Ok(None) };
        // It may have been forgotten, and another one put, while the stream was read.
        storer.settle()?;
        let log = self.repository.synchronise()?;
        Ok(self.is_newest(&log)?.then_some(before))
    }

    /// Whether what was there before is there still, and nothing newer.
    fn is_newest(&self, log: &Log) -> Result<bool> {
        let Some(before) = &self.before else { return Ok(false) };
        if !log.fold.live_snapshots().any(|state| state.record.id == before.snapshot.id) {
            return Ok(false);
        }
        Ok(self.newer(log, Unreadable::PassedOver)?.is_none())
    }

    /// What others have put under the name since the log was read, where it is newer than what was there before.
    fn newer(&self, log: &Log, unreadable: Unreadable) -> Result<Option<Snapshot>> {
        let since = self.log.fold.next;
        let newest = newest(self.repository, log, &self.options.host, &self.path, since, unreadable)?;
        let before = self.before.as_ref().map(|before| rank(&before.snapshot));
        Ok(newest.filter(|newest| before < Some(rank(newest))))
    }

    /// Refuses to say that content is the same again which is not the newest any more.
    fn refuse_outdated(&self, log: &Log) -> Result<()> {
        if self.is_newest(log)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "another call has put or forgotten the stream meanwhile")
            .with_path(&self.path)
            .with_remedy("put it again"))
    }

    /// Refuses to go on from a stream of which a part is known to be lost.
    fn refuse_lost(&self, parents: &Parents<'_>, storer: &Storer<'_>) -> Result<()> {
        let Some(before) = self.before.as_ref().filter(|_| self.mode == PutContent::Append) else {
            return Ok(());
        };
        // What no parent vouches for is not gone on from.
        if !parents.snapshots.is_empty() && parents.has_content(&before.entry, storer)? {
            return Ok(());
        }
        Err(Error::corrupt("a part of the stream so far is lost")
            .with_object(format!("snapshot {}", before.snapshot.id))
            .with_remedy("put the whole stream, which stores again what is lost"))
    }

    /// Refuses to commit what goes on from a stream that somebody else went on from meanwhile.
    fn refuse_another(&self, log: &Log) -> Result<()> {
        match self.newer(log, Unreadable::Refused)? {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::AlreadyExists,
                "another call has put the stream while this one was to append to it",
            )
            .with_path(&self.path)
            .with_remedy("no snapshot was made: append the same bytes again, one call after the other")),
        }
    }

    fn read(&self, storer: &Storer<'_>, mut ahead: ReadAhead, scratch: &mut Scratch) -> Result<Stream> {
        let mut cutter = StreamCutter::new(storer);
        let mut tail = std::io::Cursor::new(Vec::new());
        if let Some(before) = self.before.as_ref().filter(|_| self.mode == PutContent::Append) {
            let mut last = None;
            for chunk in stream_chunks(&before.stream, self.chunks) {
                if let Some(chunk) = last.replace(chunk?) {
                    cutter.go_on_behind(chunk)?;
                }
            }
            // It ends where the stream ended, not where its content says: it is cut again with what comes.
            if let Some(last) = last {
                tail = std::io::Cursor::new(self.chunks.read(PackClass::Data, &last)?);
            }
        }
        cutter.fill(scratch, &mut |buffer| {
            let count = std::io::Read::read(&mut tail, buffer).unwrap_or(0);
            if count > 0 || buffer.is_empty() { Ok(count) } else { ahead.read(buffer) }
        })?;
        cutter.finish(scratch)
    }

    fn tally(&self, stream: &Stream) -> Tally {
        let mut tally = Tally::default();
        let appended_to = self.before.as_ref().filter(|_| self.mode == PutContent::Append);
        let kept = appended_to.map_or(0, |before| before.stream.bytes);
        (tally.totals.files, tally.totals.files_read) = (1, 1);
        (tally.totals.bytes, tally.totals.bytes_read) = (stream.bytes, stream.bytes.saturating_sub(kept));
        (tally.entries_new, tally.entries_changed) = if self.before.is_some() { (0, 1) } else { (1, 0) };
        tally
    }
}
