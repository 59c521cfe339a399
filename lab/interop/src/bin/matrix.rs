//! Prints what works with whom: peer, direction, kind of torrent, transport, encryption, how they find each other, and what came of
//! it.
//!
//! `matrix [--docs FOLDER] [--jobs N] [PEER...]` runs the cells of these peers, or of all; with a folder it stores the results there
//! and draws its page `interop.md` again. `matrix --pair SEED LEECH` runs the cells of two peers of which none is ours.

#![allow(clippy::print_stdout, reason = "this program speaks to people")]

use anyhow::{Context, Result, bail, ensure};
use shoal_interop::matrix::{Became, Cell, PEERS, Ran, between, tables, write};
use shoal_interop::{Client, Outcome, run_isolated};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Cells at a time: most of the time of a cell is waiting.
const DEFAULT_JOBS: usize = 2;

/// What the command line says.
struct Order {
    docs: Option<PathBuf>,
    jobs: usize,
    pairs: Vec<(Client, Client)>,
}

/// A cell, and the words after which it is run in a process of its own.
type Entry = (Cell, [String; 4]);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, seed, leech, index] = &words[..]
        && first == "cell"
    {
        // In a process of its own, started by the table.
        let cells = between(client(seed)?, client(leech)?);
        let index: usize = index.parse()?;
        let cell = cells.get(index).context("no such cell")?;
        run(cell, &[first, seed, leech, &index.to_string()])?;
        return Ok(());
    }
    matrix(&order(&words)?)
}

fn order(words: &[String]) -> Result<Order> {
    let mut order = Order {
        docs: None,
        jobs: DEFAULT_JOBS,
        pairs: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--docs" => order.docs = Some(PathBuf::from(value()?)),
            "--jobs" => order.jobs = value()?.parse()?,
            "--pair" => order.pairs.push((client(value()?)?, client(value()?)?)),
            option if option.starts_with('-') => {
                bail!("usage: matrix [--docs FOLDER] [--jobs N] [--pair SEED LEECH] [PEER...]")
            }
            name => order.pairs.extend(with(client(name)?)),
        }
    }
    if order.pairs.is_empty() {
        let peers = PEERS.into_iter().chain([Client::Shoal]);
        order.pairs = peers.flat_map(with).collect();
    }
    Ok(order)
}

/// Both directions between us and a peer; one, where it is ours.
fn with(peer: Client) -> Vec<(Client, Client)> {
    match peer {
        Client::Shoal => vec![(peer, peer)],
        _ => vec![(Client::Shoal, peer), (peer, Client::Shoal)],
    }
}

fn client(name: &str) -> Result<Client> {
    let mut clients = PEERS.into_iter().chain([Client::Shoal]);
    clients
        .find(|client| client.name() == name)
        .with_context(|| format!("no client is called {name}"))
}

fn run(cell: &Cell, words: &[&str]) -> Result<Outcome> {
    run_isolated(&cell.needs(), words, |lab| cell.run(lab))
}

fn entries(pairs: &[(Client, Client)]) -> Vec<Entry> {
    let of_pair = |&(seed, leech): &(Client, Client)| {
        let words = move |index: usize| {
            ["cell", seed.name(), leech.name(), &index.to_string()].map(str::to_owned)
        };
        let cells = between(seed, leech).into_iter().enumerate();
        cells
            .map(|(index, cell)| (cell, words(index)))
            .collect::<Vec<Entry>>()
    };
    pairs.iter().flat_map(of_pair).collect()
}

fn matrix(order: &Order) -> Result<()> {
    let entries = entries(&order.pairs);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((cell, words)) = entries.get(index) else {
                        return;
                    };
                    let (became, more) = outcome(cell, &words.each_ref().map(String::as_str));
                    println!("{cell}  {}{more}", became.word());
                    let ran = Ran::new(cell, became);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((index, ran));
                }
            });
        }
    });
    let mut ran = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    ran.sort_by_key(|&(index, _)| index);
    let ran: Vec<Ran> = ran.into_iter().map(|(_, ran)| ran).collect();
    println!("\n{}", tables(&ran));
    if let Some(docs) = &order.docs {
        write(docs, &ran)?;
    }
    let failed = ran.iter().filter(|ran| ran.has_failed()).count();
    ensure!(failed == 0, "{failed} transfers failed");
    Ok(())
}

fn outcome(cell: &Cell, words: &[&str]) -> (Became, String) {
    if let Some(why) = cell.unsupported() {
        return (Became::Unsupported, format!(": {why}"));
    }
    let start = Instant::now();
    match run(cell, words) {
        Ok(Outcome::Ran) => (
            Became::Passed,
            format!(" in {:.1} s", start.elapsed().as_secs_f64()),
        ),
        Ok(Outcome::Skipped(why)) => (Became::Skipped, format!(": {why}")),
        Err(why) => (Became::Failed, format!(": {why:#}")),
    }
}
