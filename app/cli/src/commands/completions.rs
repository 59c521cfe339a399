//! `shoal completions`: completions for a shell, from the definition of the command line.

use clap_complete::Shell;

use super::Done;
use crate::args;
use crate::exit::Exit;
use crate::output;

/// Prints the completions for `shell`.
pub(super) fn run(shell: Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), "shoal", &mut script);
    output::raw(&script)?;
    Ok(Exit::Ok)
}
