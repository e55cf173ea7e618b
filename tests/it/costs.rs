//! What operations ask of the store, against the formulas of `COSTS.md`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    CheckOptions, PruneOptions, Repository, RepositoryOptions, RestoreOptions, Snapshot, SnapshotFilter,
};
use dr_store::{MemoryStore, MeteredStore, Store, StoreCounts};
use dr_tests::repo::with_context;
use dr_tests::tidy::repository_root;
use dr_tests::{TestRepo, key, noise};

type Values = HashMap<String, f64>;

fn document() -> String {
    std::fs::read_to_string(repository_root().join("dr-core/docs/COSTS.md")).unwrap()
}

/// The cells of the table row that begins with `name`, in the part of the document below `heading`.
fn cells(document: &str, heading: &str, name: &str) -> Vec<String> {
    let part = document.split(&format!("## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let start = format!("| {name} |");
    let row = part.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {name}"));
    row[start.len()..].trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Works a formula out: numbers, variables, + - * /, parentheses, ceil(), pages().
struct Formula<'f> {
    text: &'f str,
    values: &'f Values,
}

impl Formula<'_> {
    fn value(text: &str, values: &Values) -> f64 {
        let mut formula = Formula { text, values };
        let value = formula.sum();
        assert_eq!(formula.text.trim(), "", "in {text}");
        value
    }

    fn eat(&mut self, symbol: char) -> bool {
        let rest = self.text.trim_start().strip_prefix(symbol);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            if self.eat('+') {
                value += self.product();
            } else if self.eat('-') {
                value -= self.product();
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.factor();
        loop {
            if self.eat('*') {
                value *= self.factor();
            } else if self.eat('/') {
                value /= self.factor();
            } else {
                return value;
            }
        }
    }

    fn factor(&mut self) -> f64 {
        if self.eat('(') {
            let value = self.sum();
            assert!(self.eat(')'));
            return value;
        }
        let text = self.text.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let word = &text[..end];
        self.text = &text[end..];
        match word {
            "ceil" => self.factor().ceil(),
            "pages" => (self.factor() / 1000.0).ceil().max(1.0),
            number if number.starts_with(|c: char| c.is_ascii_digit()) => number.parse().unwrap(),
            name => *self.values.get(name).unwrap_or_else(|| panic!("no variable '{name}'")),
        }
    }
}

/// A repository whose store is counted.
struct Counted {
    document: String,
    store: Arc<MeteredStore>,
    before: StoreCounts,
}

impl Counted {
    /// Compares what was asked since the last call with a row of formulas.
    fn expect(&mut self, operation: &str, values: &[(&str, u64)]) -> StoreCounts {
        let counts = self.store.counts();
        let since = counts.since(&self.before);
        self.before = counts;
        let mut all: Values =
            ["n", "i", "u", "g", "a", "t", "r", "c", "l", "q", "j"].map(|name| (name.to_owned(), 0.0)).into();
        all.extend([("f".to_owned(), 1.0), ("k".to_owned(), 1.0)]);
        all.extend(values.iter().map(|(name, value)| ((*name).to_owned(), *value as f64)));
        let row = cells(&self.document, "Formulas", operation);
        let expected: Vec<f64> = row.iter().map(|formula| Formula::value(formula, &all)).collect();
        let found = [
            since.puts,
            since.gets + since.range_gets + since.stats,
            since.lists + since.folder_lists,
            since.deletes,
        ];
        assert_eq!(found.map(|count| count as f64)[..], expected[..], "{operation}: {since:?}");
        since
    }

    fn skip(&mut self) {
        self.before = self.store.counts();
    }

    /// The test's own listings are no cost of the operation.
    fn skip_listings(&mut self, count: u64) {
        self.before.lists += count;
    }

    fn objects(&self, folder: &str) -> u64 {
        let mut count = 0;
        let mut add = |_| {
            count += 1;
            Ok(())
        };
        self.store.list(folder, None, &mut add).unwrap();
        count
    }
}

fn open(store: &Arc<MeteredStore>, folder: &Path) -> Repository {
    let options = RepositoryOptions::new().cache_dir(folder.join("cache"));
    Repository::open(store.clone(), &key(), options).unwrap()
}

fn create() -> (Counted, TestRepo) {
    let store = Arc::new(MeteredStore::new(Arc::new(MemoryStore::new())));
    let mut counted = Counted { document: document(), store: store.clone(), before: StoreCounts::default() };
    let repo = TestRepo::create(store).unwrap();
    counted.expect("init", &[]);
    (counted, repo)
}

fn latest(repository: &Repository) -> Snapshot {
    repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap()
}

fn write_files(folder: &Path, numbers: std::ops::Range<u64>) {
    std::fs::create_dir_all(folder).unwrap();
    for number in numbers {
        std::fs::write(folder.join(format!("file{number}")), noise(number, 100_000)).unwrap();
    }
}

#[test]
fn opening_and_writing_cost_what_the_document_says() {
    let (mut counted, repo) = create();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_files(&source, 0..40);
    let _ = repo.backup(&[&source]).unwrap();
    let packs = counted.objects("data") + counted.objects("tree");
    counted.skip_listings(2);
    let first = counted.expect("backup, first", &[("p", packs)]);
    assert!(
        first.bytes_written > 4_000_000 && first.bytes_written < 4_000_000 * 104 / 100 + (packs + 2) * 65_536
    );
    let _ = repo.backup(&[&source]).unwrap();
    counted.expect("backup, nothing changed", &[("t", 1)]);
    repo.clock.advance_ms(60_000);
    write_files(&source, 100..101);
    let _ = repo.backup(&[&source]).unwrap();
    let more = counted.objects("data") + counted.objects("tree") - packs;
    counted.skip_listings(2);
    counted.expect("backup, something changed", &[("p", more), ("t", 1)]);
    let ids: Vec<_> = repo.snapshots().iter().map(|snapshot| snapshot.id).collect();
    counted.expect("snapshots", &[]);
    repo.repository.forget(&ids[..1]).unwrap();
    counted.expect("forget", &[]);
    let other = TestRepo::open(counted.store.clone(), 2).unwrap();
    counted.expect("open, nothing cached", &[("n", 5)]);
    repo.repository.protect(&ids[2..]).unwrap();
    counted.skip();
    other.snapshots();
    counted.expect("snapshots", &[("n", 1)]);
}

#[test]
fn checkpoints_cost_what_the_document_says() {
    let (mut counted, repo) = create();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_files(&source, 0..1);
    let _ = repo.backup(&[&source]).unwrap();
    let id = repo.latest().unwrap().id;
    for number in 0..40 {
        let marked =
            if number % 2 == 0 { repo.repository.protect(&[id]) } else { repo.repository.unprotect(&[id]) };
        marked.unwrap();
    }
    counted.skip();
    drop(open(&counted.store, folder.path()));
    counted.expect("open, nothing cached", &[("n", 42)]);
    drop(open(&counted.store, folder.path()));
    counted.expect("open, checkpoint on this machine", &[]);
    repo.repository.protect(&[id]).unwrap();
    counted.skip();
    drop(open(&counted.store, folder.path()));
    counted.expect("open, checkpoint on this machine", &[("n", 1)]);
    for number in 0..470 {
        let marked =
            if number % 2 == 0 { repo.repository.protect(&[id]) } else { repo.repository.unprotect(&[id]) };
        marked.unwrap();
    }
    assert_eq!(counted.objects("ckpt"), 1);
    counted.skip();
    let _ = TestRepo::open(counted.store.clone(), 3).unwrap();
    // Slots 0 to 511 were there when the checkpoint was made; its own slot and one more follow it.
    counted.expect("open, checkpoint in the store", &[("n", 2)]);
}

#[test]
fn reading_checking_and_pruning_cost_what_the_document_says() {
    let (mut counted, repo) = create();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_files(&source, 0..40);
    let _ = repo.backup(&[&source]).unwrap();
    let repository = open(&counted.store, folder.path());
    let (d, m) = (counted.objects("data"), counted.objects("tree"));
    let snapshot = latest(&repository);
    counted.skip();
    repository.list(&snapshot, b"/", &mut |_, _| Ok(())).unwrap();
    counted.expect("ls", &[("t", 1)]);
    let target = folder.path().join("target");
    let _ = with_context(|ctx| repository.restore(&snapshot, &target, &RestoreOptions::new(), ctx)).unwrap();
    counted.expect("restore", &[("t", 1), ("r", 1)]);
    let mut one = RestoreOptions::new();
    one.path = source.join("file7").into_os_string().into_encoded_bytes();
    let other = folder.path().join("other");
    let _ = with_context(|ctx| repository.restore(&snapshot, &other, &one, ctx)).unwrap();
    counted.expect("restore", &[("t", 1), ("r", 1)]);
    let values = [("n", 2), ("d", d), ("m", m), ("t", 1)];
    let _ = with_context(|ctx| repository.check(&CheckOptions::new(), ctx)).unwrap();
    counted.expect("check", &values);
    let read = with_context(|ctx| repository.check(&CheckOptions::new().read_data(), ctx)).unwrap();
    let since = counted.expect("check --read-data", &values);
    assert!(since.bytes_read >= read.bytes_read && since.bytes_read < read.bytes_read + 600_000);
    let mut dry = PruneOptions::new();
    dry.dry_run = true;
    let _ = with_context(|ctx| repository.prune(&dry, ctx)).unwrap();
    counted.expect("prune, dry run", &values[1..]);
    let _ = with_context(|ctx| repository.prune(&PruneOptions::new(), ctx)).unwrap();
    counted.expect("prune, nothing to do", &values[1..]);
    repository.forget(&[snapshot.id]).unwrap();
    counted.skip();
    let pruned = with_context(|ctx| repository.prune(&PruneOptions::new(), ctx)).unwrap();
    counted.expect("prune, packs condemned", &[("d", d), ("m", m), ("q", pruned.objects_deleted)]);
}

/// What the prose of the document assumes of an operation on a large repository, beside what its variables say.
fn assume(operation: &str, values: &mut Values) {
    let packs = values["d"] + values["m"];
    let part = (packs / 100.0).ceil();
    let is_read_whole = operation.starts_with("check") || operation == "open, nothing cached";
    let set = |values: &mut Values, name: &str, value: f64| _ = values.insert(name.to_owned(), value);
    for (name, value) in
        [("f", 1.0), ("k", 1.0), ("c", 0.0), ("l", 1.0), ("i", 0.0), ("u", 0.0), ("a", 0.0), ("q", part)]
    {
        set(values, name, value);
    }
    set(values, "n", if is_read_whole { 100.0 } else { 0.0 });
    let (written, segments) = if operation == "backup, first" {
        (packs, values["j"])
    } else {
        (part, (values["j"] / 100.0).ceil())
    };
    set(values, "p", written);
    set(values, "g", segments);
    set(values, "a", f64::from(u8::from(written > 256.0)));
    if operation == "restore" {
        let all = 53.0 * values["j"];
        set(values, "u", all);
    }
}

#[test]
fn the_tables_of_large_repositories_follow_from_the_formulas() {
    let document = document();
    for (size, bytes) in [("1 TB", 1e12), ("100 TB", 1e14), ("1 PB", 1e15)] {
        let mut values = Values::from([("D".to_owned(), bytes)]);
        for name in ["C", "E", "d", "m", "j", "t", "r"] {
            let value = Formula::value(&cells(&document, "Large repositories", name)[0], &values);
            values.insert(name.to_owned(), value);
        }
        let table = document.split(&format!("### {size}\n")).nth(1).unwrap_or_default();
        let mut rows = 0;
        for row in table.lines().skip_while(|line| !line.starts_with("|---")).skip(1) {
            let Some((operation, _)) = row.trim_start_matches("| ").split_once(" |") else { break };
            assume(operation, &mut values);
            let mut numbers: Vec<f64> = cells(&document, "Formulas", operation)
                .iter()
                .map(|formula| Formula::value(formula, &values).ceil())
                .collect();
            let dollars = (numbers[0] + numbers[2]) * 5e-6 + numbers[1] * 4e-7;
            let cents = format!("{dollars:.2}");
            let numbers: Vec<String> = numbers.drain(..).map(|number| format!("{number}")).collect();
            assert_eq!(row, format!("| {operation} | {} | {cents} |", numbers.join(" | ")), "{size}");
            rows += 1;
        }
        assert_eq!(rows, 11, "{size}");
    }
}

#[test]
fn a_segment_in_the_store_costs_what_the_document_says() {
    let (mut counted, repo) = create();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir_all(&source).unwrap();
    for number in 0..500 {
        std::fs::write(source.join(format!("file{number}")), noise(number, 200)).unwrap();
    }
    let _ = repo.backup(&[&source]).unwrap();
    let (d, m, j) = (counted.objects("data"), counted.objects("tree"), counted.objects("index"));
    counted.skip_listings(3);
    assert_eq!(j, 1);
    counted.expect("backup, first", &[("p", d + m), ("g", j)]);
    let repository = open(&counted.store, folder.path());
    let snapshot = latest(&repository);
    counted.skip();
    repository.list(&snapshot, b"/", &mut |_, _| Ok(())).unwrap();
    counted.expect("ls", &[("t", 1), ("i", 1)]);
    let again = open(&counted.store, folder.path());
    counted.skip();
    again.list(&snapshot, b"/", &mut |_, _| Ok(())).unwrap();
    counted.expect("ls", &[("t", 1)]);
    let _ = with_context(|ctx| again.check(&CheckOptions::new(), ctx)).unwrap();
    counted.expect("check", &[("n", 2), ("d", d), ("m", m), ("j", j), ("t", 1)]);
}
