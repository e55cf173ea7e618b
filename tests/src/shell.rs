//! The real program, and a repository that is used through it only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dr_core::{Credentials, Repository, RepositoryOptions};
use dr_store::OpenMode;

use crate::assert_same_tree;
use crate::steps::{Workshop, program, restored};

/// A repository with a key file, its cache and its state, all in one folder.
#[derive(Debug, Default)]
pub struct Shell {
    /// The folder.
    pub workshop: Workshop,
}

impl Shell {
    /// Makes a repository.
    pub fn new() -> Shell {
        let shell = Shell::default();
        shell.init();
        shell
    }

    /// Makes the repository, and the key file where there is none.
    pub fn init(&self) {
        self.run(self.command().arg("init"));
    }

    /// The program with everything that leads it to the repository, for a call without a terminal.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        self.prepare(&mut command);
        command
    }

    /// The same for a call as another user, without any privilege.
    pub fn command_as(&self, id: u32) -> Command {
        let mut command = Command::new("setpriv");
        let id = id.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]).arg(program());
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let at = |name: &str| self.workshop.path().join(name);
        for secret in ["DR_PASSWORD", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND"] {
            command.env_remove(secret);
        }
        command
            // What somebody has set up for their own backups is no part of a test.
            .env("XDG_CONFIG_HOME", at("config"))
            .env("DR_KEY_FILE", at("key"))
            .env("DR_REPOSITORY", self.repository())
            .env("DR_CACHE_DIR", at("cache"))
            .env("DR_STATE_DIR", at("state"))
            .stdin(Stdio::null());
    }

    /// Writes the user's file of settings, which nobody else may read.
    pub fn configure(&self, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.workshop.path().join("config/dr/dr.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Where the repository is.
    pub fn repository(&self) -> PathBuf {
        self.workshop.path().join("repository")
    }

    /// The repository as the library sees it.
    pub fn repository_opened(&self) -> Repository {
        let store = dr_store::open(self.repository().to_str().unwrap(), OpenMode::Existing).unwrap();
        let key = std::fs::read(self.workshop.path().join("key")).unwrap();
        let credentials = Credentials::key_file_text(&key).unwrap();
        Repository::open(store, &credentials, RepositoryOptions::new()).unwrap()
    }

    /// Runs to the end, which must be a good one.
    pub fn run(&self, command: &mut Command) -> Output {
        self.run_to(command, 0).0
    }

    /// Runs to the end, which must be this exit code. What was said on standard error comes as text.
    pub fn run_to(&self, command: &mut Command, code: i32) -> (Output, String) {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}: {said}", output.status);
        assert!(!said.contains("panicked"), "{command:?}: {said}");
        (output, said)
    }

    /// A quiet backup of the source.
    pub fn backup(&self) -> Command {
        let mut command = self.command();
        command.arg("backup").arg("-q").arg(self.workshop.source());
        command
    }

    /// A restore of a snapshot.
    pub fn restore(&self, snapshot: impl AsRef<OsStr>, target: &Path) -> Command {
        let mut command = self.command();
        command.arg("restore").arg(snapshot).arg("--target").arg(target);
        command
    }

    /// The snapshots' ids.
    pub fn snapshots(&self) -> Vec<String> {
        let output = self.run(self.command().args(["snapshots", "--json"]));
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = |snapshot: &serde_json::Value| snapshot["id"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    }

    /// Checks every byte.
    pub fn check(&self) {
        self.run(self.command().args(["check", "--read-data"]));
    }

    /// Restores a snapshot of the source and stops the test where it is not what `copy` holds.
    pub fn assert_restores(&self, id: &str, copy: &Path) {
        let target = self.workshop.room();
        self.run(&mut self.restore(id, &target));
        assert_same_tree(copy, &restored(&target, &self.workshop.source()));
        std::fs::remove_dir_all(target).unwrap();
    }
}
