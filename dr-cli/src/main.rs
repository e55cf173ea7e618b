//! The command `dr`: parses arguments, calls the engine, renders what it answers.

mod app;
mod args;
mod child;
mod commands;
mod credentials;
mod error;
mod exit_code;
mod hardening;
mod help;
mod hooks;
mod instant;
mod key_file;
mod metrics;
mod ping;
mod quantity;
mod render;
mod run_log;
mod selector;
mod session;
mod settings;
mod shard;
mod signals;
mod store_args;
mod surroundings;
mod words;

fn main() -> std::process::ExitCode {
    app::run()
}
