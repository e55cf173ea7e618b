//! A small file system in memory, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::is_root;

/// A mounted file system; it goes away with this.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a new tmpfs at `path`, which is made. Nothing where that is not allowed.
    pub fn mount(path: &Path, options: &str) -> Option<SmallDisk> {
        if !is_root() {
            return None;
        }
        std::fs::create_dir(path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "dr-test"]).arg(path).output();
        mounted.is_ok_and(|mount| mount.status.success()).then(|| SmallDisk { path: path.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another size, with all that is on it.
    pub fn resize(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.path).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have something open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
