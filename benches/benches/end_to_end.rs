//! What do a whole backup, a backup of nothing new, a check and a restore cost, on a store in memory?
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dr_core::{
    BackupOptions, CancelToken, CheckOptions, Context, CreateOptions, Credentials, LocalTree,
    LocalTreeOptions, Parent, Repository, RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_store::MemoryStore;

const BYTES: usize = 64 << 20;

fn create() -> Repository {
    let store = Arc::new(MemoryStore::new());
    Repository::create(store, &Credentials::key([1; 32]), &CreateOptions::new(), RepositoryOptions::new())
        .unwrap()
}

fn end_to_end(criterion: &mut Criterion) {
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
    let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    group.bench_function("restore", |bench| {
        bench.iter_batched(
            || tempfile::tempdir_in(folder.path()).unwrap(),
            |target| {
                let report =
                    repository.restore(&snapshot, target.path(), &RestoreOptions::new(), &ctx).unwrap();
                assert!(report.is_complete());
                target
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
