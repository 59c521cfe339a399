//! One seed to four leeches, and four seeds to one leech.

use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::Section;
use crate::transfer::{Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Kind, Speech};

const MANY: usize = 4;

/// One to four. The leeches know the seed alone, so that it does all the work.
pub(super) fn out(run: &Run<'_>) -> Result<Section> {
    fan(run, What::FanOut, 1, MANY)
}

/// Four to one.
pub(super) fn inward(run: &Run<'_>) -> Result<Section> {
    fan(run, What::FanIn, MANY, 1)
}

fn fan(run: &Run<'_>, what: What, seeds: usize, leeches: usize) -> Result<Section> {
    // As much in all as where one leech has it: what a machine can give at once without its host is bounded.
    let bytes = run.arguments.size() / leeches as u64;
    let settings = format!(
        "{} MiB, v1, pieces of 1 MiB, {seeds} to {leeches}",
        bytes >> 20
    );
    let mut section = run.section(what, settings);
    let goods = run.one_file(bytes, Kind::V1)?;
    let subjects = [Client::Shoal, Client::Libtorrent].map(|client| (client.to_string(), client));
    rounds(run, &mut section, subjects.into(), |client| {
        let plan = Plan {
            goods: &goods,
            seeds: &vec![*client; seeds],
            leeches: &vec![*client; leeches],
            target: None,
            speech: Speech::Clear,
            utp: false,
        };
        Ok(measure(run.lab, plan)?.figures())
    });
    Ok(section)
}
