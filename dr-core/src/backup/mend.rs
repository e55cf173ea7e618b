//! Makes snapshots whole again by leaving out what is lost: a new snapshot holds the rest, and names what it lacks.

use std::collections::{HashMap, HashSet};

use super::commit::Draft;
use super::derive::{commit_derived, derived_body};
use super::edit::{Edit, Newer, TreeEdit, Unchanged};
use super::options::BackupOptions;
use super::parent::Parents;
use super::scan::Tally;
use super::storer::Storer;
use super::workers;
use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::format::snapshot::{Problem, ProblemKind};
use crate::id::{ObjectHash, SnapshotId};
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Entry;

/// The tag of a snapshot that was made by leaving out what is lost.
const TAG: &str = "repaired";

/// What a repair did to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotRepair {
    /// The snapshot that lacks something.
    pub snapshot: SnapshotId,
    /// The one that holds the rest; none where its tree cannot be read at all, or after a dry run.
    pub replacement: Option<SnapshotId>,
    /// What is lost.
    pub lost: Vec<Problem>,
}

impl Repository {
    /// Looks at every snapshot that is not forgotten. Where something of it is lost, a new snapshot holds the rest, and the old
    /// one is forgotten if `forget` says so. Unless `write` is set, only says what is lost.
    ///
    /// # Errors
    /// `Corrupt` where the index is damaged, `Cancelled`, and what the store answers.
    pub fn repair_snapshots(
        &self,
        write: bool,
        forget: bool,
        ctx: &Context<'_>,
    ) -> Result<Vec<SnapshotRepair>> {
        let repository = &self.0;
        let (log, index) = repository.current_whole()?;
        if !index.is_intact() {
            return Err(Error::corrupt("a part of the index cannot be read, so what is lost cannot be told")
                .with_remedy("run 'dr check', and 'dr repair index' where that finds the index damaged"));
        }
        if write {
            repository.prepare_to_write(&log)?;
        }
        let mut gone = repository.distrusted();
        gone.extend(missing_packs(repository, &index)?);
        let mut repairs = Vec::new();
        for snapshot in repository.read_snapshots(&log)?.readable {
            ctx.cancel.check()?;
            snapshot.refuse_newer()?;
            let options =
                BackupOptions { dry_run: !write, parent: super::Parent::Nothing, ..BackupOptions::new() };
            let index = index.clone().with_distrusted(gone.clone());
            let storer = Storer::new(repository, index.clone(), &options, *ctx)?;
            let reader = ChunkReader::new(repository, &log, index);
            let parents = Parents::find(repository, &log, reader, &options, &[], true)?;
            let problems = self.problems(&snapshot);
            let repair = workers::with_workers(&storer, || {
                let mut mend = Mend { storer: &storer, parents: &parents, lost: Vec::new() };
                mend.snapshot(&snapshot, problems, write)
            })?;
            let Some(repair) = repair else { continue };
            if let Some(replacement) = repair.replacement.filter(|_| forget) {
                self.forget_replaced(&[snapshot.id], &replacement)?;
            }
            repairs.push(repair);
        }
        Ok(repairs)
    }
}

/// Packs that the index lists and the store does not have where they are looked for.
fn missing_packs(repository: &Inner, index: &crate::index::Index) -> Result<HashSet<ObjectHash>> {
    let mut missing: HashMap<ObjectHash, PackClass> =
        index.packs().iter().map(|pack| (pack.hash, pack.class)).collect();
    repository.list_packs(&mut |class, hash, _| {
        if missing.get(&hash) == Some(&class) {
            missing.remove(&hash);
        }
    })?;
    Ok(missing.into_keys().collect())
}

/// A snapshot being mended.
struct Mend<'s, 'a> {
    storer: &'s Storer<'a>,
    parents: &'s Parents<'s>,
    lost: Vec<Problem>,
}

impl Mend<'_, '_> {
    fn snapshot(
        &mut self,
        snapshot: &Snapshot,
        problems: Result<Vec<Problem>>,
        write: bool,
    ) -> Result<Option<SnapshotRepair>> {
        let (storer, parents) = (self.storer, self.parents);
        let edit = TreeEdit { storer, parents, unchanged: Unchanged::WrittenAgain, newer: Newer::Kept };
        let root = edit.run(&snapshot.root, self)?;
        let mut before = match problems {
            Ok(problems) => problems,
            Err(error) if error.is_damage() => {
                self.lose(b"/", &error);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        if self.lost.is_empty() {
            return Ok(None);
        }
        let mut repair =
            SnapshotRepair { snapshot: snapshot.id, replacement: None, lost: std::mem::take(&mut self.lost) };
        if !write {
            return Ok(Some(repair));
        }
        before.extend(repair.lost.iter().cloned());
        let tally = Tally { totals: snapshot.totals, problems: before, ..Tally::default() };
        let mut body = derived_body(snapshot, root);
        if !body.tags.iter().any(|tag| tag == TAG) {
            body.tags.push(TAG.to_owned());
        }
        self.storer.settle()?;
        let draft =
            Draft { body, origins: Vec::new(), tally: &tally, reused: Vec::new(), read_at: 0, guard: None };
        let committed = commit_derived(self.storer, draft)?.ok_or_else(|| {
            Error::corrupt("what is left of the snapshot was collected meanwhile")
                .with_object(format!("snapshot {}", snapshot.id))
                .with_remedy("run the repair again")
        })?;
        repair.replacement = Some(committed);
        Ok(Some(repair))
    }

    fn lose(&mut self, path: &[u8], why: &Error) {
        let problem = Problem::new(path, ProblemKind::Damaged, why);
        self.storer.ctx.problem(&problem);
        self.lost.push(problem);
    }
}

impl Edit for Mend<'_, '_> {
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        let is_there = entry.is_directory() || self.parents.has_content(entry, self.storer)?;
        if !is_there {
            self.lose(path, &Error::corrupt("a part of its content is lost"));
        }
        Ok(is_there)
    }

    fn unreadable(&mut self, path: &[u8], error: Error) -> Result<()> {
        if !error.is_damage() {
            return Err(error);
        }
        self.lose(path, &error);
        Ok(())
    }
}
