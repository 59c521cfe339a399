//! Homes behind routers that translate addresses, on an Internet without a way out.
//!
//! The room of the test is the Internet: whoever runs there can be reached by everybody. A home is a router and a host behind it, each a
//! network namespace that lasts as long as a process that sleeps in it. The kinds of translation are those of RFC 3489 section 5, made of
//! what Linux has: a masquerade keeps the port of a host for all remotes, and lets in who was spoken to.
//!
//! Invariant: a router drops what nobody asked for before the kernel remembers it. A remembered datagram would occupy its port, and
//! the translation would choose another one for the host.

use crate::lab::Lab;
use crate::process::{Process, eventually, output_of};
use crate::program::Program;
use anyhow::Result;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

/// The Internet of the room. The addresses have to be ones that all engines take for global.
const INTERNET: [u8; 3] = [44, 1, 1];
/// What programs in a home are to listen at.
const PORT: u16 = 7881;
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How a router translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Whoever sends to a port of the router reaches the host, over UDP: a host that speaks over its port to anybody, as those with a
    /// DHT do, has it open for all.
    FullCone,
    /// Whoever has an address that the host has sent to.
    Restricted,
    /// Whoever has an address and port that the host has sent to.
    PortRestricted,
    /// The same, and the host has another port for each remote.
    Symmetric,
}

impl Nat {
    /// All, the most open first.
    pub const ALL: [Nat; 4] = [
        Nat::FullCone,
        Nat::Restricted,
        Nat::PortRestricted,
        Nat::Symmetric,
    ];

    /// What is let in beyond answers.
    fn lets_in(self, host: Ipv4Addr) -> String {
        match self {
            Nat::FullCone => {
                format!("iifname wan udp dport 1024-65535 dnat ip to {host}")
            }
            Nat::Restricted => {
                format!("iifname wan udp dport @sent ip saddr @met dnat ip to {host}")
            }
            Nat::PortRestricted | Nat::Symmetric => String::new(),
        }
    }

    /// The rules of its router. What a program that maps ports adds goes into the chains that are named for it.
    fn rules(self, host: Ipv4Addr) -> String {
        let lets_in = self.lets_in(host);
        let ports = if self == Nat::Symmetric {
            "fully-random"
        } else {
            ""
        };
        format!(
            "table inet filter {{
                set sent {{ type inet_service; flags dynamic,timeout; timeout 5m; }}
                set met {{ type ipv4_addr; flags dynamic,timeout; timeout 5m; }}
                chain miniupnpd {{ }}
                chain prerouting_miniupnpd {{ }}
                chain postrouting_miniupnpd {{ }}
                chain remember {{ type filter hook forward priority -10;
                    iifname lan meta l4proto udp update @sent {{ udp sport }} update @met {{ ip daddr }}
                }}
                chain forward {{ type filter hook forward priority 0; policy drop;
                    jump miniupnpd
                    ct state established,related accept
                    ct status dnat accept
                    iifname lan oifname wan accept
                }}
                chain input {{ type filter hook input priority 0;
                    iifname wan ct state new drop
                }}
                chain prerouting {{ type nat hook prerouting priority -100;
                    jump prerouting_miniupnpd
                    {lets_in}
                }}
                chain postrouting {{ type nat hook postrouting priority 100;
                    jump postrouting_miniupnpd
                    oifname wan masquerade {ports}
                }}
            }}"
        )
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Nat::FullCone => "full cone",
            Nat::Restricted => "restricted",
            Nat::PortRestricted => "port-restricted",
            Nat::Symmetric => "symmetric",
        })
    }
}

/// The Internet.
pub struct Internet {
    homes: u8,
}

impl Internet {
    /// Makes the room the Internet.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub fn build() -> Result<Internet> {
        let [a, b, c] = INTERNET;
        run(&mut ip("link add net type bridge"))?;
        run(&mut ip(&format!("address add {a}.{b}.{c}.1/24 dev net")))?;
        run(&mut ip("link set net up"))?;
        Ok(Internet { homes: 0 })
    }

    /// Where a program that everybody can reach is to listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let [a, b, c] = INTERNET;
        SocketAddr::from(([a, b, c, 1], PORT))
    }

    /// A home behind a router of this kind.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub fn home(&mut self, lab: &Lab, nat: Nat) -> Result<Home> {
        self.homes += 1;
        let number = self.homes;
        let (router, host) = (
            namespace(lab, &format!("router-{number}"))?,
            namespace(lab, &format!("host-{number}"))?,
        );
        let [a, b, c] = INTERNET;
        let outside = Ipv4Addr::new(a, b, c, number + 1);
        let inside = Ipv4Addr::new(10, number, 0, 2);
        let home = Home {
            router,
            host,
            inside,
        };
        let router = home.router.id();
        run(&mut ip(&format!(
            "link add net{number} type veth peer name wan netns {router}"
        )))?;
        run(&mut ip(&format!("link set net{number} master net up")))?;
        home.in_router(&format!("address add {outside}/24 dev wan"))?;
        for link in ["lo", "wan"] {
            home.in_router(&format!("link set {link} up"))?;
        }
        run(&mut within(&home.host, &ip("link set lo up")))?;
        home.plug_in()?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let mut shell = Command::new("sh");
        shell.args(["-c", forward]);
        run(&mut within(&home.router, &shell))?;
        let rules = lab.path(&format!("router-{number}.nft"));
        fs::write(&rules, nat.rules(inside))?;
        let mut nft = Command::new(Program::Nft.find()?);
        nft.arg("-f").arg(&rules);
        run(&mut within(&home.router, &nft))?;
        Ok(home)
    }
}

/// A router and the host behind it.
pub struct Home {
    router: Process,
    host: Process,
    inside: Ipv4Addr,
}

impl Home {
    /// Where a program on the host is to listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.inside, PORT))
    }

    /// Its number among the homes.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.inside.octets()[1]
    }

    /// The command, to be run on the host.
    #[must_use]
    pub fn on_host(&self, command: &Command) -> Command {
        within(&self.host, command)
    }

    /// Connects the host with its router, by an interface `eth`, over which it sends what it sends anywhere.
    ///
    /// # Errors
    ///
    /// It is connected.
    pub fn plug_in(&self) -> Result<()> {
        self.connect("lan", "eth", 0, 10)
    }

    /// Takes the host from its router: the interface is gone.
    ///
    /// # Errors
    ///
    /// It was not connected.
    pub fn unplug(&self) -> Result<()> {
        self.in_router("link del lan")
    }

    /// Gives the host another interface, `alt`, over which it sends what it cannot send over the first.
    ///
    /// # Errors
    ///
    /// It has one.
    pub fn add_second_way(&self) -> Result<()> {
        self.connect("lan2", "alt", 1, 100)
    }

    fn connect(&self, near: &str, far: &str, net: u8, metric: u32) -> Result<()> {
        let [a, b, _, last] = self.inside.octets();
        let (gateway, inside) = (Ipv4Addr::new(a, b, net, 1), Ipv4Addr::new(a, b, net, last));
        let host = self.host.id();
        self.in_router(&format!(
            "link add {near} type veth peer name {far} netns {host}"
        ))?;
        self.in_router(&format!("address add {gateway}/24 dev {near}"))?;
        self.in_router(&format!("link set {near} up"))?;
        for arranged in [
            format!("address add {inside}/24 dev {far}"),
            format!("link set {far} up"),
            format!("route add default via {gateway} metric {metric}"),
        ] {
            run(&mut within(&self.host, &ip(&arranged)))?;
        }
        Ok(())
    }

    /// Has this thread, and those that it starts, be on the host.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub fn enter(&self) -> Result<()> {
        let place = File::open(format!("/proc/{}/ns/net", self.host.id()))?;
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Starts the program that maps ports for hosts that ask, by these protocols.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn map_ports(&self, lab: &Lab, pcp: bool, upnp: bool) -> Result<Process> {
        let answer = |yes| if yes { "yes" } else { "no" };
        let number = self.number();
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nport=5000\nenable_natpmp={}\nenable_upnp={}\nsecure_mode=yes\n\
             system_uptime=yes\nuuid=00000000-0000-0000-0000-00000000000{number}\n\
             upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n\
             upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n\
             allow 1024-65535 10.{number}.0.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            answer(pcp),
            answer(upnp),
        );
        let folder = lab.folder("miniupnpd")?;
        let file = folder.join("conf");
        fs::write(&file, text)?;
        let mut command = Command::new(Program::Miniupnpd.find()?);
        command.arg("-d").arg("-f").arg(&file);
        command.arg("-P").arg(folder.join("pid"));
        let name = format!("miniupnpd-{number}");
        let process = Process::start(lab, &name, &mut within(&self.router, &command))?;
        eventually(READY_WITHIN, "miniupnpd to be ready", || {
            Ok(process.said().contains("istening"))
        })?;
        Ok(process)
    }

    /// What the router passes on because it was asked to, as it writes it.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn mapped(&self) -> Result<Vec<String>> {
        let mut nft = Command::new(Program::Nft.find()?);
        nft.args(["list", "chain", "inet", "filter", "prerouting_miniupnpd"]);
        let listed = output_of(&mut within(&self.router, &nft))?;
        let rules = listed.lines().map(str::trim);
        let rules = rules.filter(|line| line.contains("dnat"));
        Ok(rules.map(str::to_owned).collect())
    }

    fn in_router(&self, words: &str) -> Result<()> {
        run(&mut within(&self.router, &ip(words)))
    }
}

/// A network namespace that lasts as long as the process.
fn namespace(lab: &Lab, name: &str) -> Result<Process> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", "infinity"]);
    let process = Process::start(lab, name, &mut command)?;
    let ours = fs::read_link("/proc/self/ns/net")?;
    let theirs = format!("/proc/{}/ns/net", process.id());
    eventually(READY_WITHIN, "a network namespace", || {
        Ok(fs::read_link(&theirs).is_ok_and(|theirs| theirs != ours))
    })?;
    Ok(process)
}

/// The command, to be run in the namespace of a process.
fn within(place: &Process, command: &Command) -> Command {
    let mut entered = Command::new("nsenter");
    entered.arg(format!("--net=/proc/{}/ns/net", place.id()));
    entered.arg("--").arg(command.get_program());
    entered.args(command.get_args());
    let set = command.get_envs();
    entered.envs(set.filter_map(|(name, value)| Some((name, value?))));
    entered
}

fn ip(words: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    command
}

fn run(command: &mut Command) -> Result<()> {
    output_of(command).map(drop)
}
