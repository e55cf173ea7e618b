//! Repositories written by somebody who holds the key and means harm: whatever they say, nothing lands outside the
//! target, nothing panics, and every call ends.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dr_core::internals::{Class, ForgedFrame, Forger, Keys, slot_name};
use dr_core::{
    CancelToken, ChunkRef, Context, Entry, EntryKind, Extent, FileContent, Metadata, PruneOptions,
    Repository, RestoreOptions, RestoreReport, SnapshotFilter, SparseMap, Stream,
};
use dr_store::{MemoryStore, PutMode, Store};
use dr_tests::repo::with_context;
use dr_tests::{TestRepo, key};
use tempfile::TempDir;

/// A repository with one hostile snapshot, and room for its restore.
struct Trap {
    repository: Repository,
    room: TempDir,
}

impl Trap {
    /// Makes a repository whose one snapshot is what `forge` makes of it.
    fn new(forge: impl FnOnce(&mut Forger<'_>) -> Stream) -> Trap {
        let repository = TestRepo::in_memory().repository;
        let mut forger = Forger::new(&repository).unwrap();
        let root = forge(&mut forger);
        forger.commit(root).unwrap();
        Trap { repository, room: tempfile::tempdir().unwrap() }
    }

    /// A repository whose `/` holds these entries.
    fn of_entries(entries: &[Entry]) -> Trap {
        Trap::new(|forger| forger.directory(entries).unwrap())
    }

    /// Lists, checks and restores; stops the test where anything lies beside the target.
    fn spring(&self) -> RestoreReport {
        let snapshot = self.repository.snapshots(&SnapshotFilter::new()).unwrap().remove(0);
        self.repository.list(&snapshot, b"/", &mut |_, _| Ok(())).unwrap();
        let checked =
            with_context(|ctx| self.repository.check(&dr_core::CheckOptions::new().read_data(), ctx));
        drop(checked.unwrap());
        let report = with_context(|ctx| {
            self.repository.restore(&snapshot, &self.target(), &RestoreOptions::new(), ctx)
        })
        .unwrap();
        let beside: Vec<_> =
            fs::read_dir(self.room.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(beside, [self.target()]);
        report
    }

    /// Springs; stops the test unless nothing was restored and the report says so.
    fn assert_refused(&self) {
        let report = self.spring();
        assert!(!report.is_complete());
        assert_eq!(names_in(&self.target()), Vec::<String>::new());
    }

    fn target(&self) -> std::path::PathBuf {
        self.room.path().join("target")
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn metadata(mode: u32) -> Metadata {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (mode, 1);
    metadata
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry::new(name, kind, metadata(0o700))
}

fn stream_of(chunks: Vec<ChunkRef>) -> Stream {
    let mut stream = Stream::default();
    stream.bytes = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    stream.chunks = chunks;
    stream
}

fn file(name: &[u8], bytes: u64, stream: Stream, sparse: Option<SparseMap>) -> Entry {
    entry(name, EntryKind::File(FileContent::new(bytes, stream, sparse)))
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let names: [&[u8]; 8] = [b"..", b".", b"", b"a/b", b"/etc", b"../up", b"nul\0", &[b'n'; 256]];
    for name in names {
        for kind in [
            EntryKind::Fifo,
            EntryKind::Directory(Stream::default()),
            EntryKind::Symlink(b"/".to_vec()),
            EntryKind::File(FileContent::default()),
        ] {
            Trap::of_entries(&[entry(name, kind)]).assert_refused();
        }
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    for names in [["b", "a"], ["a", "a"]] {
        let entries = names.map(|name| entry(name.as_bytes(), EntryKind::Fifo));
        Trap::of_entries(&entries).assert_refused();
    }
}

#[test]
fn nothing_is_written_through_a_symbolic_link_of_the_same_name() {
    let outside = tempfile::tempdir().unwrap();
    let link = EntryKind::Symlink(outside.path().as_os_str().as_encoded_bytes().to_vec());
    // The link and a directory of the same name stand in two chunks, either way round; in the second test a restore over
    // a link that an earlier restore left.
    for link_first in [true, false] {
        let trap = Trap::new(|forger| {
            let chunk = forger.chunk(Class::Data, b"planted").unwrap();
            let planted = file(b"planted", 7, stream_of(vec![chunk]), None);
            let below = EntryKind::Directory(forger.directory(&[planted]).unwrap());
            let kinds = if link_first { [link.clone(), below] } else { [below, link.clone()] };
            let chunks = kinds.map(|kind| forger.directory(&[entry(b"door", kind)]).unwrap().chunks[0]);
            stream_of(chunks.to_vec())
        });
        let report = trap.spring();
        assert!(!report.is_complete());
        assert_eq!(names_in(outside.path()), Vec::<String>::new());
    }
    let trap = Trap::new(|forger| {
        let chunk = forger.chunk(Class::Data, b"planted").unwrap();
        let planted = file(b"planted", 7, stream_of(vec![chunk]), None);
        let below = forger.directory(&[planted]).unwrap();
        forger.directory(&[entry(b"door", EntryKind::Directory(below))]).unwrap()
    });
    fs::create_dir(trap.target()).unwrap();
    std::os::unix::fs::symlink(outside.path(), trap.target().join("door")).unwrap();
    drop(trap.spring());
    assert_eq!(names_in(outside.path()), Vec::<String>::new());
}

#[test]
fn a_hard_link_to_a_symbolic_link_changes_nothing_behind_it() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let mut linked = metadata(0o777);
    (linked.links, linked.inode) = (2, 7);
    let link = EntryKind::Symlink(victim.as_os_str().as_encoded_bytes().to_vec());
    let trap = Trap::of_entries(&[
        Entry::new("a", link.clone(), linked.clone()),
        Entry::new("b", link, linked.clone()),
        Entry::new("c", EntryKind::File(FileContent::default()), linked),
    ]);
    drop(trap.spring());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&victim).unwrap()), 1);
}

#[test]
fn heavy_directories_nested_too_deep_end_at_the_limit() {
    let trap = Trap::new(|forger| {
        let mut below = Stream::default();
        for level in 0..5000 {
            // An entry beside makes every directory another one.
            let entries = [
                entry(b"d", EntryKind::Directory(below)),
                entry(format!("e{level}").as_bytes(), EntryKind::Fifo),
            ];
            below = forger.directory(&entries).unwrap();
        }
        below
    });
    assert!(!trap.spring().is_complete());
    let status = std::process::Command::new("rm").arg("-rf").arg(trap.target()).status().unwrap();
    assert!(status.success());
}

#[test]
fn streams_of_wrong_lengths_are_refused() {
    let lengths = |claimed: u64, content: u64, chunk_bytes: u32, level: u8| {
        Trap::new(|forger| {
            let mut chunk = forger.chunk(Class::Data, b"12345678").unwrap();
            chunk.bytes = chunk_bytes;
            let mut stream = stream_of(vec![chunk]);
            (stream.bytes, stream.level) = (content, level);
            forger.directory(&[file(b"f", claimed, stream, None)]).unwrap()
        })
    };
    assert!(lengths(8, 8, 8, 0).spring().is_complete());
    for (claimed, content, chunk, level) in [
        (9, 8, 8, 0),
        (8, 9, 8, 0),
        (9, 9, 9, 0),
        (7, 7, 7, 0),
        (0, 0, 0, 0),
        (u64::MAX, u64::MAX, 8, 0),
        (8, 8, 8, 1),
        (8, 8, 8, 8),
        (8, 8, 8, 255),
        (8, 8, u32::MAX, 0),
    ] {
        lengths(claimed, content, chunk, level).assert_refused();
    }
}

#[test]
fn lists_that_repeat_one_another_end() {
    // Four levels of lists, each naming the one below a thousand times: 10^12 chunks of one byte.
    let forge = |forger: &mut Forger<'_>| {
        let mut chunk = forger.chunk(Class::Data, b"x").unwrap();
        for _ in 0..4 {
            let list = dr_core::internals::encode_references(&vec![chunk; 1000]);
            chunk = forger.chunk(Class::Tree, &list).unwrap();
        }
        let mut stream = stream_of(vec![chunk]);
        (stream.bytes, stream.level) = (100, 4);
        forger.directory(&[file(b"f", 100, stream, None)]).unwrap()
    };
    within_a_minute(move || Trap::new(forge).assert_refused());
}

#[test]
fn chunks_that_hold_nothing_do_not_keep_a_call_from_ending() {
    // As above, of directory chunks without entries, or with the same entry; the stream claims little, or all there can be.
    for entries in [vec![], vec![entry(b"a", EntryKind::Fifo)]] {
        for claimed in [100, u64::MAX] {
            let entries = entries.clone();
            let report = within_a_minute(move || {
                Trap::new(|forger| {
                    let mut chunk = forger.directory(&entries).unwrap().chunks[0];
                    for _ in 0..4 {
                        let list = dr_core::internals::encode_references(&vec![chunk; 1000]);
                        chunk = forger.chunk(Class::Tree, &list).unwrap();
                    }
                    let mut stream = stream_of(vec![chunk]);
                    (stream.bytes, stream.level) = (claimed, 4);
                    stream
                })
                .spring()
            });
            assert!(!report.is_complete());
        }
    }
}

#[test]
fn bombs_are_refused_before_they_grow() {
    // 1 GiB of zeros in 32 KiB; it claims to be the longest frame there may be, or a short one.
    let bomb = zstd_of_zeros();
    for claimed in [16 << 20, 8] {
        let trap = Trap::new(|forger| {
            let chunk = forger.chunk(Class::Data, b"12345678").unwrap();
            let id = dr_core::ChunkId::from_bytes([claimed as u8 + 1; 32]);
            forger.frame(
                Class::Data,
                ForgedFrame {
                    is_zstd: true,
                    raw_bytes: claimed,
                    bytes: bomb.clone(),
                    chunks: vec![(id, claimed)],
                },
            );
            let bad = ChunkRef { id, bytes: claimed };
            forger
                .directory(&[
                    file(b"bad", u64::from(claimed), stream_of(vec![bad]), None),
                    file(b"good", 8, stream_of(vec![chunk]), None),
                ])
                .unwrap()
        });
        let report = trap.spring();
        assert!(!report.is_complete());
        assert_eq!(names_in(&trap.target()), ["good"]);
    }
}

/// A frame that authenticates, and whose bytes are not what its chunk's id says.
#[test]
fn a_well_sealed_frame_of_other_bytes_is_named_refused_and_given_up() {
    let trap = Trap::new(|forger| {
        let good = forger.chunk(Class::Data, b"12345678").unwrap();
        let said = forger.chunk_id(Class::Data, b"original").unwrap();
        forger.frame(
            Class::Data,
            ForgedFrame {
                is_zstd: false,
                raw_bytes: 8,
                bytes: b"replaced".to_vec(),
                chunks: vec![(said, 8)],
            },
        );
        let bad = ChunkRef { id: said, bytes: 8 };
        let file_of = |name: &[u8], chunk| file(name, 8, stream_of(vec![chunk]), None);
        forger.directory(&[file_of(b"bad", bad), file_of(b"good", good)]).unwrap()
    });
    let report = trap.spring();
    let problems: Vec<_> = report.problems.iter().map(|problem| problem.path.as_slice()).collect();
    assert_eq!((problems, names_in(&trap.target())), (vec![&b"/bad"[..]], vec!["good".to_owned()]));
    let repository = &trap.repository;
    let check =
        || with_context(|ctx| repository.check(&dr_core::CheckOptions::new().read_data(), ctx)).unwrap();
    let found = check();
    let [pack] = found.damaged_packs[..] else { panic!("{found:#?}") };
    let names_it = |error: &dr_core::Finding| {
        error.object.ends_with(&pack.to_string()) && error.detail.contains("does not hash to its id")
    };
    assert!(found.errors.iter().any(names_it), "{found:#?}");
    let repaired = with_context(|ctx| repository.repair_packs(&[pack], ctx)).unwrap();
    assert_eq!((repaired.chunks_saved, repaired.chunks_lost.len()), (1, 1));
    let repairs = with_context(|ctx| repository.repair_snapshots(true, true, ctx)).unwrap();
    assert_eq!(repairs[0].lost.iter().map(|lost| lost.path.as_slice()).collect::<Vec<_>>(), [b"/bad"]);
    assert!(check().is_intact());
    let left = repository.snapshots(&SnapshotFilter::new()).unwrap().remove(0);
    let target = trap.target().join("again");
    let report = with_context(|ctx| repository.restore(&left, &target, &RestoreOptions::new(), ctx)).unwrap();
    assert!(report.is_complete());
    assert_eq!(fs::read(target.join("good")).unwrap(), b"12345678");
    assert_eq!(names_in(&target), ["good"]);
}

/// A zstd frame of 1 GiB of zeros, made of one raw block that is repeated: RFC 8878, RLE blocks of 128 KiB.
fn zstd_of_zeros() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88];
    for number in 0..8192u32 {
        let header = u32::from(number == 8191) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn claimed_counts_allocate_nothing() {
    // A body of schema 1 whose first list claims 2^60 items.
    let mut body = vec![1, 0, 253];
    body.extend_from_slice(&(1u64 << 60).to_le_bytes());
    let trap = Trap::new(|forger| stream_of(vec![forger.chunk(Class::Tree, &body).unwrap()]));
    trap.assert_refused();
    let trap = Trap::new(|forger| {
        let list = forger.chunk(Class::Tree, &body).unwrap();
        let mut stream = stream_of(vec![list]);
        stream.level = 1;
        stream
    });
    trap.assert_refused();
}

#[test]
fn absurd_extents_are_refused() {
    let extent = |offset, bytes| Extent { offset, bytes };
    for (bytes, extents) in [
        (u64::MAX, vec![extent(u64::MAX, u64::MAX)]),
        (u64::MAX, vec![extent(u64::MAX - 8, 9)]),
        (u64::MAX, vec![extent(0, u64::MAX), extent(u64::MAX, 1)]),
        (100, vec![extent(96, 8)]),
        (100, vec![extent(8, 4), extent(8, 4)]),
        (100, vec![extent(50, 4), extent(0, 4)]),
        (100, vec![extent(0, 8), extent(8, 0)]),
        (100, vec![]),
        (100, vec![extent(0, 16)]),
    ] {
        let trap = Trap::new(|forger| {
            let chunk = forger.chunk(Class::Data, b"12345678").unwrap();
            let stored: Vec<u8> = extents
                .iter()
                .flat_map(|e| [e.offset.to_le_bytes(), e.bytes.to_le_bytes()].concat())
                .collect();
            let map = stream_of(vec![forger.chunk(Class::Tree, &stored).unwrap()]);
            let stream = stream_of(vec![chunk]);
            forger.directory(&[file(b"streamed", bytes, stream, Some(SparseMap::Stream(map)))]).unwrap()
        });
        trap.assert_refused();
        let trap = Trap::new(|forger| {
            let stream = stream_of(vec![forger.chunk(Class::Data, b"12345678").unwrap()]);
            forger.directory(&[file(b"inline", bytes, stream, Some(SparseMap::Inline(extents)))]).unwrap()
        });
        trap.assert_refused();
    }
    // A hole of almost 2^64 bytes: no file system has room, and nobody waits for one.
    let trap = Trap::new(|forger| {
        let stream = stream_of(vec![forger.chunk(Class::Data, b"12345678").unwrap()]);
        let sparse = SparseMap::Inline(vec![extent(0, 8)]);
        forger.directory(&[file(b"huge", u64::MAX, stream, Some(sparse))]).unwrap()
    });
    trap.assert_refused();
}

/// A file whose map of extents is a directory's chunk must not make a collection pass over that directory.
#[test]
fn a_directory_that_is_named_as_something_else_is_not_collected() {
    let trap = Trap::new(|forger| {
        let kept = stream_of(vec![forger.chunk(Class::Data, b"kept").unwrap()]);
        let below = forger.directory(&[file(b"file", 4, kept, None)]).unwrap();
        let map = SparseMap::Stream(below.clone());
        let entries =
            [file(b"a", 100, Stream::default(), Some(map)), entry(b"b", EntryKind::Directory(below))];
        forger.directory(&entries).unwrap()
    });
    for threads in [1, 4] {
        let cancel = CancelToken::new();
        let ctx = Context::new(&(), &cancel).with_parallelism(threads);
        let report = trap.repository.prune(&PruneOptions::new(), &ctx).unwrap();
        assert_eq!((report.packs_dead, report.objects_deleted), (0, 0));
    }
    let _ = trap.spring();
    assert_eq!(fs::read(trap.target().join("b/file")).unwrap(), b"kept");
}

#[test]
fn device_numbers_of_any_size_do_no_harm() {
    for number in [0, u64::MAX, 1 << 63, 0xffff_ffff] {
        let trap = Trap::of_entries(&[
            entry(b"block", EntryKind::BlockDevice(number)),
            entry(b"character", EntryKind::CharacterDevice(number)),
        ]);
        drop(trap.spring());
    }
}

#[test]
fn metadata_of_any_value_does_no_harm() {
    let mut odd = metadata(0o7777);
    (odd.uid, odd.gid, odd.inode, odd.device, odd.links) = (u32::MAX, u32::MAX, u64::MAX, u64::MAX, u64::MAX);
    odd.modified.seconds = i64::MAX;
    odd.changed.seconds = i64::MIN;
    let trap = Trap::of_entries(&[Entry::new("odd", EntryKind::File(FileContent::default()), odd.clone())]);
    drop(trap.spring());
    odd.mode = u32::MAX;
    let trap = Trap::of_entries(&[Entry::new("odd", EntryKind::File(FileContent::default()), odd.clone())]);
    trap.assert_refused();
    odd.mode = 0;
    odd.modified.nanoseconds = 1_000_000_000;
    let trap = Trap::of_entries(&[Entry::new("odd", EntryKind::File(FileContent::default()), odd)]);
    trap.assert_refused();
}

#[test]
fn heavy_large_directories_inside_one_another_are_read_in_bounded_memory() {
    // Each directory: a directory first, then as many entries as a chunk may hold, which take sixteen times their stored
    // length in memory and next to nothing compressed.
    let siblings: Vec<Entry> =
        (0..4095).map(|number| entry(format!("f{number:06}").as_bytes(), EntryKind::Fifo)).collect();
    let trap = Trap::new(|forger| {
        let mut below = Stream::default();
        let mut entries = siblings;
        entries.insert(0, entry(b"d", EntryKind::Fifo));
        for _ in 0..400 {
            entries[0].kind = EntryKind::Directory(below);
            below = forger.directory(&entries).unwrap();
        }
        below
    });
    let snapshot = trap.repository.snapshots(&SnapshotFilter::new()).unwrap().remove(0);
    // The listing stops at the first sibling it is shown, or where it is refused: by then every level is open.
    let before = resident_bytes();
    let stop = || dr_core::Error::new(dr_core::ErrorKind::Cancelled, "seen enough");
    let (mut peak, mut opened) = (0, 0);
    let _ = trap.repository.list(&snapshot, b"/", &mut |path, shown| {
        peak = peak.max(resident_bytes());
        if path.ends_with(b"/d") && shown.is_ok() {
            opened += 1;
            return Ok(());
        }
        Err(stop())
    });
    assert!((100..400).contains(&opened), "{opened} levels were opened");
    let grown = peak.saturating_sub(before);
    assert!(grown < 512 << 20, "listing took {} MiB", grown >> 20);
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_slot_planted_far_away_keeps_nothing_from_opening() {
    for slot in [u64::MAX, 1 << 60, 5000] {
        let store = Arc::new(MemoryStore::new());
        TestRepo::create(store.clone()).unwrap();
        store.put(&slot_name(slot), vec![0; 300].into(), PutMode::Create).unwrap();
        let opened = TestRepo::open(store, 2).unwrap();
        let report = opened.check().unwrap();
        assert!(!report.is_intact());
    }
}

#[test]
fn a_slot_in_another_slots_place_says_nothing() {
    let store = Arc::new(MemoryStore::new());
    let repo = TestRepo::create(store.clone()).unwrap();
    let keys = Keys::of(&repo.repository);
    let genesis = store.get(&slot_name(0)).unwrap();
    // Moved as it is; and sealed for slot 1, by somebody who has the key.
    let body = keys.open(dr_core::internals::Single::Slot, 0, &genesis).unwrap();
    for bytes in [genesis.to_vec(), keys.seal(dr_core::internals::Single::Slot, 1, &body).unwrap()] {
        let store = Arc::new(MemoryStore::new());
        repo.store
            .list("", None, &mut |meta| {
                store.put(&meta.name, repo.store.get(&meta.name)?.into(), PutMode::Create)
            })
            .unwrap();
        store.put(&slot_name(1), bytes.into(), PutMode::Create).unwrap();
        let opened = Repository::open(store, &key(), dr_core::RepositoryOptions::new()).unwrap();
        let report = with_context(|ctx| opened.check(&dr_core::CheckOptions::new(), ctx)).unwrap();
        assert!(!report.is_intact());
    }
}

/// Stops the test where a call has not ended after a minute; the thread ends with the process.
fn within_a_minute<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(call())));
    receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("the call ends")
}
