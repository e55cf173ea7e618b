//! What do a whole backup, a backup of nothing new, a check and a restore cost, on a store in memory? And what does it cost that
//! directories lie deep in one another?
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run should stop, and prints"
)]

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Bencher, Criterion, Throughput, criterion_group, criterion_main};
use dr_core::{
    BackupOptions, CancelToken, CheckOptions, Context, CreateOptions, Credentials, LocalTree,
    LocalTreeOptions, Parent, Repository, RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_store::MemoryStore;

const BYTES: usize = 64 << 20;
/// The standard library keeps a descriptor open for each level that it removes.
const LEVELS: [usize; 2] = [100, 800];

fn create() -> Repository {
    let store = Arc::new(MemoryStore::new());
    Repository::create(store, &Credentials::key([1; 32]), &CreateOptions::new(), RepositoryOptions::new())
        .unwrap()
}

fn end_to_end(criterion: &mut Criterion) {
    println!("{}", dr_benches::backends());
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let tree = folder.path().join("tree");
    dr_benches::write_tree(&tree, BYTES).unwrap();
    let source = LocalTree::open(&[tree], LocalTreeOptions::default()).unwrap();
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let options = BackupOptions::new().host("bench");
    let mut group = criterion.benchmark_group("end to end");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    group.bench_function("first backup", |bench| {
        bench.iter_batched(
            create,
            |repository| repository.backup(&source, &options, &ctx).unwrap(),
            BatchSize::PerIteration,
        );
    });
    let repository = create();
    let _ = repository.backup(&source, &options, &ctx).unwrap();
    let mut again = options.clone();
    again.parent = Parent::Nothing;
    group.bench_function("every chunk a duplicate", |bench| {
        bench.iter(|| repository.backup(&source, &again, &ctx).unwrap());
    });
    group.bench_function("nothing changed", |bench| {
        bench.iter(|| repository.backup(&source, &options, &ctx).unwrap());
    });
    group.bench_function("check, read data", |bench| {
        bench.iter(|| repository.check(&CheckOptions::new().read_data(), &ctx).unwrap());
    });
    group.bench_function("restore", |bench| {
        time_restore(bench, &repository, folder.path());
    });
    group.finish();
}

/// Restores the newest snapshot into a new folder each time, which is removed outside of what is timed.
fn time_restore(bench: &mut Bencher<'_>, repository: &Repository, folder: &Path) {
    let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    bench.iter_batched(
        || tempfile::tempdir_in(folder).unwrap(),
        |target| {
            let report = repository.restore(&snapshot, target.path(), &RestoreOptions::new(), &ctx).unwrap();
            assert!(report.is_complete());
            target
        },
        BatchSize::PerIteration,
    );
}

/// Opening each directory from the target on would make every level cost more than the one above it.
fn deep(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let mut group = criterion.benchmark_group("restore of a chain of directories");
    group.sample_size(10);
    for levels in LEVELS {
        let tree = folder.path().join(levels.to_string());
        let deepest = (0..levels).fold(tree.clone(), |path, _| path.join("d"));
        std::fs::create_dir_all(&deepest).unwrap();
        std::fs::write(deepest.join("file"), "deep").unwrap();
        let repository = create();
        let source = LocalTree::open(&[tree], LocalTreeOptions::default()).unwrap();
        let _ = repository.backup(&source, &BackupOptions::new(), &ctx).unwrap();
        group.throughput(Throughput::Elements(levels as u64));
        group.bench_function(format!("{levels} levels"), |bench| {
            time_restore(bench, &repository, folder.path());
        });
    }
    group.finish();
}

criterion_group!(benches, end_to_end, deep);
criterion_main!(benches);
