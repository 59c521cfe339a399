//! The binary `shoal`: from the command line to one command, and from its result to an exit code.

mod args;
mod commands;
mod descriptors;
mod exit;
mod journal_path;
mod listen;
mod output;
mod signals;
mod stored_torrent;
mod torrent_file;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command_line = match args::parse(std::env::args_os()) {
        Ok(command_line) => command_line,
        Err(said) => return said.show().into(),
    };
    output::start_logging(command_line.global.verbose);
    descriptors::raise_limit();
    commands::run(command_line).into()
}
