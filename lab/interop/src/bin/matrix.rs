//! Prints what works with whom: peer, direction, kind of torrent, how they find each other, and what came of it.
//!
//! `matrix` runs every transfer; `matrix SEED LEECH` those between two clients.

#![allow(clippy::print_stdout, reason = "this program speaks to people")]

use anyhow::{Context, Result, bail, ensure};
use shoal_interop::matrix::{Cell, PEERS, between};
use shoal_interop::{Client, Outcome, run_isolated};
use std::time::Instant;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => table(&every_pair()),
        [seed, leech] => table(&[(client(seed)?, client(leech)?)]),
        // A transfer runs in a process of its own, started by the table.
        ["cell", seed, leech, index] => {
            let cells = between(client(seed)?, client(leech)?);
            run(
                cells.get(index.parse::<usize>()?).context("no such cell")?,
                &words,
            )?;
            Ok(())
        }
        _ => bail!("usage: matrix [SEED LEECH]"),
    }
}

fn client(name: &str) -> Result<Client> {
    let mut clients = PEERS.into_iter().chain([Client::Shoal]);
    clients
        .find(|client| client.name() == name)
        .with_context(|| format!("no client is called {name}"))
}

fn every_pair() -> Vec<(Client, Client)> {
    PEERS
        .into_iter()
        .flat_map(|peer| [(Client::Shoal, peer), (peer, Client::Shoal)])
        .collect()
}

fn run(cell: &Cell, words: &[&str]) -> Result<Outcome> {
    run_isolated(&cell.needs(), words, |lab| cell.run(lab))
}

fn table(pairs: &[(Client, Client)]) -> Result<()> {
    let mut failed = 0;
    for &(seed, leech) in pairs {
        for (index, cell) in between(seed, leech).iter().enumerate() {
            let index = index.to_string();
            let outcome = outcome(cell, &["cell", seed.name(), leech.name(), &index]);
            failed += u32::from(outcome.starts_with("FAIL"));
            println!("{cell}  {outcome}");
        }
    }
    ensure!(failed == 0, "{failed} transfers failed");
    Ok(())
}

fn outcome(cell: &Cell, words: &[&str]) -> String {
    if let Some(why) = cell.unsupported() {
        return format!("not supported: {why}");
    }
    let start = Instant::now();
    match run(cell, words) {
        Ok(Outcome::Ran) => format!("pass in {:.1} s", start.elapsed().as_secs_f64()),
        Ok(Outcome::Skipped(why)) => format!("skipped: {why}"),
        Err(why) => format!("FAIL: {why:#}"),
    }
}
