//! `shoal-bench`: measures, judges and draws.

#![allow(clippy::print_stderr, reason = "this program speaks to people")]

use anyhow::Result;
use clap::Parser;
use shoal_bench::arguments::Arguments;
use shoal_bench::{report, room, scenario};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.scenarios().is_empty() {
        return report::redraw(&arguments);
    }
    room::enter(&arguments, |lab| scenario::run(lab, &arguments))
}
