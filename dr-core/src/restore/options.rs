//! What a caller may ask of a restore, and what it did.

use super::selection::RestoreSelection;
use super::target::{OwnerMap, TargetOptions};
use crate::error::Result;
use crate::snapshot::Problem;

/// What becomes of a file of the target whose name the snapshot has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overwrite {
    /// It becomes what the snapshot holds. What it holds already is compared, and not fetched again.
    #[default]
    Always,
    /// The same, but a file of the same length and modification time is taken to hold the right bytes.
    IfChanged,
    /// The same as `Always`, but only where the snapshot's modification time is the later one.
    IfNewer,
    /// It stays.
    Never,
}

/// What becomes of what is in the target and not in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Delete {
    /// It stays.
    #[default]
    Nothing,
    /// It is deleted, below the paths that were backed up only; the call is refused where that looks like a mistake.
    Surplus,
    /// The same without the refusal.
    SurplusAnyway,
}

/// How the bytes of a file that is there are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Writing {
    /// In a new file that takes the place of the old one when it is whole. Another name of the old file keeps its bytes.
    #[default]
    Replace,
    /// In the file itself, where it has only one name: no room for a second one is needed, but until the end the file is
    /// a mixture, and one whose chunks turn out to be damaged stays one. Its mode (0600 and the sticky bit) says so.
    InPlace,
}

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// By number.
    Number(u32),
    /// By name.
    Name(String),
}

/// What a caller may ask of a restore.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Restores only this path and what is below it; all of the snapshot where it is empty.
    pub path: Vec<u8>,
    /// Leaves out the directories above `path`: what is below it lands in the target itself.
    pub strip_path: bool,
    /// Which of that is restored.
    pub selection: RestoreSelection,
    /// What becomes of files that are there.
    pub overwrite: Overwrite,
    /// How they are replaced.
    pub writing: Writing,
    /// What becomes of what the snapshot does not have.
    pub delete: Delete,
    /// Touches nothing, and only says what would be done.
    pub dry_run: bool,
    /// Makes holes of zeros, also in files that had none.
    pub sparse: bool,
    /// Reads everything back at the end, and compares it with the snapshot.
    pub verify: bool,
    /// Paths of the snapshot that go elsewhere, and where below the target.
    pub moved: Vec<(Vec<u8>, Vec<u8>)>,
    /// Restores owners; by default where the program runs as root.
    pub owners: Option<bool>,
    /// Takes owners by number even where their names are known here.
    pub numeric_ids: bool,
    /// Users that become others; the first that fits counts.
    pub users: Vec<(Owner, Owner)>,
    /// The same for groups.
    pub groups: Vec<(Owner, Owner)>,
    /// Restores permissions, access control lists among them. Otherwise only the maker of the entries may use them.
    pub permissions: bool,
    /// Restores extended attributes.
    pub xattrs: bool,
    /// Restores times.
    pub times: bool,
    /// Makes devices, pipes and sockets.
    pub specials: bool,
    /// Waits until everything is on the disk, and replaces no file before its bytes are.
    pub fsync: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            path: Vec::new(),
            strip_path: false,
            selection: RestoreSelection::default(),
            overwrite: Overwrite::default(),
            writing: Writing::default(),
            delete: Delete::default(),
            dry_run: false,
            sparse: false,
            verify: false,
            moved: Vec::new(),
            owners: None,
            numeric_ids: false,
            users: Vec::new(),
            groups: Vec::new(),
            permissions: true,
            xattrs: true,
            times: true,
            specials: true,
            fsync: false,
        }
    }
}

impl RestoreOptions {
    /// Restores all of a snapshot.
    pub fn new() -> RestoreOptions {
        RestoreOptions::default()
    }

    /// Restores only a path and what is below it.
    #[must_use]
    pub fn path(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.path = path.into();
        self
    }

    /// Treats files that are there so.
    #[must_use]
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Treats what the snapshot does not have so.
    #[must_use]
    pub fn delete(mut self, delete: Delete) -> Self {
        self.delete = delete;
        self
    }

    /// Touches nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// What a restore did, or a dry run would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "a report says what was not restored"]
pub struct RestoreReport {
    /// Regular files written.
    pub files: u64,
    /// Directories made or kept.
    pub directories: u64,
    /// Everything else that was made: links, devices, further names of files.
    pub others: u64,
    /// Of all these but the directories, those that took the place of something else.
    pub replaced: u64,
    /// Files and others that were right already.
    pub unchanged: u64,
    /// What stayed as it was because the caller wants it so (`Overwrite::IfNewer`, `Overwrite::Never`).
    pub kept: u64,
    /// What was deleted.
    pub deleted: u64,
    /// Bytes of the files written.
    pub bytes: u64,
    /// Those of them that were in the target already, and were not fetched.
    pub bytes_reused: u64,
    /// Files that were read back.
    pub verified: u64,
    /// The bytes of these files.
    pub bytes_verified: u64,
    /// Files that were read back and differ from the snapshot; they are problems too.
    pub mismatches: u64,
    /// How many things could not be restored.
    pub problem_count: u64,
    /// The first of them, at most 1,000.
    pub problems: Vec<Problem>,
}

impl RestoreReport {
    /// Whether everything was restored as it was.
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0
    }
}

/// What of this concerns the target.
pub(super) fn target_options(options: &RestoreOptions) -> Result<TargetOptions> {
    let mut chosen = TargetOptions {
        specials: options.specials,
        numeric_ids: options.numeric_ids,
        owner_map: OwnerMap::new(&options.users, &options.groups)?,
        permissions: options.permissions,
        xattrs: options.xattrs,
        times: options.times,
        ..TargetOptions::default()
    };
    if let Some(owners) = options.owners {
        chosen.owners = owners;
    }
    Ok(chosen)
}
