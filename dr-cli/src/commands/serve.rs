//! `dr serve`

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::credentials;
use crate::error::{CliError, Result};
use crate::render::json;
use crate::serve::{self, Access};
use crate::session::Session;
use crate::shelf::Shelf;

/// Shows the snapshots to other programs, read-only, until a signal ends it.
#[derive(Debug, Args)]
pub(crate) struct ServeCommand {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Debug, Subcommand)]
enum Protocol {
    /// Over WebDAV, which file managers, rclone and browsers can read
    Webdav(WebdavArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "The server shows the same folders as 'dr mount'. It leaves out symbolic links, devices, pipes and \
sockets, which WebDAV does not know; 'latest' is a folder of its own.\nWithout --user it answers programs of this \
machine only, but those of all its users: owners and modes of files do not matter here. What it sends is not \
encrypted: to reach it from elsewhere, put a server with TLS before it, or use 'ssh -L'.\nEnds with code 0 on a \
signal."
)]
struct WebdavArgs {
    /// Listen at this address and port; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Answer only who gives this name and the password of --user-password-file
    #[arg(long, value_name = "NAME", requires = "user_password_file")]
    user: Option<String>,
    /// Take the first line of FILE as that password
    #[arg(long, value_name = "FILE", requires = "user")]
    user_password_file: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct Serving {
    message_type: &'static str,
    schema: u32,
    protocol: &'static str,
    url: String,
}

/// Runs the command.
pub(crate) fn run(command: &ServeCommand, session: &Session) -> Result<()> {
    match &command.protocol {
        Protocol::Webdav(args) => webdav(args, session),
    }
}

fn webdav(args: &WebdavArgs, session: &Session) -> Result<()> {
    let access = access(args)?;
    let repository = session.open_repository()?;
    let shelf = Shelf::open(repository, args.filter.to_filter(), "serve", &session.output)?;
    serve::run(shelf, args.listen, access, session, |address| {
        let url = format!("http://{address}/");
        let document = Serving { message_type: "serving", schema: json::SCHEMA, protocol: "webdav", url };
        session.output.summary(&document, |to| announce(to, &document.url))
    })
}

fn announce(to: &mut dyn Write, url: &str) -> io::Result<()> {
    writeln!(to, "the snapshots are at {url} over WebDAV; press Ctrl-C to end")
}

fn access(args: &WebdavArgs) -> Result<Access> {
    let (Some(user), Some(file)) = (&args.user, &args.user_password_file) else {
        if args.listen.ip().is_loopback() {
            return Ok(Access::Local);
        }
        return Err(CliError::usage(format!("{} can be reached from other machines", args.listen))
            .with_remedy("set a name and a password with --user and --user-password-file"));
    };
    if user.contains(':') {
        return Err(CliError::usage("the name of --user holds a colon, which no client can send"));
    }
    let password = credentials::from_file(file)?;
    if password.is_empty() {
        return Err(CliError::credentials("the password of --user-password-file is empty").with_path(file));
    }
    Ok(Access::with_password(user, &password))
}
