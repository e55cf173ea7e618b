//! A small repository in which garbage was collected, with mutated objects: open, check, list and restore give correct bytes or an error.
#![no_main]
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dr_core::internals::{Keys, Single, slot_name, write_checkpoint};
use dr_core::{
    BackupOptions, CancelToken, CheckOptions, Cipher, Context, CreateOptions, Credentials, LocalTree,
    LocalTreeOptions, MaxUnused, PruneOptions, Repository, RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_fuzz::Input;
use dr_store::{MemoryStore, Name, PutMode, Store};

struct Base {
    objects: Vec<(Name, Vec<u8>)>,
    keys: Keys,
    /// What files may hold, by their path below the source.
    contents: HashMap<PathBuf, Vec<Vec<u8>>>,
    source: PathBuf,
}

fn key() -> Credentials {
    Credentials::key([42; 32])
}

fn with_context<T>(call: impl FnOnce(&Context<'_>) -> T) -> T {
    let cancel = CancelToken::new();
    call(&Context::new(&(), &cancel).with_parallelism(1))
}

fn memory() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("there is room")
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let store = Arc::new(MemoryStore::new());
        let options = |cipher| RepositoryOptions::new().cipher(cipher);
        let chacha20 = options(Cipher::ChaCha20Poly1305);
        let one = Repository::create(store.clone(), &key(), &CreateOptions::new(), chacha20)
            .expect("a repository is made");
        let two = Repository::open(store.clone(), &key(), options(Cipher::Aes256Gcm)).expect("it is there");
        let folder = memory();
        let source = folder.path().join("source");
        let mut contents: HashMap<PathBuf, Vec<Vec<u8>>> = HashMap::new();
        let mut snapshots = Vec::new();
        for round in 0..3u8 {
            // Objects of both suites.
            let repository = if round % 2 == 0 { &one } else { &two };
            for (path, content) in [
                ("a", b"alpha".repeat(100)),
                ("d/b", vec![round; 300]),
                ("d/e/c", vec![7; 5]),
                ("d/empty", vec![]),
            ] {
                let file = source.join(path);
                fs::create_dir_all(file.parent().expect("a folder")).expect("there is room");
                fs::write(&file, &content).expect("there is room");
                contents.entry(path.into()).or_default().push(content);
            }
            let _ = std::os::unix::fs::symlink("a", source.join("link"));
            let tree = LocalTree::open(&[source.clone()], LocalTreeOptions::default()).expect("a tree");
            let report = with_context(|ctx| repository.backup(&tree, &BackupOptions::new().host("h"), ctx));
            let report = report.expect("a backup");
            assert!(report.is_complete());
            snapshots.extend(report.snapshot);
        }
        let repository = two;
        // Packs that were rewritten, packs and segments that are condemned, and a checkpoint of it all.
        repository.forget(&snapshots[..1]).expect("it is there");
        let mut options = PruneOptions::new();
        options.max_unused = MaxUnused::Bytes(0);
        let pruned = with_context(|ctx| repository.prune(&options, ctx)).expect("a collection");
        assert!(pruned.packs_repacked > 0 && pruned.objects_deleted > 0);
        write_checkpoint(&repository).expect("memory takes it");
        repository.protect(&snapshots[2..]).expect("it is there");
        let mut objects = Vec::new();
        store
            .list("", None, &mut |meta| {
                objects.push((meta.name.clone(), store.get(&meta.name)?.to_vec()));
                Ok(())
            })
            .expect("memory can be listed");
        objects.sort();
        Base { objects, keys: Keys::of(&repository), contents, source }
    })
}

/// Mutates objects as the input says. Whether somebody with the key did it.
fn mutate(input: &mut Input<'_>, objects: &mut Vec<(Name, Vec<u8>)>) -> bool {
    let mut with_key = false;
    for _ in 0..1 + input.u8() % 4 {
        let chosen = usize::from(input.u8()) % objects.len();
        let other = usize::from(input.u8()) % objects.len();
        let position = |input: &mut Input<'_>, bytes: &[u8]| {
            // Either end is where the structure is; packs are mostly padding.
            let offset = usize::from(input.u16()) % bytes.len().max(1);
            if input.u8() & 1 == 1 { bytes.len().saturating_sub(offset + 1) } else { offset }
        };
        match input.u8() % 7 {
            0 => {
                let at = position(input, &objects[chosen].1);
                if let Some(byte) = objects[chosen].1.get_mut(at) {
                    *byte ^= input.u8().max(1);
                }
            }
            1 => {
                let at = position(input, &objects[chosen].1);
                objects[chosen].1.truncate(at);
            }
            2 if objects.len() > 1 => drop(objects.remove(chosen)),
            3 => objects[chosen].1 = objects[other].1.clone(),
            4 => objects[chosen].1.extend_from_slice(&input.array::<8>()),
            5 => {
                let slot = u64::from(input.u8() % 16);
                let name = slot_name(slot);
                let bytes = objects[other].1.clone();
                objects.retain(|(known, _)| *known != name);
                objects.push((name, bytes));
            }
            _ => {
                with_key = true;
                let slot = u64::from(input.u8() % 12);
                let name = slot_name(slot);
                if let Some((_, bytes)) = objects.iter_mut().find(|(known, _)| *known == name)
                    && let Ok(mut body) = base().keys.open(Single::Slot, slot, bytes)
                {
                    input.edit(&mut body);
                    *bytes = base().keys.seal(Single::Slot, slot, &body).expect("anything is sealed");
                }
            }
        }
    }
    with_key
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let base = base();
    let mut objects = base.objects.clone();
    let with_key = mutate(&mut Input(data), &mut objects);
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in objects {
        store.put(&name, bytes.into(), PutMode::Replace).expect("memory takes it");
    }
    let Ok(repository) = Repository::open(store, &key(), RepositoryOptions::new()) else { return };
    let intact = with_context(|ctx| repository.check(&CheckOptions::new().read_data(), ctx))
        .is_ok_and(|report| report.is_intact());
    let Ok(snapshots) = repository.snapshots(&SnapshotFilter::new()) else {
        assert!(!intact || with_key, "a check finds nothing, but the snapshots cannot be listed");
        return;
    };
    for snapshot in snapshots {
        let room = memory();
        let target = room.path().join("target");
        let restored =
            with_context(|ctx| repository.restore(&snapshot, &target, &RestoreOptions::new(), ctx));
        let complete = restored.is_ok_and(|report| report.is_complete());
        assert!(
            complete || !intact || with_key,
            "a check finds nothing, but {} does not restore",
            snapshot.id
        );
        let copy = target.join(base.source.strip_prefix("/").expect("absolute"));
        let seen = judge(base, &copy);
        assert!(!complete || seen == base.contents.len(), "{seen} files of {}", base.contents.len());
        let beside = fs::read_dir(room.path()).expect("a folder").filter_map(Result::ok);
        assert!(beside.into_iter().all(|entry| entry.file_name() == "target"));
    }
});

/// Every file that is there holds what one of the backups saw; how many there are.
fn judge(base: &Base, copy: &Path) -> usize {
    let (mut seen, mut stack) = (0, vec![copy.to_path_buf()]);
    while let Some(path) = stack.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            stack.extend(
                fs::read_dir(&path).expect("a folder").filter_map(Result::ok).map(|entry| entry.path()),
            );
        } else if metadata.is_file() {
            let known =
                base.contents.get(path.strip_prefix(copy).expect("below")).expect("a file out of nowhere");
            assert!(known.contains(&fs::read(&path).expect("readable")), "wrong bytes in {}", path.display());
            seen += 1;
        }
    }
    seen
}
