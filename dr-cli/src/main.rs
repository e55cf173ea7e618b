//! The command `dr`: parses arguments, calls the engine, renders what it answers.

mod app;
mod args;
mod child;
mod commands;
mod credentials;
mod error;
mod exit_code;
mod hardening;
mod instant;
mod key_file;
mod quantity;
mod render;
mod selector;
mod session;
mod shard;
mod signals;
mod source_args;
mod store_args;
mod words;

fn main() -> std::process::ExitCode {
    app::run()
}
