//! What does each stage of a backup cost, one thread, data in memory?
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run should stop, and prints"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dr_benches::{noise, text};
use dr_core::stages::{Scan, Stages};
use dr_core::{Cipher, Compression};

const BYTES: usize = 32 << 20;

fn chunk_and_hash(criterion: &mut Criterion) {
    println!("{}", dr_benches::backends());
    let stages = Stages::new().unwrap();
    let mut group = criterion.benchmark_group("bytes");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    for (name, bytes) in [("noise", noise(1, BYTES)), ("text", text(1, BYTES)), ("zeros", vec![0; BYTES])] {
        for scan in Scan::ALL.into_iter().filter(|scan| scan.is_supported()) {
            let stages = Stages::new().unwrap().with_scan(scan);
            group.bench_with_input(
                BenchmarkId::new(format!("chunk {scan:?}"), name),
                &bytes,
                |bench, bytes| {
                    bench.iter(|| black_box(stages.chunk(bytes)));
                },
            );
        }
        let lengths = stages.chunk(&bytes);
        group.bench_with_input(BenchmarkId::new("hash", name), &bytes, |bench, bytes| {
            bench.iter(|| {
                let mut rest = &bytes[..];
                for length in &lengths {
                    black_box(stages.hash(&rest[..*length]));
                    rest = &rest[*length..];
                }
            });
        });
        for level in [Compression::Fast, Compression::Auto] {
            group.bench_with_input(
                BenchmarkId::new(format!("compress {level:?}"), name),
                &bytes,
                |bench, bytes| {
                    bench.iter(|| black_box(stages.compress(level, bytes).unwrap()));
                },
            );
        }
    }
    let bytes = noise(1, BYTES);
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let stages = Stages::new().unwrap().with_cipher(cipher);
        for verify in [false, true] {
            let name = BenchmarkId::new(format!("seal {cipher:?}, verify"), verify);
            group.bench_with_input(name, &bytes, |bench, bytes| {
                bench.iter(|| black_box(stages.seal(bytes, verify).unwrap()));
            });
        }
    }
    group.finish();
}

fn index(criterion: &mut Criterion) {
    let stages = Stages::new().unwrap();
    let mut group = criterion.benchmark_group("index lookup");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    for chunks in [10_000, 1_000_000] {
        let index = stages.index(chunks).unwrap();
        for (name, from) in [("hit", 0), ("miss", chunks)] {
            group.bench_function(BenchmarkId::new(name, chunks), |bench| {
                let mut number = 0u32;
                bench.iter(|| {
                    for _ in 0..1000 {
                        number = (number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % chunks;
                        black_box(index.holds(from + number));
                    }
                });
            });
        }
    }
    group.finish();
}

fn tree(criterion: &mut Criterion) {
    let stages = Stages::new().unwrap();
    let entries = Stages::entries(4_000);
    let bytes = stages.encode_tree(&entries);
    let mut group = criterion.benchmark_group("tree");
    group.throughput(Throughput::Elements(entries.len() as u64)).sample_size(20);
    group.bench_function("encode", |bench| bench.iter(|| black_box(stages.encode_tree(&entries))));
    group.bench_function("decode", |bench| bench.iter(|| black_box(stages.decode_tree(&bytes).unwrap())));
    group.finish();
}

criterion_group!(benches, chunk_and_hash, index, tree);
criterion_main!(benches);
