//! `shoal man`: the manual as one page, from the definition of the command line.

use std::io;

use clap_mangen::Man;

use super::Done;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the page.
pub(super) fn run() -> Done {
    let page = page().map_err(|error| {
        let message = format!("cannot make the manual page: {error}; report it as a bug");
        Failure::new(Exit::Failure, message)
    })?;
    output::raw(&page)?;
    Ok(Exit::Ok)
}

/// The program's sections, and a section for each command.
fn page() -> io::Result<Vec<u8>> {
    let mut program = args::definition().disable_help_subcommand(true);
    program.build();
    let commands: Vec<clap::Command> = program.get_subcommands().cloned().collect();
    let man = Man::new(program).manual("Shoal manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for command in commands {
        let heading = format!("shoal {}", command.get_name()).to_uppercase();
        let man = Man::new(command.after_help(None::<&str>));
        let mut section = Vec::new();
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        page.extend(format!(".SH \"{heading}\"\n").bytes());
        page.extend(demoted(&section));
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Sections as subsections.
fn demoted(section: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(section);
    let lines = text.lines().map(|line| match line.strip_prefix(".SH ") {
        Some(heading) => format!(".SS {heading}\n"),
        None => format!("{line}\n"),
    });
    lines.collect::<String>().into_bytes()
}
