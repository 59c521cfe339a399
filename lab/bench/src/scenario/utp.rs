//! A transfer over uTP, Shoal's, beside libtorrent's over TCP.

use super::pairs::name;
use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::Section;
use crate::transfer::{Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Kind, Speech};
use shoal_utp::MAX_DATAGRAM_BYTES;

/// What is added to the names of pairs that speak over uTP.
pub(crate) const OVER_UTP: &str = ", uTP";

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = run.arguments.size();
    let settings = format!(
        "{} MiB, v1, pieces of 1 MiB, in the clear; UDP payloads of at most {MAX_DATAGRAM_BYTES} bytes",
        bytes >> 20
    );
    let mut section = run.section(What::Utp, settings);
    let goods = run.one_file(bytes, Kind::V1)?;
    let subjects = [(Client::Shoal, true), (Client::Libtorrent, false)].map(|(client, utp)| {
        let carrier = if utp { OVER_UTP } else { "" };
        (name(client, client) + carrier, (client, utp))
    });
    rounds(run, &mut section, subjects.to_vec(), |&(client, utp)| {
        let plan = Plan {
            goods: &goods,
            seeds: &[client],
            leeches: &[client],
            target: None,
            speech: Speech::Clear,
            utp,
        };
        Ok(measure(run.lab, plan)?.figures())
    });
    Ok(section)
}
