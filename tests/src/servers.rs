//! Real servers of object stores, on this machine, for as long as a test runs.
//!
//! `.ci/setup` installs them below `$DR_TOOLS`. Where one is missing, its tests say so and are skipped.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dr_store::{OpenMode, RetryOptions, Store, StoreOptions, conformance, open_with};
use tempfile::TempDir;

use crate::steps::skip;

/// The bucket (or container) that every server here has.
pub const BUCKET: &str = "bucket";

/// The key of the servers that know keys; moto takes any.
pub const KEY: (&str, &str) = ("test-key-id", "test-secret-key-1");

/// The account that Azurite always has, and its key, which is no secret.
const AZURITE: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// How long a server may take to answer for the first time.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A server, which ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// moto looks whether an object is there, and then makes it: of two requests at once, both may be told that they did. So one
/// comes after the other.
const MOTO: &str = "
import sys, threading
import moto.server as server
run, turn = server.run_simple, threading.Lock()
def in_turn(app):
    def call(environ, start_response):
        with turn:
            return list(app(environ, start_response))
    return call
server.run_simple = lambda host, port, app, **rest: run(host, port, in_turn(app), **rest)
server.main(sys.argv[1:])
";

impl Server {
    /// Starts moto, an S3 that creates atomically and takes any key.
    pub fn moto() -> Option<Server> {
        let server = Server::moto_with(&[])?;
        let answer = server.http(&format!("PUT /{BUCKET} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.contains(" 200 "), "{answer}");
        Some(server)
    }

    /// Starts moto with more arguments, and without a bucket.
    pub fn moto_with(arguments: &[&str]) -> Option<Server> {
        let modules = tools().join("moto");
        if !modules.join("moto").is_dir() {
            return missing("moto", "the S3 server moto (PyPI) is not installed");
        }
        Some(Server::start(|port, _| {
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", &modules).args(["-c", MOTO, "-H", "127.0.0.1", "-p"]);
            command.arg(port.to_string()).args(arguments);
            command
        }))
    }

    /// Starts s3s-fs, an S3 that checks keys and whose conditional creation loses races.
    pub fn s3s_fs() -> Option<Server> {
        let own = tools().join("bin/s3s-fs");
        let program = if own.is_file() { own } else { PathBuf::from("s3s-fs") };
        if !runs(Command::new(&program).arg("--version")) {
            return missing("s3s-fs", "the S3 server s3s-fs (crates.io) is not installed");
        }
        Some(Server::start(|port, folder| {
            fs::create_dir(folder.path().join(BUCKET)).unwrap();
            let mut command = Command::new(&program);
            command.args(["--host", "127.0.0.1", "--access-key", KEY.0, "--secret-key", KEY.1, "--port"]);
            command.arg(port.to_string()).arg(folder.path());
            command
        }))
    }

    /// Starts Azurite, an Azure Blob Storage.
    pub fn azurite() -> Option<Server> {
        let script = tools().join("npm/node_modules/azurite/dist/src/blob/main.js");
        if !script.is_file() || !runs(Command::new("node").arg("--version")) {
            return missing("azurite", "the Azure server Azurite (npm) is not installed");
        }
        let server = Server::start(|port, folder| {
            let mut command = Command::new("node");
            command.arg(&script).args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
            command.arg("--location").arg(folder.path()).arg("--blobPort").arg(port.to_string());
            command
        });
        let made = Command::new("node")
            .args(["-e", MAKE_CONTAINER, AZURITE.0, AZURITE.1, BUCKET, &server.port.to_string()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(server)
    }

    /// Starts `rclone serve webdav`, with [`KEY`] as its user and password.
    pub fn rclone_webdav() -> Option<Server> {
        if !runs(Command::new("rclone").arg("version")) {
            return missing("rclone", "the WebDAV server rclone (Debian) is not installed");
        }
        Some(Server::start(|port, folder| {
            let served = folder.path().join("served");
            fs::create_dir(&served).unwrap();
            let mut command = Command::new("rclone");
            command.args(["serve", "webdav", "--dir-cache-time", "0s", "--user", KEY.0, "--pass", KEY.1]);
            command.arg("--addr").arg(format!("127.0.0.1:{port}")).arg(&served);
            command.env("RCLONE_CONFIG", "/dev/null");
            command
        }))
    }

    /// Starts `rclone serve sftp`, which lets in whoever has the key that [`Server::sftp_ssh`] makes `ssh` use.
    pub fn rclone_sftp() -> Option<Server> {
        let tools = [("rclone", "version"), ("ssh", "-V"), ("ssh-keygen", "-?")];
        let is_there = |(tool, argument): &(&str, &str)| {
            let mut command = Command::new(tool);
            command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok()
        };
        if !tools.iter().all(is_there) {
            return missing("sftp", "rclone (Debian), or OpenSSH's client, is not installed");
        }
        Some(Server::start(|port, folder| {
            let at = |name: &str| folder.path().join(name);
            fs::create_dir(at("served")).unwrap();
            for name in ["host", "client"] {
                let mut keygen = Command::new("ssh-keygen");
                assert!(runs(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name))));
            }
            let mut command = Command::new("rclone");
            command.args(["serve", "sftp", "--dir-cache-time", "0s", "--vfs-cache-mode", "writes"]);
            command.arg("--key").arg(at("host")).arg("--authorized-keys").arg(at("client.pub"));
            command.arg("--cache-dir").arg(at("cache")).env("RCLONE_CONFIG", "/dev/null");
            command.arg("--addr").arg(format!("127.0.0.1:{port}")).arg(at("served"));
            command
        }))
    }

    /// Makes a folder with an `ssh` that logs in to this server without a look at the user's own files.
    pub fn sftp_ssh(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let at = |name: &str| self.folder.path().join(name);
        let host_key = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("[127.0.0.1]:{} {host_key}", self.port)).unwrap();
        fs::create_dir(at("bin")).unwrap();
        let (known, key) = (at("known"), at("client"));
        let script = format!(
            "#!/bin/sh\nPATH=\"${{PATH#*:}}\" exec ssh -F /dev/null -o UserKnownHostsFile={} -i {} \"$@\"\n",
            known.display(),
            key.display()
        );
        fs::write(at("bin/ssh"), script).unwrap();
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        at("bin")
    }

    /// Starts what `command` makes for a free port and a folder of its own, and waits until it takes connections.
    fn start(command: impl Fn(u16, &TempDir) -> Command) -> Server {
        // Another process may take the port between here and there, so a server that ends is started again.
        for _ in 0..3 {
            let port = free_port();
            let folder = tempfile::tempdir().unwrap();
            let log = File::create(folder.path().join("server.log")).unwrap();
            let mut command = command(port, &folder);
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let process = command.spawn().unwrap();
            let mut server = Server { process, port, folder };
            let began = Instant::now();
            while server.process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return server;
                }
                assert!(began.elapsed() < START_TIME_MAX, "{}", server.log());
                thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("a server does not start");
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a request as it is written, and answers all that comes back.
    pub fn http(&self, request: &str) -> String {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Tells the program of a repository in the bucket of an S3 server, and of the key that it takes.
    pub fn name_repository(&self, command: &mut Command) {
        name_repository(&self.url(), command);
    }

    /// Opens a store below `prefix` in the bucket of an S3 server.
    pub fn s3(&self, prefix: &str) -> Arc<dyn Store> {
        let location = format!("s3://{BUCKET}/{prefix}");
        open_with(&location, OpenMode::Create, &options(KEY).with_endpoint(self.url())).unwrap()
    }

    /// Opens a store below `prefix` in the container of an Azure server.
    pub fn azure(&self, prefix: &str) -> Arc<dyn Store> {
        let endpoint = format!("{}/{}", self.url(), AZURITE.0);
        let location = format!("az://{BUCKET}/{prefix}");
        open_with(&location, OpenMode::Create, &options(KEY).with_endpoint(endpoint)).unwrap()
    }

    /// Opens the folder `folder` of a WebDAV server.
    pub fn webdav(&self, folder: &str) -> Arc<dyn Store> {
        open_with(&format!("{}/{folder}", self.url()), OpenMode::Create, &options(KEY)).unwrap()
    }
}

/// Tells the program of a repository in the bucket of the S3 server at `url`, and of the key that it takes.
pub fn name_repository(url: &str, command: &mut Command) {
    command
        .env("AWS_ACCESS_KEY_ID", KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", KEY.1)
        .env("DR_REPOSITORY", format!("s3://{BUCKET}/from/the/program"))
        .env("DR_S3_ENDPOINT", url);
}

/// Options with a key for every kind of store, and hardly a pause between attempts.
pub fn options(key: (&'static str, &'static str)) -> StoreOptions {
    let retries =
        RetryOptions { attempts_max: 4, first_delay: Duration::from_millis(50), ..RetryOptions::default() };
    StoreOptions::new().with_retries(retries).with_variables(move |name| {
        let value = match name {
            "AWS_ACCESS_KEY_ID" | "DR_WEBDAV_USER" => key.0,
            "AWS_SECRET_ACCESS_KEY" | "DR_WEBDAV_PASSWORD" => key.1,
            "AZURE_STORAGE_ACCOUNT_NAME" => AZURITE.0,
            "AZURE_STORAGE_ACCOUNT_KEY" => AZURITE.1,
            _ => return None,
        };
        Some(value.to_owned())
    })
}

/// Runs the checks of the conformance suite but those `left_out`, each in a folder of its own, which `open` opens.
pub fn run_suite_without(left_out: &[&str], open: impl Fn(&str) -> Arc<dyn Store>) {
    let stores = Cell::new(0);
    let make = || {
        stores.set(stores.get() + 1);
        open(&format!("suite/{}", stores.get()))
    };
    conformance::run_without(left_out, &make).unwrap();
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn runs(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

pub(crate) fn missing<T>(name: &str, why: &str) -> Option<T> {
    skip(&format!("server-{name}"), why);
    None
}

/// Where `.ci/setup` puts what it installs.
pub(crate) fn tools() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/")));
    std::env::var_os("DR_TOOLS").map_or_else(|| home().join(".cache/dr-ci/tools"), PathBuf::from)
}

/// Azure makes a container for a signed request only; this signs one, with what Node.js brings.
const MAKE_CONTAINER: &str = r#"
const [account, key, container, port] = process.argv.slice(1);
const date = new Date().toUTCString(), version = "2021-10-04";
const signed = "PUT" + "\n".repeat(12) + `x-ms-date:${date}\nx-ms-version:${version}\n` +
    `/${account}/${account}/${container}\nrestype:container`;
const crypto = require("crypto");
const signature = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(signed, "utf8").digest("base64");
const headers = { "x-ms-date": date, "x-ms-version": version, Authorization: `SharedKey ${account}:${signature}` };
fetch(`http://127.0.0.1:${port}/${account}/${container}?restype=container`, { method: "PUT", headers })
    .then(async answer => { if (answer.status !== 201) { console.error(answer.status, await answer.text()); process.exit(1); } });
"#;
