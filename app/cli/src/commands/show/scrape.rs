//! What the trackers of a torrent say about it, for who has not joined it.

use std::time::Duration;

use shoal_engine::{
    EngineError, MAX_SCRAPED_TRACKERS, ScrapeCounts, ScrapeReply, Scrapes, TrackerError,
};
use shoal_metainfo::InfoHashes;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_transport::{Transport, TransportConfig};
use url::Url;

use crate::args::ShowArgs;
use crate::commands::transfer;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Scrape, SwarmFigures, Warning};
use crate::signals::Interrupt;

/// For all trackers together. A person waits for it, and a tracker that takes longer is of little use.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A network that can be used as the command line says.
pub(super) struct Scraper {
    transport: Transport,
}

impl Scraper {
    /// # Errors
    /// Where the binding cannot be used.
    pub(super) fn new(args: &ShowArgs) -> Result<Scraper, Failure> {
        let config = TransportConfig {
            binding: args.bind.clone().unwrap_or_default(),
            proxy: args.proxy()?,
            allow_net: args.allow_net.clone(),
            ..TransportConfig::default()
        };
        let transport = Transport::start(config).map_err(EngineError::from)?;
        Ok(Scraper { transport })
    }

    /// Asks, and shows each answer as it comes.
    pub(super) fn run(
        &self,
        trackers: &[TrackerUrl],
        hashes: &InfoHashes,
        output: &mut Output,
    ) -> Result<(), Failure> {
        // Those that are no URLs were left out with a warning when they were read.
        let parse = |tracker: &TrackerUrl| Some((tracker.url.clone(), tracker.url.parse().ok()?));
        let trackers: Vec<(String, Url)> = trackers.iter().filter_map(parse).collect();
        if let Some(message) = warning(trackers.len()) {
            output.show(&Event::Warning(Warning { message }))?;
        }
        let mut interrupt = Interrupt::watch();
        let runtime = transfer::runtime()?;
        let done = runtime.block_on(async {
            let asked = trackers.iter().map(|(_, url)| url.clone());
            let mut scrapes = Scrapes::start(&self.transport, asked, hashes.swarms(), TIME_LIMIT);
            loop {
                let next = tokio::select! {
                    next = scrapes.next() => next,
                    () = interrupt.wait() => return Err(interrupted()),
                };
                let Some((index, result)) = next else {
                    return Ok(());
                };
                let scrape = describe(&trackers[index].0, hashes, result);
                output.show(&Event::Scrape(scrape))?;
            }
        });
        // A look-up that hangs in the system must not keep the process.
        runtime.shutdown_background();
        done
    }
}

fn interrupted() -> Failure {
    let message = "interrupted: not every tracker has answered";
    Failure::new(Exit::Interrupted, message)
}

fn warning(trackers: usize) -> Option<String> {
    match trackers {
        0 => Some("there is no tracker to ask".to_owned()),
        _ if trackers > MAX_SCRAPED_TRACKERS => Some(format!(
            "only the first {MAX_SCRAPED_TRACKERS} of {trackers} trackers are asked"
        )),
        _ => None,
    }
}

fn describe(
    tracker: &str,
    hashes: &InfoHashes,
    result: Result<ScrapeReply, TrackerError>,
) -> Scrape {
    let (reply, error) = match result {
        Ok(reply) => (Some(reply), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let kinds = [hashes.v1().map(|_| "v1"), hashes.v2().map(|_| "v2")];
    let asked = kinds.into_iter().flatten().zip(hashes.swarms());
    let swarms = reply.map_or_else(Vec::new, |reply| {
        let figures = asked.map(|(kind, swarm)| {
            let known = reply.swarms.iter().find(|(known, _)| *known == swarm);
            let counts = known.map_or_else(ScrapeCounts::default, |(_, counts)| *counts);
            SwarmFigures {
                kind,
                seeds: counts.seeds,
                leeches: counts.leeches,
                completed: counts.downloads,
            }
        });
        figures.collect()
    });
    Scrape {
        tracker: tracker.to_owned(),
        error,
        swarms,
    }
}
