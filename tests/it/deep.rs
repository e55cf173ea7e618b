//! Trees so deep that their paths are longer than the system takes at once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use dr_tests::TestRepo;
use dr_tests::steps::{Workshop, restored};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

const LEVELS: usize = 2000;

fn open_dir(from: impl AsFd, name: impl rustix::path::Arg) -> OwnedFd {
    openat(from, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn open_file(dir: &OwnedFd, flags: OFlags) -> File {
    openat(dir, c"file", flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).unwrap().into()
}

/// A chain of directories with a file in each.
fn make_chain(top: &Path) {
    std::fs::create_dir(top).unwrap();
    let mut dir = open_dir(CWD, top);
    for level in 0..LEVELS {
        mkdirat(&dir, c"deep", Mode::RWXU).unwrap();
        dir = open_dir(&dir, c"deep");
        open_file(&dir, OFlags::WRONLY | OFlags::CREATE).write_all(level.to_string().as_bytes()).unwrap();
    }
}

fn assert_chain(top: &Path) {
    let mut dir = open_dir(CWD, top);
    for level in 0..LEVELS {
        dir = open_dir(&dir, c"deep");
        let mut text = String::new();
        open_file(&dir, OFlags::RDONLY).read_to_string(&mut text).unwrap();
        assert_eq!(text, level.to_string());
    }
}

/// Removes what the standard library would need a descriptor a level for.
struct Removed<'p>(&'p Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(self.0).status();
    }
}

#[test]
fn heavy_two_thousand_levels_are_restored() {
    let workshop = Workshop::new();
    let (source, target) = (workshop.source(), workshop.room());
    let _removed = [Removed(&source), Removed(&target)];
    make_chain(&source);
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let report = repo.restore(&repo.latest().unwrap(), &target).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_chain(&restored(&target, &source));
}
