//! Encrypted transfers, Shoal's and libtorrent's, beside what one core encrypts.

use super::pairs::name;
use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::transfer::{Plan, measure};
use crate::usage::thread_cpu_s;
use anyhow::Result;
use shoal_interop::{Client, Kind, Speech};
use shoal_wire::mse::Rc4;

/// What one core encrypts to show its speed, a block at a time. It takes a second.
const PROBE_BYTES: usize = 1 << 30;
const BLOCK_BYTES: usize = 16 * 1024;

/// The floor's name among the pairs.
const ONE_CORE: &str = "one core";

enum Subject {
    /// A client, to itself.
    Pair(Client),
    OneCore,
}

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = run.arguments.size();
    let settings = format!(
        "{} MiB, v1, pieces of 1 MiB, RC4 both ways and nothing else accepted",
        bytes >> 20
    );
    let mut section = run.section(What::Rc4, settings);
    let goods = run.one_file(bytes, Kind::V1)?;
    let mut subjects = vec![(ONE_CORE.to_owned(), Subject::OneCore)];
    for client in [Client::Shoal, Client::Libtorrent] {
        subjects.push((name(client, client), Subject::Pair(client)));
    }
    rounds(run, &mut section, subjects, |subject| match *subject {
        Subject::OneCore => Ok(vec![(Metric::CipherMbPerS, one_core()?)]),
        Subject::Pair(client) => {
            let plan = Plan {
                goods: &goods,
                seeds: &[client],
                leeches: &[client],
                target: None,
                speech: Speech::Encrypted,
                utp: false,
            };
            Ok(measure(run.lab, plan)?.figures())
        }
    });
    Ok(section)
}

/// Megabytes that one core encrypts in a second of its time, whatever else runs.
fn one_core() -> Result<f64> {
    let (mut cipher, mut block) = (Rc4::for_mse(b"any key"), [0x5a; BLOCK_BYTES]);
    let before = thread_cpu_s()?;
    for _ in 0..PROBE_BYTES / BLOCK_BYTES {
        cipher.apply(&mut block);
    }
    std::hint::black_box(&block);
    Ok(PROBE_BYTES as f64 / 1e6 / (thread_cpu_s()? - before))
}
