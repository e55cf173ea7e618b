//! Backs a tar archive up as the files that it holds, in one pass over a stream that cannot be read again.

use std::path::PathBuf;

use super::commit::keep_packs_if_due;
use super::file::sparse_map;
use super::options::{BackupOptions, Parent, TarInput};
use super::parent::Parents;
use super::scan::Tally;
use super::segment::StreamCutter;
use super::storer::{Scratch, Storer};
use super::stream::ReadAhead;
use super::tar_tree::{ArchiveTree, Names, names_of};
use super::{BackupReport, Run, condemned, workers};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::format::tree::is_name;
use crate::observer::{Change, Context, Event};
use crate::repository::{ChunkReader, Inner, Repository};
use crate::source::tar::{Member, MemberKind, TarReader};
use crate::tree::{EntryKind, FileContent, Stream, StreamWriter};

/// The longest name of an owner that is kept, in bytes.
const OWNER_BYTES_MAX: usize = 255;

impl Repository {
    /// Backs a tar archive up as the files that it holds: ustar, pax and GNU's, sparse files, hard links and attributes
    /// included. Its members become what they would be if they were unpacked, but nothing leads out of the place they are
    /// unpacked into. Members that cannot be kept are problems of the snapshot.
    ///
    /// # Errors
    /// `Source` where the archive cannot be read, is damaged, ends too early or is compressed, or is not confirmed (no
    /// snapshot is made then), `InvalidInput` for a bad name, `Cancelled`, and what the store answers.
    pub fn backup_tar(
        &self,
        input: TarInput,
        options: &BackupOptions,
        ctx: &Context<'_>,
    ) -> Result<BackupReport> {
        let options = BackupOptions { parent: Parent::Nothing, partial_every: None, ..options.clone() };
        // A stream cannot be read a second time.
        self.0.backup_tar_once(input, &options, *ctx)?.ok_or_else(condemned)
    }
}

impl Inner {
    fn backup_tar_once(
        &self,
        input: TarInput,
        options: &BackupOptions,
        ctx: Context<'_>,
    ) -> Result<Option<BackupReport>> {
        let TarInput { name, reader, confirm } = input;
        let place: Vec<&str> = name.split('/').filter(|component| !component.is_empty()).collect();
        if !place.iter().all(|component| is_name(component.as_bytes())) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("'{name}' cannot be a directory's name"),
            ));
        }
        let started = options.time.unwrap_or_else(|| self.clock.now());
        let (log, index) = self.current()?;
        if !options.dry_run {
            self.prepare_to_write(&log)?;
        }
        let path = PathBuf::from(format!("/{}", place.join("/")));
        let chunks = ChunkReader::new(self, &log, index.clone());
        let parents = Parents::find(self, &log, chunks, options, std::slice::from_ref(&path), false)?;
        let storer = Storer::new(self, index.with_distrusted(self.distrusted()), options, ctx)?;
        let mut run = Run::new(&storer, started, vec![path], &parents)?;
        let outcome = workers::with_workers(&storer, || {
            let mut ahead = ReadAhead::start(reader, ctx.cancel.clone())?;
            let tree = ArchiveTree::new(&place, started);
            let mut unpacking = Unpacking::new(&storer, tree)?;
            unpacking.run(&mut TarReader::new(|buffer: &mut [u8]| ahead.read(buffer)))?;
            confirm()?;
            let Unpacking { tree, mut tally, .. } = unpacking;
            let root = tree.write(&place, &storer, &mut tally)?;
            storer.settle()?;
            Ok((run.commit(root, false, &tally)?, tally))
        });
        run.conclude(outcome)
    }
}

/// An archive being read.
struct Unpacking<'s, 'a> {
    storer: &'s Storer<'a>,
    scratch: Scratch,
    tree: ArchiveTree,
    tally: Tally,
}

impl<'s, 'a> Unpacking<'s, 'a> {
    fn new(storer: &'s Storer<'a>, tree: ArchiveTree) -> Result<Self> {
        let scratch = Scratch::new(storer.options)?;
        Ok(Unpacking { storer, scratch, tree, tally: Tally::default() })
    }

    fn run<F: FnMut(&mut [u8]) -> Result<usize>>(&mut self, archive: &mut TarReader<F>) -> Result<()> {
        while let Some(member) = archive.next()? {
            self.storer.ctx.cancel.check()?;
            keep_packs_if_due(self.storer)?;
            self.take(member, archive)?;
        }
        if archive.drain()? {
            let why = "there is more behind the end of the archive, which is not in the snapshot";
            self.note(Problem::new(self.tree.path_of(&[]), ProblemKind::Unreadable, why));
        }
        Ok(())
    }

    fn take<F: FnMut(&mut [u8]) -> Result<usize>>(
        &mut self,
        member: Member,
        archive: &mut TarReader<F>,
    ) -> Result<()> {
        let names = match (names_of(&member.path), &member.kind) {
            (_, &MemberKind::Nothing) => return Ok(()),
            (Ok(_), &MemberKind::Skipped(why)) | (Err(why), _) => {
                let path = [self.tree.path_of(&[]).as_slice(), b"/", &member.path].concat();
                self.note(Problem::new(path, ProblemKind::Unreadable, why));
                return Ok(());
            }
            (Ok(names), _) => names,
        };
        let path = self.tree.path_of(&names);
        for note in &member.notes {
            self.note(Problem::new(path.as_slice(), ProblemKind::Attributes, note));
        }
        let Member { kind, mut metadata, .. } = member;
        for owner in [&mut metadata.user, &mut metadata.group] {
            if owner.take_if(|name| name.len() > OWNER_BYTES_MAX).is_some() {
                let why = "the name of its owner or group is longer than 255 bytes";
                self.note(Problem::new(path.as_slice(), ProblemKind::Attributes, why));
            }
        }
        let mut bytes = 0;
        let problems = match kind {
            MemberKind::Directory => self.tree.put_directory(&names, metadata),
            MemberKind::HardLink(target) => self.link(&names, &target),
            MemberKind::File { bytes: length, extents } => {
                bytes = length;
                let stream = self.store(archive, names.last().copied().unwrap_or_default())?;
                self.tally.totals.files_read += 1;
                self.tally.totals.bytes_read += stream.bytes;
                let content = FileContent::new(length, stream, sparse_map(extents, self.storer)?);
                self.tree.put(&names, EntryKind::File(content), metadata)
            }
            MemberKind::Symlink(target) => self.tree.put(&names, EntryKind::Symlink(target), metadata),
            MemberKind::CharacterDevice(number) => {
                self.tree.put(&names, EntryKind::CharacterDevice(number), metadata)
            }
            MemberKind::BlockDevice(number) => {
                self.tree.put(&names, EntryKind::BlockDevice(number), metadata)
            }
            MemberKind::Fifo => self.tree.put(&names, EntryKind::Fifo, metadata),
            MemberKind::Skipped(_) | MemberKind::Nothing => Vec::new(),
        };
        problems.into_iter().for_each(|problem| self.note(problem));
        self.tree.refuse_too_many_implied()?;
        self.tally.entries_new += 1;
        self.storer.ctx.observer.event(&Event::EntryDone { path, change: Change::New, bytes });
        Ok(())
    }

    fn link(&mut self, names: &Names<'_>, target: &[u8]) -> Vec<Problem> {
        match names_of(target) {
            Ok(target) => self.tree.link(names, &target),
            Err(why) => vec![Problem::new(self.tree.path_of(names), ProblemKind::Unreadable, why)],
        }
    }

    /// Stores a file's data, cut as that of a file which is read from a disk.
    fn store<F: FnMut(&mut [u8]) -> Result<usize>>(
        &mut self,
        archive: &mut TarReader<F>,
        name: &[u8],
    ) -> Result<Stream> {
        let storer = self.storer;
        if archive.data_bytes() > storer.chunker.min_bytes() as u64 {
            let mut cutter = StreamCutter::new(storer);
            cutter.fill(&mut self.scratch, &mut |buffer| archive.read(buffer))?;
            return cutter.finish(&mut self.scratch);
        }
        let mut chunk = vec![0; archive.data_bytes() as usize];
        let mut filled = 0;
        while filled < chunk.len() {
            filled += archive.read(&mut chunk[filled..])?;
        }
        let mut stream = StreamWriter::default();
        if !chunk.is_empty() {
            let bytes = chunk.len() as u64;
            stream.push(storer.store_small(name, chunk)?, storer)?;
            storer.relieve();
            storer.ctx.observer.event(&Event::Progress { bytes });
        }
        stream.finish(storer)
    }

    fn note(&mut self, problem: Problem) {
        self.storer.ctx.problem(&problem);
        self.tally.problems.push(problem);
    }
}
