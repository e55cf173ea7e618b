//! `dr hold`

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::error::Result;
use crate::quantity;
use crate::render::json;
use crate::session::Session;

/// Says how long forgotten snapshots are held before 'dr prune' may take them, or changes it.
#[derive(Debug, Args)]
#[command(
    after_help = "It is kept in the repository, and every prune goes by it, whoever runs it. A longer hold counts at once. \
A shorter one counts when the longer has passed since: nobody who can only write to the repository gets anything deleted \
earlier. 14d is advised where hosts can only append."
)]
pub(crate) struct HoldArgs {
    /// How long from now on, as in 14d, or 0 for not at all; ten years at most
    #[arg(value_name = "TIME", value_parser = quantity::duration)]
    time: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct HoldDocument {
    message_type: &'static str,
    schema: u32,
    seconds: u64,
    seconds_in_force: u64,
}

/// Runs the command.
pub(crate) fn run(args: &HoldArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    if let Some(time) = args.time {
        repository.set_hold(time)?;
    }
    let hold = repository.hold()?;
    let document = HoldDocument {
        message_type: "hold",
        schema: json::SCHEMA,
        seconds: hold.set.as_secs(),
        seconds_in_force: hold.in_force.as_secs(),
    };
    session.output.summary(&document, |to| {
        match document.seconds {
            0 => writeln!(to, "forgotten snapshots are not held")?,
            _ => writeln!(to, "forgotten snapshots are held for {}", quantity::render_duration(hold.set))?,
        }
        if hold.in_force > hold.set {
            let before = quantity::render_duration(hold.in_force);
            writeln!(to, "the {before} that were set before still count, until so long after the change")?;
        }
        Ok(())
    })
}
