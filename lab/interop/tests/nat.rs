//! Two of ours in homes behind routers, and a third one that everybody can reach and that introduces them.

use anyhow::{Result, ensure};
use shoal_interop::nat::{Home, Internet, Nat};
use shoal_interop::{
    Content, Kind, Lab, Maker, Process, Program, Recipe, Shape, eventually, isolated, shoal,
};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long the introducer may take to name them to each other: it looks at its connections every five seconds.
const INTRODUCED_WITHIN: Duration = Duration::from_secs(6);
/// How long two may take from when they know of each other until they are connected.
const DIRECTLY_WITHIN: Duration = Duration::from_secs(5);
/// The same for both together where they are to connect, on a machine that has much else to do. Nobody waits so long otherwise.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(30);
/// More than anybody fetches while a test runs: who has everything leaves the introducer, which would have nothing to introduce.
const BYTES: u64 = 30_000_000;
const BYTES_PER_S: &str = "100K";

/// What two homes can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// They connect, as one of them can be reached.
    Connects,
    /// They connect where both send at once (BEP 55).
    NeedsPunching,
    /// The port from which one of them sends to the other is known to nobody before.
    Cannot,
}

/// The table, for either order.
fn expected(one: Nat, other: Nat) -> Expected {
    use Nat::{FullCone, PortRestricted, Symmetric};
    match (one, other) {
        (FullCone, _) | (_, FullCone) => Expected::Connects,
        (Symmetric, Symmetric | PortRestricted) | (PortRestricted, Symmetric) => Expected::Cannot,
        _ => Expected::NeedsPunching,
    }
}

/// What all three are about.
struct Subject {
    content: Content,
    torrent: std::path::PathBuf,
}

impl Subject {
    fn new(lab: &Lab) -> Result<Subject> {
        let content = Content::generate(&lab.folder("source")?, "word", Shape::File(BYTES), 5)?;
        let torrent = lab.path("nat.torrent");
        Recipe::new(Kind::V1).make(Maker::Shoal, &content, &torrent)?;
        Ok(Subject { content, torrent })
    }

    fn seed(&self, listen: SocketAddr) -> Result<Command> {
        let mut command = shoal::command(&["seed", "--trust"])?;
        command
            .arg(&self.torrent)
            .arg("--data")
            .arg(&self.content.parent);
        command.arg("--listen").arg(listen.to_string());
        command.args(["--upload-limit", BYTES_PER_S]);
        Ok(command)
    }

    fn get(&self, lab: &Lab, folder: &Path, listen: SocketAddr) -> Result<Command> {
        let mut command = shoal::command(&["get"])?;
        command.arg(&self.torrent).arg("-o").arg(folder);
        command.arg("--listen").arg(listen.to_string());
        command.arg("--state-dir").arg(lab.folder("state")?);
        Ok(command)
    }
}

/// Who knows both, and has not everything. Each pair has one of its own, as nobody hears of a newcomer at once where others came just
/// before.
fn introducer(lab: &Lab, subject: &Subject, internet: &Internet, name: &str) -> Result<Process> {
    let folder = lab.folder("introducer")?;
    let mut command = subject.get(lab, &folder, internet.address())?;
    let process = Process::start(lab, name, &mut command)?;
    ready(&process)?;
    Ok(process)
}

fn ready(process: &Process) -> Result<()> {
    eventually(READY_WITHIN, "a seed to be ready", || {
        let events = shoal::events(&process.said());
        Ok(events.iter().any(|event| event["event"] == "started"))
    })
}

/// Starts a seed in one home and a leech in the other; whether the leech is connected to the seed in time. There is no other seed.
fn meet(
    lab: &Lab,
    subject: &Subject,
    internet: &Internet,
    homes: [&Home; 2],
    mapping: bool,
    within: Duration,
) -> Result<(bool, Process)> {
    let name = |role: &str, home: &Home| format!("{role}-{}", home.number());
    let told = |mut command: Command| {
        command.arg("--peer").arg(internet.address().to_string());
        command.args((!mapping).then_some("--no-port-mapping"));
        command
    };
    let [one, other] = homes;
    let introducer = introducer(lab, subject, internet, &name("introducer", one))?;
    let mut seed = told(subject.seed(one.address())?);
    seed.arg("--state-dir").arg(lab.folder("state")?);
    let seed = Process::start(lab, &name("seed", one), &mut one.on_host(&seed))?;
    ready(&seed)?;
    if mapping {
        eventually(READY_WITHIN, "the router to map both ports", || {
            Ok(one.mapped()?.len() == 2)
        })?;
    }
    let folder = lab.folder("target")?;
    let leech = told(subject.get(lab, &folder, other.address())?);
    let leech = &mut other.on_host(&leech);
    let leech = Process::start(lab, &name("leech", other), leech)?;
    let shows = |count: &str| {
        let mut events = shoal::events(&leech.said()).into_iter();
        events.any(|event| event[count].as_u64().is_some_and(|count| count > 0))
    };
    eventually(READY_WITHIN, "the introducer", || Ok(shows("peers")))?;
    let directly = eventually(within, "a seed", || Ok(shows("seeds"))).is_ok();
    leech.stop();
    introducer.stop();
    Ok((directly, seed))
}

#[test]
#[allow(clippy::print_stdout, reason = "the table is for people")]
fn homes_connect_if_one_can_be_reached_or_both_routers_let_in_answers() -> Result<()> {
    isolated(&[Program::Nft], |lab| {
        let subject = Subject::new(lab)?;
        let mut internet = Internet::build()?;
        let mut wrong = Vec::new();
        println!("{:<16}{:<16}{:<16}directly", "seed", "leech", "expected");
        for one in Nat::ALL {
            for other in Nat::ALL {
                let homes = [internet.home(lab, one)?, internet.home(lab, other)?];
                let [seeding, fetching] = &homes;
                let expected = expected(one, other);
                let within = match expected {
                    Expected::Connects => CONNECTED_WITHIN,
                    _ => INTRODUCED_WITHIN + DIRECTLY_WITHIN,
                };
                let homes = [seeding, fetching];
                let (directly, seed) = meet(lab, &subject, &internet, homes, false, within)?;
                seed.stop();
                println!(
                    "{one:<16}{other:<16}{:<16}{directly}",
                    format!("{expected:?}")
                );
                let right = match expected {
                    Expected::Connects | Expected::NeedsPunching => directly,
                    Expected::Cannot => !directly,
                };
                if !right {
                    wrong.push(format!(
                        "{one} and {other}: {expected:?}, directly: {directly}"
                    ));
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

fn with_a_mapped_port(lab: &Lab, pcp: bool, upnp: bool) -> Result<()> {
    let subject = Subject::new(lab)?;
    let mut internet = Internet::build()?;
    let homes = [
        internet.home(lab, Nat::Symmetric)?,
        internet.home(lab, Nat::PortRestricted)?,
    ];
    let [one, other] = &homes;
    let _router = one.map_ports(lab, pcp, upnp)?;
    let (directly, seed) = meet(
        lab,
        &subject,
        &internet,
        [one, other],
        true,
        CONNECTED_WITHIN,
    )?;
    let mapped = one.mapped()?;
    ensure!(directly, "not connected, with {mapped:?}");
    seed.stop();
    let left = one.mapped()?;
    ensure!(left.is_empty(), "still mapped: {left:?}");
    Ok(())
}

#[test]
fn a_home_whose_router_maps_its_port_by_pcp_can_be_reached() -> Result<()> {
    isolated(&[Program::Nft, Program::Miniupnpd], |lab| {
        with_a_mapped_port(lab, true, false)
    })
}

#[test]
fn a_home_whose_router_maps_its_port_by_upnp_can_be_reached() -> Result<()> {
    isolated(&[Program::Nft, Program::Miniupnpd], |lab| {
        with_a_mapped_port(lab, false, true)
    })
}
