//! The command `dr`: parses arguments, calls the engine, renders what it answers.

mod app;
mod args;
mod child;
mod commands;
mod counting;
mod credentials;
mod error;
mod exit_code;
mod filing_args;
mod from_args;
mod hardening;
mod help;
mod hooks;
mod instant;
mod key_args;
mod key_file;
mod metrics;
#[cfg(feature = "mount")]
mod mount;
mod path_lists;
mod pattern_lists;
mod ping;
mod quantity;
mod render;
mod run_log;
mod selection_args;
mod selector;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod settings;
mod shard;
#[cfg(any(feature = "mount", feature = "serve"))]
mod shelf;
mod signals;
mod source_args;
mod store_args;
mod surroundings;
mod words;

fn main() -> std::process::ExitCode {
    app::run()
}
