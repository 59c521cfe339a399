//! One seed to one leech: Shoal and libtorrent with each other and with everybody else, and the floor.

use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::Section;
use crate::floor;
use crate::transfer::{Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Kind, Speech};

/// The floor's name among the pairs.
pub(crate) const FLOOR: &str = "floor";

/// Why a client of the field is not among them.
const VORTEX: &str =
    "vortex is left out: vortex-cli 0.5 runs in a terminal alone, and finds peers by the DHT alone";

/// The name of a pair.
pub(crate) fn name(seed: Client, leech: Client) -> String {
    format!("{seed} -> {leech}")
}

enum Subject {
    Pair(Client, Client),
    Floor,
}

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = run.arguments.size();
    let settings = format!("{} MiB, v1, pieces of 1 MiB", bytes >> 20);
    let mut section = run.section(What::Pairs, settings);
    section.notes.extend(run.missing.iter().cloned());
    section.notes.push(VORTEX.to_owned());
    let goods = run.one_file(bytes, Kind::V1)?;
    let mut subjects: Vec<(String, Subject)> = pairs(&run.clients)
        .into_iter()
        .map(|(seed, leech)| (name(seed, leech), Subject::Pair(seed, leech)))
        .collect();
    subjects.insert(0, (FLOOR.to_owned(), Subject::Floor));
    rounds(run, &mut section, subjects, |subject| match *subject {
        Subject::Floor => floor::measure(&run.lab.another()?, &goods),
        Subject::Pair(seed, leech) => {
            let plan = Plan {
                goods: &goods,
                seeds: &[seed],
                leeches: &[leech],
                target: None,
                speech: Speech::Clear,
                utp: false,
            };
            Ok(measure(run.lab, plan)?.figures())
        }
    });
    Ok(section)
}

/// Shoal and libtorrent with everybody, both ways.
fn pairs(clients: &[Client]) -> Vec<(Client, Client)> {
    let both = [Client::Shoal, Client::Libtorrent];
    let mut pairs = Vec::new();
    for &other in clients {
        for one in both {
            for pair in [(one, other), (other, one)] {
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_there_once() {
        let two = pairs(&[Client::Shoal, Client::Libtorrent]);
        assert_eq!(two.len(), 4);
        let more = pairs(&[Client::Shoal, Client::Libtorrent, Client::Aria2]);
        assert_eq!(more.len(), 4 + 4);
    }
}
