//! Files so young that another change could leave their times as they are: they are read again by the next backup.

use std::fs;
use std::sync::Arc;

use dr_core::{BackupReport, Clock};
use dr_tests::TestRepo;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::with_context;
use dr_tests::steps::{Workshop, options};
use proptest::prelude::*;
use proptest::test_runner::Config;

const MS: i128 = 1_000_000;
const SECOND: i128 = 1000 * MS;

/// One file on a file system whose clock ticks every so often, and the backups of it.
struct Disk {
    repo: TestRepo,
    tick: i128,
    file: MemoryFile,
    changes: u32,
}

impl Disk {
    fn new(tick: i128) -> Disk {
        let mut disk = Disk { repo: TestRepo::in_memory(), tick, file: MemoryFile::default(), changes: 0 };
        disk.change();
        disk
    }

    fn now(&self) -> i128 {
        self.repo.clock.now().as_nanoseconds()
    }

    /// Changes the content, never the length; the times are those of the last tick.
    fn change(&mut self) {
        self.changes += 1;
        self.file.bytes = format!("{:08}", self.changes).into_bytes();
        self.file.changed = Some(self.now() - self.now() % self.tick);
    }

    fn backup(&self) -> BackupReport {
        let files = [("file".to_owned(), self.file.clone())].into();
        let source = SharedSource(Arc::new(MemorySource { files, ..MemorySource::default() }));
        with_context(|ctx| self.repo.repository.backup(&source, &options(), ctx)).unwrap()
    }

    /// Whether the newest snapshot holds what the file holds.
    fn is_saved(&self, workshop: &Workshop) -> bool {
        let target = workshop.room();
        let report = self.repo.restore(&self.repo.latest().unwrap(), &target).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        let saved = fs::read(target.join("file")).unwrap();
        fs::remove_dir_all(target).unwrap();
        saved == self.file.bytes
    }
}

/// The windows are 10 ms, and 2 s where times are whole seconds; their ends belong to them.
#[test]
fn a_hidden_change_is_found_within_the_window_and_not_looked_for_outside() {
    let workshop = Workshop::new();
    for (changed_at, age_ms, is_read_again) in [
        (0, 0, true),
        (0, 1999, true),
        (0, 2000, true),
        (0, 2001, false),
        (500 * MS, 0, true),
        (500 * MS, 10, true),
        (500 * MS, 11, false),
        (500 * MS, 2000, false),
        (1, 10, true),
        (1, 11, false),
        // Not yet: a clock that went back, or another machine's.
        (500 * MS, -60_000, true),
        (0, -60_000, true),
    ] {
        let case = format!("changed {changed_at} ns into a second, looked at {age_ms} ms later");
        let mut disk = Disk::new(1);
        // The end of a window is compared to the nanosecond, the clock moves by milliseconds.
        let second = disk.now() - disk.now() % SECOND;
        disk.file.changed = Some(second + changed_at);
        disk.repo.clock.advance_ms(((second + changed_at - disk.now()) / MS) as i64 + age_ms);
        assert_eq!(disk.backup().totals.files_read, 1, "{case}");
        disk.file.bytes = b"CHANGED!".to_vec();
        disk.repo.clock.advance_ms(3_600_000);
        assert_eq!(disk.backup().totals.files_read, u64::from(is_read_again), "{case}");
        assert_eq!(disk.is_saved(&workshop), is_read_again, "{case}");
        // Looked at an hour later, it was old.
        assert_eq!(disk.backup().totals.files_read, 0, "{case}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 200, ..Config::default() })]

    /// Changes and backups in any order, on file systems whose clocks tick as finely and as coarsely as any.
    #[test]
    fn no_change_is_missed(
        tick in prop::sample::select(vec![1, 100, MS, 4 * MS, 10 * MS, SECOND, 2 * SECOND]),
        steps in prop::collection::vec((0_i64..3000, 0_i64..20, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let workshop = Workshop::new();
        let mut disk = Disk::new(tick);
        for (long_ms, short_ms, is_long, is_change) in steps {
            disk.repo.clock.advance_ms(if is_long { long_ms } else { short_ms });
            if is_change {
                disk.change();
            } else {
                let _ = disk.backup();
                prop_assert!(disk.is_saved(&workshop));
            }
        }
        // And after a while nothing is read any more.
        for expected in [None, Some(0)] {
            disk.repo.clock.advance_ms(60_000);
            let report = disk.backup();
            prop_assert!(expected.is_none_or(|read| report.totals.files_read == read));
            prop_assert!(disk.is_saved(&workshop));
        }
    }
}
