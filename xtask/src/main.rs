//! Steps of development that are not building or testing: `cargo xtask tidy`, `cargo xtask demo`.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this program speaks to people"
)]

mod demo;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["tidy"] => tidy::run(),
        ["demo", shoal] => demo::run(Path::new(shoal)),
        _ => Err(anyhow::anyhow!(
            "usage: cargo xtask tidy | cargo xtask demo PATH-OF-SHOAL"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
