//! Two in homes behind routers, and a third one that everybody can reach and that introduces them: all ours, or one of them libtorrent.

use anyhow::{Result, ensure};
use shoal_interop::nat::{Home, Internet, Nat};
use shoal_interop::{
    Client, Content, Job, Kind, Lab, Maker, Process, Program, Recipe, Role, Shape, eventually,
    isolated, libtorrent, shoal,
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
const BYTES_PER_S: u64 = 100_000;

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

    /// What plays a part, told of these peers. `folder` is where a leech has nothing yet.
    fn command(
        &self,
        lab: &Lab,
        part: Part,
        folder: &Path,
        told: &[SocketAddr],
    ) -> Result<Command> {
        let Part {
            client,
            role,
            listen,
        } = part;
        if client == Client::Libtorrent {
            let job = match role {
                Role::Seed => Job::seed(&self.torrent, &self.content.parent, listen),
                Role::Leech => Job::leech(&self.torrent, folder, listen),
            };
            // In a home it has to be told to speak uTP, and then speaks nothing else.
            let utp = !told.is_empty();
            return libtorrent::command(&Job {
                utp,
                ..job.with(told).at_most(BYTES_PER_S)
            });
        }
        let mut command = match role {
            Role::Seed => shoal::command(&["seed", "--trust"])?,
            Role::Leech => shoal::command(&["get"])?,
        };
        command.arg(&self.torrent);
        match role {
            Role::Seed => command.arg("--data").arg(&self.content.parent),
            Role::Leech => command.arg("-o").arg(folder),
        };
        command.arg("--listen").arg(listen.to_string());
        command.arg("--upload-limit").arg(BYTES_PER_S.to_string());
        command.arg("--state-dir").arg(lab.folder("state")?);
        for peer in told {
            command.arg("--peer").arg(peer.to_string());
        }
        command.env("SHOAL_LOG", "shoal_engine::connect=debug");
        Ok(command)
    }
}

/// Who does what, and where it listens.
#[derive(Clone, Copy)]
struct Part {
    client: Client,
    role: Role,
    listen: SocketAddr,
}

/// Who plays which part.
#[derive(Clone, Copy)]
struct Cast {
    /// It knows both, and has not everything. Each pair has one of its own, as nobody hears of a newcomer at once where others came just
    /// before.
    introducer: Client,
    seed: Client,
    leech: Client,
}

const OURS: Cast = Cast {
    introducer: Client::Shoal,
    seed: Client::Shoal,
    leech: Client::Shoal,
};

/// Both say something first when they have begun.
fn ready(process: &Process) -> Result<()> {
    eventually(READY_WITHIN, "a client to be ready", || {
        let mut events = shoal::events(&process.said()).into_iter();
        Ok(events.any(|event| event["event"] == "started" || event["event"] == "progress"))
    })
}

/// The most that any event counts of this, such as peers.
fn counted(process: &Process, what: &str) -> u64 {
    let events = shoal::events(&process.said()).into_iter();
    let counts = events.filter_map(|event| event[what].as_u64());
    counts.max().unwrap_or(0)
}

/// Starts a seed in one home and a leech in the other; whether the leech is connected to the seed in time. There is no other seed.
fn meet(
    lab: &Lab,
    subject: &Subject,
    internet: &Internet,
    cast: Cast,
    homes: [&Home; 2],
    mapping: bool,
    within: Duration,
) -> Result<(bool, Process)> {
    let told = [internet.address()];
    let [one, other] = homes;
    let introducer = Part {
        client: cast.introducer,
        role: Role::Leech,
        listen: told[0],
    };
    let folder = lab.folder("introducer")?;
    let mut command = subject.command(lab, introducer, &folder, &[])?;
    let introducer = Process::start(lab, &format!("introducer-{}", one.number()), &mut command)?;
    ready(&introducer)?;
    let start = |name: &str, client, role, home: &Home| {
        let listen = home.address();
        let part = Part {
            client,
            role,
            listen,
        };
        let mut command = subject.command(lab, part, &lab.folder("target")?, &told)?;
        if client == Client::Shoal && !mapping {
            command.arg("--no-port-mapping");
        }
        let name = format!("{name}-{}", home.number());
        let process = Process::start(lab, &name, &mut home.on_host(&command))?;
        ready(&process).map(|()| process)
    };
    let seed = start("seed", cast.seed, Role::Seed, one)?;
    if mapping {
        eventually(READY_WITHIN, "the router to map both ports", || {
            Ok(one.mapped()?.len() == 2)
        })?;
    }
    let leech = start("leech", cast.leech, Role::Leech, other)?;
    eventually(READY_WITHIN, "the introducer", || {
        Ok(counted(&leech, "peers") > 0)
    })?;
    let is_connected = || match cast.leech {
        Client::Shoal => counted(&leech, "seeds") > 0,
        // It does not say of what kind: there are only the introducer and the seed.
        _ => counted(&leech, "peers") > 1,
    };
    let directly = eventually(within, "a seed", || Ok(is_connected())).is_ok();
    leech.stop();
    introducer.stop();
    Ok((directly, seed))
}

/// Both homes let in answers alone: both have to send at once, as they are asked to (BEP 55), or as each happens to dial the other.
fn are_connected(lab: &Lab, cast: Cast) -> Result<()> {
    let subject = Subject::new(lab)?;
    let mut internet = Internet::build()?;
    let homes = [
        internet.home(lab, Nat::PortRestricted)?,
        internet.home(lab, Nat::PortRestricted)?,
    ];
    let [one, other] = &homes;
    let homes = [one, other];
    let within = CONNECTED_WITHIN;
    let (directly, _seed) = meet(lab, &subject, &internet, cast, homes, false, within)?;
    ensure!(directly, "they were not connected");
    Ok(())
}

#[test]
fn libtorrent_brings_two_of_ours_together() -> Result<()> {
    isolated(&[Program::Nft, Program::Libtorrent], |lab| {
        let introducer = Client::Libtorrent;
        are_connected(lab, Cast { introducer, ..OURS })
    })
}

#[test]
fn we_bring_libtorrent_and_one_of_ours_together() -> Result<()> {
    isolated(&[Program::Nft, Program::Libtorrent], |lab| {
        let seed = Client::Libtorrent;
        are_connected(lab, Cast { seed, ..OURS })
    })
}

#[test]
fn we_bring_one_of_ours_and_libtorrent_together() -> Result<()> {
    isolated(&[Program::Nft, Program::Libtorrent], |lab| {
        let leech = Client::Libtorrent;
        are_connected(lab, Cast { leech, ..OURS })
    })
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
                let (directly, seed) = meet(lab, &subject, &internet, OURS, homes, false, within)?;
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
        OURS,
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
