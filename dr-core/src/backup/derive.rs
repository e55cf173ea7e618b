//! Snapshots that are made of others, without reading a source: what they say, and how they are committed.

use super::commit::{Committed, Draft, Segments, commit};
use super::storer::Storer;
use crate::error::Result;
use crate::format::snapshot::SnapshotBody;
use crate::id::SnapshotId;
use crate::observer::Event;
use crate::snapshot::Snapshot;
use crate::tree::Stream;

/// What a snapshot says that is made of another one and holds `root`.
pub(crate) fn derived_body(snapshot: &Snapshot, root: Stream) -> SnapshotBody {
    SnapshotBody {
        nonce: [0; 16],
        time: snapshot.time,
        finished: snapshot.finished,
        host: snapshot.host.clone(),
        paths: snapshot.paths.iter().map(|path| path.as_os_str().as_encoded_bytes().to_vec()).collect(),
        tags: snapshot.tags.clone(),
        program: super::PROGRAM.to_owned(),
        parent: Some(snapshot.id),
        partial: snapshot.partial,
        root,
        totals: snapshot.totals,
        problems: 0,
        problem_list: Stream::default(),
    }
}

/// Commits a snapshot that is made of others. Where packs that it needs were condemned meanwhile, they are rescued; where one is
/// gone, there is none, and it is to be made again.
pub(crate) fn commit_derived(storer: &Storer<'_>, draft: Draft<'_>) -> Result<Option<SnapshotId>> {
    let partial = draft.body.partial;
    Ok(match commit(storer, &mut Segments::default(), draft)? {
        Committed::Snapshot(snapshot) => {
            storer.ctx.observer.event(&Event::Committed { snapshot, partial });
            Some(snapshot)
        }
        Committed::Refused => None,
    })
}
