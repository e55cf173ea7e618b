//! A backup engine: deduplicated, compressed, encrypted snapshots of files and streams on any object store.
//!
//! ```
//! use std::sync::Arc;
//! use dr_core::{
//!     BackupOptions, CancelToken, Context, CreateOptions, Credentials, LocalTree, LocalTreeOptions, Repository,
//!     RepositoryOptions, RestoreOptions, SnapshotFilter,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let documents = folder.path().join("documents");
//! # std::fs::create_dir(&documents)?;
//! # std::fs::write(documents.join("thesis"), "the only copy")?;
//! let store = Arc::new(dr_store::MemoryStore::new());
//! let key = Credentials::key([7; 32]);
//! let repository = Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())?;
//!
//! let cancel = CancelToken::new();
//! let ctx = Context::new(&(), &cancel);
//! let source = LocalTree::open(&[documents.clone()], LocalTreeOptions::default())?;
//! let report = repository.backup(&source, &BackupOptions::new().host("desk"), &ctx)?;
//! assert!(report.is_complete());
//!
//! let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new())?;
//! let target = folder.path().join("target");
//! let restored = repository.restore(&snapshot, &target, &RestoreOptions::new(), &ctx)?;
//! assert!(restored.is_complete());
//! # let copy = target.join(documents.strip_prefix("/")?).join("thesis");
//! # assert_eq!(std::fs::read(copy)?, b"the only copy");
//! # Ok(())
//! # }
//! ```
//!
//! All calls block and may be made from any thread, also from one of a tokio runtime (there, better through
//! `spawn_blocking`). Long calls take a [`Context`]: an observer, a cancel token and the number of threads. Nothing but
//! the store, the source, the target and the directories named in [`RepositoryOptions`] is touched, and no thread
//! outlives its call, except one that reads a stream which says nothing when the call is cancelled.
//!
//! The package's `examples` folder holds programs to copy from, and `docs` what a caller must know (`EMBEDDING.md`), the
//! architecture, the format, the protocol, and what is missing.

mod archive;
mod backends;
mod backup;
mod cancel;
mod check;
mod chunker;
mod crypto;
mod entropy;
mod error;
mod forget;
mod format;
mod frame;
mod history;
mod id;
mod index;
mod inspect;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
mod log;
mod observer;
mod pack;
mod prune;
mod repair;
mod repository;
mod restore;
mod select;
mod snapshot;
mod source;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod stages;
mod threads;
mod time;
mod tree;
mod view;

pub use archive::{ArchiveFormat, DumpOptions, DumpReport};
pub use backends::backends;
pub use backup::{
    BackupOptions, BackupReport, BackupWarning, Parent, PutContent, PutOptions, PutOutcome, PutReport,
    SnapshotRepair, StreamInput, TarInput, WhenUnchanged,
};
pub use cancel::CancelToken;
pub use check::{CheckOptions, CheckReport, Finding, Subset, scrub};
pub use crypto::{Cipher, Credentials, KdfStrength};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{Error, ErrorKind, Result};
pub use forget::{ForgetGroup, ForgetOptions, RetentionTimes, TagChange};
pub use frame::Compression;
pub use history::{
    Copied, CopyOptions, CopyReport, Damaged, MergeBy, MergeOptions, MergeReport, RewriteOptions, Rewritten,
};
pub use id::{ChunkId, ObjectHash, SnapshotId};
pub use inspect::{
    Description, DiffKind, DiffOptions, DiffReport, DiffTotals, Difference, EntryType, FindQuery, FindReport,
    LocalDiffOptions, ObjectKind, PathVersion, SnapshotUsage, StoredObject, UsageReport, VersionsReport,
    VisitDifference, VisitFound,
};
pub use observer::{Change, Context, Event, Observer, RecordingObserver, Stage};
pub use prune::{MaxUnused, PruneOptions, PruneReport, Shard};
pub use repair::{IndexRepair, LogRepair, LogRepairOptions, PackRepair};
pub use repository::{
    CacheCleanup, CacheInfo, CacheReport, CreateOptions, HoldState, KdfCost, KeySlotChange, KeySlotInfo,
    KeySlotOptions, Repository, RepositoryOptions, Stats, Visit, clean_caches, list_caches,
};
pub use restore::{Delete, Overwrite, Owner, RestoreOptions, RestoreReport, RestoreSelection, Writing};
pub use select::{Case, Exclusion, Match, PathKind, Patterns, Unreaching};
pub use snapshot::{
    Decision, Group, GroupBy, KeepPolicy, KeepReason, Origin, Period, Problem, ProblemKind, Relation,
    Snapshot, SnapshotFilter, SnapshotFolder, SnapshotItem, SnapshotPlace, SnapshotTree, Totals, Unit,
};
pub use source::{
    BucketTree, Fetched, LocalTree, LocalTreeOptions, Remark, SelectedTree, Selection, Source,
    SourceDirectory, SourceFile, SourceItem, SourceTotals, TagFile, count_source,
};
pub use time::{Clock, SystemClock, Timestamp};
pub use tree::{ChunkRef, Entry, EntryKind, Extent, FileContent, Metadata, SparseMap, Stream, Xattr};
pub use view::{EntryRun, SnapshotView, VisitEntry};
