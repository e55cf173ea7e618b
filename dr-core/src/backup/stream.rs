//! Backs one stream up as one file.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::options::{BackupOptions, Parent, StreamInput};
use super::parent::Parents;
use super::scan::Tally;
use super::segment::StreamCutter;
use super::storer::{Scratch, Storer};
use super::{BackupReport, Run, condemned, workers};
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::is_name;
use crate::observer::{Change, Context, Event};
use crate::repository::{ChunkReader, Inner, Repository};
use crate::time::Timestamp;
use crate::tree::{DirectoryWriter, Entry, EntryKind, FileContent, Metadata, Stream, TreeSink};

/// Bytes read at a time, and how many such reads are kept ahead.
const READ_BYTES: usize = 1 << 20;
const READS_AHEAD: usize = 4;
/// How long a cancelled call goes on waiting for a stream that says nothing.
const POLL: Duration = Duration::from_millis(100);

impl Repository {
    /// Backs one stream up as one file.
    ///
    /// # Errors
    /// `Source` where the stream fails or is not confirmed (no snapshot is made then), `InvalidInput` for a bad name,
    /// `Cancelled`, and what the store answers.
    pub fn backup_stream(
        &self,
        input: StreamInput,
        options: &BackupOptions,
        ctx: &Context<'_>,
    ) -> Result<BackupReport> {
        let options = BackupOptions { parent: Parent::Nothing, partial_every: None, ..options.clone() };
        // A stream cannot be read a second time.
        self.0.backup_stream_once(input, &options, *ctx)?.ok_or_else(condemned)
    }
}

impl Inner {
    fn backup_stream_once(
        &self,
        input: StreamInput,
        options: &BackupOptions,
        ctx: Context<'_>,
    ) -> Result<Option<BackupReport>> {
        let components = split_name(&input.name)?;
        let started = options.time.unwrap_or_else(|| self.clock.now());
        let (log, index) = self.current()?;
        if !options.dry_run {
            self.prepare_to_write(&log)?;
        }
        let path = PathBuf::from(format!("/{}", components.join("/")));
        let parents = Parents::find(
            self,
            &log,
            ChunkReader::new(self, &log, index.clone()),
            options,
            std::slice::from_ref(&path),
            false,
        )?;
        let storer = Storer::new(self, index.with_distrusted(self.distrusted()), options, ctx)?;
        let mut run = Run::new(&storer, started, vec![path.clone()], &parents)?;
        let StreamInput { reader, confirm, .. } = input;
        let outcome = workers::with_workers(&storer, || {
            let mut scratch = Scratch::new(options)?;
            let stream = read_stream(&storer, reader, &mut scratch)?;
            confirm()?;
            let bytes = stream.bytes;
            let mut tally = Tally { entries_new: 1, ..Tally::default() };
            (tally.totals.files, tally.totals.files_read) = (1, 1);
            (tally.totals.bytes, tally.totals.bytes_read) = (bytes, bytes);
            let root = write_path(&storer, &components, stream, started)?;
            ctx.observer.event(&Event::EntryDone {
                path: path.to_string_lossy().into_owned().into_bytes(),
                change: Change::New,
                bytes,
            });
            storer.settle()?;
            Ok((run.commit(root, false, &tally)?, tally))
        });
        run.conclude(outcome)
    }
}

pub(super) fn split_name(name: &str) -> Result<Vec<&str>> {
    let components: Vec<&str> = name.split('/').filter(|component| !component.is_empty()).collect();
    if components.is_empty() || !components.iter().all(|component| is_name(component.as_bytes())) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("'{name}' cannot be the name of a file")));
    }
    Ok(components)
}

fn read_stream(storer: &Storer<'_>, reader: Box<dyn Read + Send>, scratch: &mut Scratch) -> Result<Stream> {
    let mut ahead = ReadAhead::start(reader, storer.ctx.cancel.clone())?;
    let mut cutter = StreamCutter::new(storer);
    cutter.fill(scratch, &mut |buffer| ahead.read(buffer))?;
    cutter.finish(scratch)
}

/// The file and the directories above it, which exist only in the snapshot.
pub(super) fn write_path(
    storer: &Storer<'_>,
    components: &[&str],
    stream: Stream,
    now: Timestamp,
) -> Result<Stream> {
    let metadata = |mode| {
        let mut metadata = Metadata::default();
        (metadata.mode, metadata.links) = (mode, 1);
        (metadata.modified, metadata.changed) = (now, now);
        metadata.uid = rustix::process::geteuid().as_raw();
        metadata.gid = rustix::process::getegid().as_raw();
        metadata
    };
    let mut kind = EntryKind::File(FileContent::new(stream.bytes, stream, None));
    let mut mode = 0o600;
    for name in components.iter().rev() {
        let mut writer = DirectoryWriter::default();
        writer.push(Entry::new(*name, kind, metadata(mode)), storer as &dyn TreeSink)?;
        kind = EntryKind::Directory(writer.finish(storer)?);
        mode = 0o700;
    }
    match kind {
        EntryKind::Directory(root) => Ok(root),
        _ => Err(Error::new(ErrorKind::Internal, "a stream has no name")),
    }
}

/// Reads on a thread of its own, so that a stream that says nothing does not keep a cancelled call from ending: the
/// thread is then left alone until its read returns.
pub(super) struct ReadAhead {
    parts: Receiver<io::Result<Vec<u8>>>,
    ready: VecDeque<u8>,
    ended: bool,
    cancel: CancelToken,
}

impl ReadAhead {
    pub(super) fn start(reader: Box<dyn Read + Send>, cancel: CancelToken) -> Result<ReadAhead> {
        let (sender, parts) = sync_channel(READS_AHEAD);
        std::thread::Builder::new()
            .name("dr-stream".to_owned())
            .spawn(move || read_on(reader, &sender))
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "no thread could be started").with_source(error)
            })?;
        Ok(ReadAhead { parts, ready: VecDeque::new(), ended: false, cancel })
    }

    /// Reads what is there; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.ready.is_empty() && !self.ended {
            match self.next_part()? {
                Some(part) => self.ready = part.into(),
                // The end is told once.
                None => self.ended = true,
            }
        }
        let count = self.ready.read(buffer).unwrap_or(0);
        Ok(count)
    }

    fn next_part(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.parts.recv_timeout(POLL) {
                Ok(Ok(part)) => return Ok(Some(part).filter(|part| !part.is_empty())),
                Ok(Err(error)) => {
                    return Err(
                        Error::new(ErrorKind::Source, "the stream could not be read").with_source(error)
                    );
                }
                Err(RecvTimeoutError::Timeout) => self.cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(
                        ErrorKind::Source,
                        "whoever gives the stream stopped before its end",
                    ));
                }
            }
        }
    }
}

/// Reads to the end. The end itself is an empty part: a channel that closes without one is a reader that panicked.
fn read_on(mut reader: Box<dyn Read + Send>, parts: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut part = Vec::with_capacity(READ_BYTES);
        let read = (&mut reader).take(READ_BYTES as u64).read_to_end(&mut part);
        let is_last = read.as_ref().map_or(true, |count| *count == 0);
        if parts.send(read.map(|_| part)).is_err() || is_last {
            return;
        }
    }
}
