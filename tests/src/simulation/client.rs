//! A client of a history: an open repository and a host's tree, and what it does by the dice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dr_core::{
    BackupOptions, BackupReport, Cipher, Error, ErrorKind, MaxUnused, Parent, PruneOptions, Repository,
    RepositoryOptions, RestoreOptions, Result, Shard, Snapshot, SnapshotFilter, SnapshotId, StreamInput,
    TagChange, Timestamp,
};
use dr_store::sim::When;
use dr_store::{RetryOptions, RetryStore, Store};

use super::model::{MarkKind, Saw};
use super::source::{File, Flat, Tree, TreeSource, content, edit, flatten, read_folder};
use super::store::ActorStore;
use super::world::{Died, World};
use crate::steps::{Dice, alone, check};
use crate::{TestClock, TestEntropy, key};

/// More than ever fail in a row.
const ATTEMPTS: u32 = 6;
/// Times of snapshots begin here, in seconds; each backup has one of its own.
const FIRST_TIME: i128 = 2_300_000_000;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) number: usize,
    pub(super) dice: Dice,
    seed: u64,
    /// Asks again where the store does not answer, so that it never hears of that.
    is_patient: bool,
    has_cache: bool,
    has_state: bool,
    reopens: bool,
    /// Backs up more than it does anything else.
    is_busy: bool,
    /// Collects more than it does anything else.
    is_collector: bool,
    pub(super) host: String,
    folder: PathBuf,
    repository: Option<Repository>,
    clock: Arc<TestClock>,
    opened: u64,
    backups: i128,
    rooms: u64,
    tree: Tree,
    /// Why what it saw cannot be.
    pub(super) wrong: Option<String>,
    pub(super) put: u64,
    pub(super) rewritten: u64,
    pub(super) merged: u64,
    pub(super) restored: u64,
    pub(super) deleted: u64,
    pub(super) deaths: u64,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, number: usize, seed: u64, folder: &Path) -> Client {
        let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(number as u64 + 1));
        let clock = Arc::new(TestClock::default());
        // Nobody's clock is right.
        clock.advance_ms(dice.below(7_200_000) as i64 - 3_600_000);
        let host = format!("host{}", dice.below(3));
        let crash = (dice.below(3) == 0).then(|| {
            let when = if dice.below(2) == 0 { When::Before } else { When::After };
            (1 + dice.below(250), when)
        });
        world.state().actors[number].crash = crash;
        Client {
            world: world.clone(),
            number,
            seed,
            is_patient: dice.below(3) > 0,
            has_cache: dice.below(4) == 0,
            has_state: dice.below(4) == 0,
            reopens: dice.below(3) > 0,
            is_busy: seed.is_multiple_of(16),
            is_collector: seed % 4 == 1 && number > 0,
            host,
            folder: folder.join(number.to_string()),
            repository: None,
            clock,
            opened: 0,
            backups: 0,
            rooms: 0,
            tree: Tree::new(),
            wrong: None,
            put: 0,
            rewritten: 0,
            merged: 0,
            restored: 0,
            deleted: 0,
            deaths: 0,
            dice,
        }
    }

    /// The one that comes when all is over: it meets no faults.
    pub(super) fn last(world: &Arc<World>, number: usize, seed: u64, folder: &Path) -> Client {
        let client = Client::new(world, number, seed, folder);
        let standing = &mut world.state().actors[number];
        (standing.crash, standing.is_spared) = (None, true);
        Client { is_patient: true, has_cache: false, has_state: false, ..client }
    }

    /// Acts so many times.
    pub(super) fn run(&mut self, acts: u64) {
        for _ in 0..acts {
            let acted = catch_unwind(AssertUnwindSafe(|| self.act()));
            self.world.learn();
            match acted {
                Ok(()) => {}
                Err(payload) if payload.is::<Died>() => {
                    if self.world.state().failure.is_some() {
                        return;
                    }
                    self.note("died".to_owned());
                    self.deaths += 1;
                    self.repository = None;
                    if !self.reopens {
                        return;
                    }
                }
                Err(payload) => {
                    let text = payload.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    self.world.fail(format!("client {} panicked: {text:?}", self.number));
                    return;
                }
            }
        }
    }

    pub(super) fn note(&self, what: String) {
        self.world.state().note_operation(format!("client {}: {what}", self.number));
    }

    /// One operation, and its end in the record.
    fn act(&mut self) {
        let hours = self.dice.below(8) / 6 * self.dice.below(40);
        let mut state = self.world.state();
        self.world.pass_time(&mut state, hours as i64 * 3_600_000);
        drop(state);
        self.clock.advance_ms(hours as i64 * 3_600_000 + 1000);
        let outcome = match self.open() {
            Ok(repository) => self.operate(&repository),
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome
            && let Some(why) = self.blame(error)
        {
            self.wrong.get_or_insert(why);
        }
        let said = match outcome {
            Ok(said) => said,
            Err(error) => format!("failed: {:?}: {error}", error.kind()),
        };
        self.note(said);
        if let Some(why) = self.wrong.take() {
            self.world.fail(format!("client {}: {why}", self.number));
        }
    }

    /// Why an error should not have been.
    fn blame(&self, error: &Error) -> Option<String> {
        let said = format!("{error:?}");
        let is_fault = said.contains("simulated");
        match error.kind() {
            ErrorKind::StoreUnavailable if is_fault && self.is_patient => {
                Some(format!("heard of a fault though it asked again: {said}"))
            }
            ErrorKind::StoreUnavailable => None,
            _ => Some(said),
        }
    }

    /// The open repository.
    pub(super) fn open(&mut self) -> Result<Repository> {
        if let Some(repository) = &self.repository {
            return Ok(repository.clone());
        }
        self.opened += 1;
        let bare: Arc<dyn Store> = Arc::new(ActorStore::new(self.world.clone(), self.number));
        let store: Arc<dyn Store> = if self.is_patient {
            let retry = RetryOptions { attempts_max: ATTEMPTS, seed: self.seed, ..RetryOptions::default() };
            Arc::new(RetryStore::new(bare, retry, Arc::new(|_: Duration| {})))
        } else {
            bare
        };
        let seed = (self.seed << 16) + ((self.number as u64 + 1) << 8) + self.opened;
        // Named, so that a seed gives the same history on every processor.
        let ciphers = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
        let cipher = ciphers[(self.seed as usize).wrapping_add(self.number) % 2];
        let mut options = RepositoryOptions::new()
            .cipher(cipher)
            .with_clock(self.clock.clone())
            .with_entropy(Arc::new(TestEntropy::new(seed)));
        if self.has_cache {
            options = options.cache_dir(self.folder.join("cache"));
        }
        if self.has_state {
            options = options.state_dir(self.folder.join("state"));
        }
        let repository = Repository::open(store, &key(), options)?;
        dr_core::internals::scale::collate_small(&repository);
        self.repository = Some(repository.clone());
        Ok(repository)
    }

    fn operate(&mut self, repository: &Repository) -> Result<String> {
        let drawn = match self.dice.below(4) {
            0 | 1 if self.is_busy => 0,
            0 | 1 if self.is_collector => 18,
            _ => self.dice.below(38),
        };
        match drawn {
            0..=7 => self.back_up(repository),
            8 => self.back_up_stream(repository),
            9..=12 => self.mark(repository, MarkKind::Forget),
            13 => self.mark(repository, MarkKind::Unforget),
            14 => self.mark(repository, MarkKind::Protect),
            15 => self.mark(repository, MarkKind::Unprotect),
            16 => self.tag(repository),
            17..=21 => self.prune(repository),
            22..=25 => self.restore_one(repository),
            26 => self.list_one(repository),
            27 => self.check(repository),
            28..=30 => self.rewrite(repository),
            31..=32 => self.merge(repository),
            33..=36 => self.put(repository),
            _ => {
                self.repository = None;
                Ok("closes".to_owned())
            }
        }
    }

    /// A time that no other run has.
    pub(super) fn next_time(&mut self) -> Timestamp {
        self.backups += 1;
        let seconds = FIRST_TIME + self.backups * 100 + self.number as i128;
        Timestamp::from_nanoseconds(seconds * 1_000_000_000)
    }

    /// The options of a backup that sees `saw`.
    fn backup_options(&mut self, time: Timestamp, saw: Flat) -> BackupOptions {
        // That is a partial snapshot for every entry: too many for a wide tree.
        let is_partial = saw.len() < 50 && self.dice.below(8) == 0;
        self.world.model().begin_backup(time.as_nanoseconds(), Saw::Whole(saw));
        let mut options = BackupOptions::new().host(&self.host);
        options.time = Some(time);
        options.partial_every = is_partial.then_some(Duration::ZERO);
        if self.dice.below(5) == 0 {
            options.parent = Parent::Nothing;
        }
        options
    }

    fn back_up(&mut self, repository: &Repository) -> Result<String> {
        // Hosts of one name never change two files at the same moment.
        let now = self.backups as i64 * 100 + self.number as i64;
        edit(&mut self.tree, &mut self.dice, now);
        let time = self.next_time();
        let options = self.backup_options(time, flatten(&self.tree));
        let source = TreeSource { host: self.host.clone(), tree: Arc::new(self.tree.clone()) };
        self.note(format!("backs up {} as {}", self.backups, self.host));
        let report = alone(&(), |ctx| repository.backup(&source, &options, ctx))?;
        Ok(self.backed_up(&report))
    }

    fn back_up_stream(&mut self, repository: &Repository) -> Result<String> {
        let bytes = content(&mut self.dice);
        let time = self.next_time();
        let file = File { bytes: bytes.clone(), modified: time.seconds };
        let options = self.backup_options(time, Flat::from([("dump".to_owned(), Some(file))]));
        self.note(format!("backs up the stream {}", self.backups));
        let input = StreamInput::new("dump", std::io::Cursor::new(bytes));
        let report = alone(&(), |ctx| repository.backup_stream(input, &options, ctx))?;
        Ok(self.backed_up(&report))
    }

    pub(super) fn backed_up(&mut self, report: &BackupReport) -> String {
        if !report.is_complete() {
            self.wrong = Some(format!("a backup met problems: {:?}", report.problems));
        }
        if let Some(snapshot) = report.snapshot {
            self.world.model().acknowledge(snapshot);
        }
        format!("made {:?}", report.snapshot)
    }

    /// Draws one or two snapshots of a list.
    pub(super) fn draw(&mut self, snapshots: &[Snapshot]) -> Vec<SnapshotId> {
        let mut ids = Vec::new();
        for _ in 0..=self.dice.below(2) {
            if !snapshots.is_empty() {
                ids.push(snapshots[self.dice.below(snapshots.len() as u64) as usize].id);
            }
        }
        ids.dedup();
        ids
    }

    fn mark(&mut self, repository: &Repository, kind: MarkKind) -> Result<String> {
        let all = SnapshotFilter::new();
        let listed = match kind {
            MarkKind::Unforget => repository.forgotten_snapshots(&all)?,
            _ => repository.snapshots(&all)?,
        };
        let ids = self.draw(&listed);
        self.note(format!("sets {kind:?} of {ids:?}"));
        let marking = self.world.model().begin_marks(kind, &ids);
        let outcome = match kind {
            MarkKind::Forget => repository.forget(&ids),
            MarkKind::Unforget => repository.unforget(&ids),
            MarkKind::Protect => repository.protect(&ids),
            MarkKind::Unprotect => repository.unprotect(&ids),
        };
        let mut model = self.world.model();
        match outcome {
            Ok(()) => {
                self.wrong = model.end_marks(&marking).err();
                Ok("set".to_owned())
            }
            // Somebody was faster, or it is protected.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                model.refuse_marks(&marking);
                Ok(format!("refused: {error}"))
            }
            Err(error) => Err(error),
        }
    }

    fn tag(&mut self, repository: &Repository) -> Result<String> {
        let ids = self.draw(&repository.snapshots(&SnapshotFilter::new())?);
        let tag = format!("tag{}-{}", self.number, self.dice.below(1000));
        self.note(format!("adds {tag} to {ids:?}"));
        match repository.tag(&ids, &TagChange::Add(vec![tag.clone()])) {
            Ok(_) => {
                ids.iter().for_each(|id| self.world.model().tagged(*id, tag.clone()));
                Ok("tagged".to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(format!("refused: {error}")),
            Err(error) => Err(error),
        }
    }

    fn prune(&mut self, repository: &Repository) -> Result<String> {
        let mut options = PruneOptions::new();
        let hour = Duration::from_secs(3600);
        options.max_unused = match self.dice.below(4) {
            0 | 1 => MaxUnused::Percent(0.0),
            2 => MaxUnused::Percent(20.0),
            _ => MaxUnused::Unlimited,
        };
        options.leftover_age = [Duration::ZERO, hour, 24 * hour][self.dice.below(3) as usize];
        options.grace = if self.dice.below(4) == 0 { 3 * hour } else { Duration::ZERO };
        options.hold = if self.dice.below(6) == 0 { hour } else { Duration::ZERO };
        if self.dice.below(8) == 0 {
            options.shard = Some(Shard::new(1 + self.dice.below(2) as u32, 2)?);
        }
        options.dry_run = self.dice.below(12) == 0;
        self.note(format!("prunes {options:?}"));
        let report = match alone(&(), |ctx| repository.prune(&options, ctx)) {
            // Others collect without a hold: whoever has one notices.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !options.hold.is_zero() => {
                return Ok(format!("refused: {error}"));
            }
            pruned => pruned?,
        };
        if !options.dry_run {
            self.deleted += report.objects_deleted;
            self.wrong = self.world.model().collect(&report.collected).err();
        }
        Ok(format!("pruned {report:?}"))
    }

    fn restore_one(&mut self, repository: &Repository) -> Result<String> {
        let snapshots = repository.snapshots(&SnapshotFilter::new())?;
        let Some(snapshot) = self.draw(&snapshots).first().copied() else { return Ok("nothing".to_owned()) };
        let snapshot = snapshots.into_iter().find(|known| known.id == snapshot);
        let Some(snapshot) = snapshot else { return Ok("nothing".to_owned()) };
        self.restore(repository, &snapshot)
    }

    /// Restores a snapshot that must be there as a whole.
    pub(super) fn restore_whole(
        &mut self,
        repository: &Repository,
        snapshot: &Snapshot,
    ) -> std::result::Result<(), String> {
        let before = self.restored;
        let said = self.restore(repository, snapshot).map_err(|error| format!("{error:?}"))?;
        match self.wrong.take() {
            Some(why) => Err(why),
            None if self.restored == before => Err(format!("{} at the end: {said}", snapshot.id)),
            None => Ok(()),
        }
    }

    /// Restores a snapshot and compares it.
    fn restore(&mut self, repository: &Repository, snapshot: &Snapshot) -> Result<String> {
        self.note(format!("restores {}", snapshot.id));
        self.rooms += 1;
        let target = self.folder.join(format!("room{}", self.rooms));
        std::fs::create_dir_all(&self.folder).unwrap();
        let outcome = alone(&(), |ctx| repository.restore(snapshot, &target, &RestoreOptions::new(), ctx));
        // What is forgotten may be collected while it is read.
        self.world.learn();
        self.world.model().learn(snapshot);
        let may_vanish = self.world.model().may_be_forgotten(&snapshot.id);
        match outcome {
            Ok(report) if report.is_complete() => {
                self.wrong = self.world.model().compare(snapshot, &read_folder(&target)).err();
                std::fs::remove_dir_all(&target).unwrap();
                self.restored += 1;
                Ok(format!("restored {}", snapshot.id))
            }
            Ok(_) if may_vanish => Ok("restored what was left".to_owned()),
            Ok(report) => {
                self.wrong = Some(format!("{} cannot be restored: {:?}", snapshot.id, report.problems));
                Ok("restored in part".to_owned())
            }
            Err(error) if may_vanish && error.kind() == ErrorKind::Corrupt => {
                Ok(format!("too late: {error}"))
            }
            Err(error) => Err(error),
        }
    }

    fn check(&mut self, repository: &Repository) -> Result<String> {
        self.note("checks".to_owned());
        let report = check(repository)?;
        if !report.is_intact() {
            self.wrong = Some(format!("a check found {:?}", report.errors));
        }
        Ok("checked".to_owned())
    }

    fn list_one(&mut self, repository: &Repository) -> Result<String> {
        let snapshots = repository.snapshots(&SnapshotFilter::new())?;
        let Some(snapshot) = snapshots.last() else { return Ok("nothing".to_owned()) };
        self.note(format!("lists {}", snapshot.id));
        let mut paths = Vec::new();
        let mut failure = None;
        let outcome = repository.list(snapshot, b"/", &mut |path, entry| {
            match entry {
                Ok(_) => paths.push(String::from_utf8_lossy(&path[1..]).into_owned()),
                Err(error) if error.kind() == ErrorKind::StoreUnavailable => return Err(error),
                Err(error) => failure = Some(format!("{error:?}")),
            }
            Ok(())
        });
        self.world.learn();
        let mut model = self.world.model();
        model.learn(snapshot);
        if model.may_be_forgotten(&snapshot.id) {
            return Ok("listed".to_owned());
        }
        outcome?;
        let expected = model.expected(&snapshot.id).map(|flat| flat.keys().cloned().collect::<Vec<_>>());
        paths.sort();
        self.wrong = match expected {
            _ if failure.is_some() => failure,
            Ok(expected) if expected != paths && !snapshot.partial => {
                Some("a listing lacks something".to_owned())
            }
            expected => expected.err(),
        };
        Ok("listed".to_owned())
    }
}
