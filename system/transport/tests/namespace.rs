//! Devices and shared networks, in a network namespace of its own: a pair of virtual cables and loopback, nothing else.
//!
//! Where the system gives a test no namespace (`unshare` and `ip` with unprivileged user namespaces, or root), there is
//! nothing to try and the test passes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::{Command, Stdio};
use std::time::Duration;

use shoal_transport::{
    Binding, DialError, HttpError, HttpLimits, Listener, OriginClass, Protocol, RefusalReason,
    Transport, TransportConfig,
};

/// Set in the child process that runs inside the namespace.
const INSIDE: &str = "SHOAL_TEST_INSIDE_NAMESPACE";
const NAME: &str = "a_device_is_the_only_way_out_and_its_network_the_only_shared_one";
/// Longer than it takes to see that a device has come or gone, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);
const SET_UP: &str = "ip link set lo up && ip link add cable0 type veth peer name cable1 \
    && ip addr add 10.9.0.1/24 dev cable0 && ip link set cable0 up && ip link set cable1 up";

#[test]
fn a_device_is_the_only_way_out_and_its_network_the_only_shared_one() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(inside());
    }
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script, "sh"]);
        command
    };
    let possible = in_namespace(SET_UP)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !possible {
        return;
    }
    let child = in_namespace(&format!("{SET_UP} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (child.stdout, child.stderr);
    let said = String::from_utf8_lossy(&out) + String::from_utf8_lossy(&err);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

async fn inside() {
    let bound = start(Binding::Interface("cable0".into()));
    private_peers_are_those_on_a_network_of_ours(&bound);
    nothing_reaches_loopback_through_another_device(&bound).await;
    a_device_that_is_gone_fails_every_socket(&bound).await;
    what_was_made_on_a_device_that_went_ends_and_begins_anew_when_it_is_back().await;
}

fn start(binding: Binding) -> Transport {
    Transport::start(TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        binding,
        connect_timeout: Duration::from_millis(300),
        ..TransportConfig::default()
    })
    .unwrap()
}

fn private_peers_are_those_on_a_network_of_ours(bound: &Transport) {
    let reason = |transport: &Transport, target: &str, protocol| {
        let checked = transport.check(target.parse().unwrap(), OriginClass::PeerExchange, protocol);
        checked.map_err(|refusal| refusal.reason)
    };
    for transport in [bound, &start(Binding::Any)] {
        assert_eq!(reason(transport, "10.9.0.77", Protocol::Peer), Ok(()));
        let elsewhere = reason(transport, "10.9.1.77", Protocol::Peer);
        assert_eq!(elsewhere, Err(RefusalReason::NotShared));
        let request = reason(transport, "10.9.0.77", Protocol::TrackerHttp);
        assert_eq!(request, Err(RefusalReason::Local));
    }
    let other_device = start(Binding::Interface("cable1".into()));
    let not_ours = reason(&other_device, "10.9.0.77", Protocol::Peer);
    assert_eq!(not_ours, Err(RefusalReason::NotShared));
}

async fn nothing_reaches_loopback_through_another_device(bound: &Transport) {
    let target = start(Binding::Any).listen().unwrap().remove(0);
    let address = target.local_addr();
    assert!(bound.dial(address, OriginClass::User).await.is_err());
    assert!(fetch(bound, &target).await.is_err());

    let tracker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    tracker.set_nonblocking(true).unwrap();
    if let Ok(channel) = bound.udp(tracker.local_addr().unwrap(), OriginClass::User) {
        // Whether the system reports that it leads nowhere is its own affair.
        let _ = channel.send(b"leak").await;
    }
    assert!(
        tracker.recv(&mut [0; 16]).is_err(),
        "a datagram took another device"
    );

    // A listener on the device does not hear loopback either.
    let listener = bound.listen().unwrap().remove(0);
    let free = start(Binding::Any);
    assert!(
        free.dial(listener.local_addr(), OriginClass::User)
            .await
            .is_err()
    );

    // The first to arrive is our own, so none of the above did.
    let own = free.dial(address, OriginClass::User).await.unwrap();
    let (_, first) = target.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap());
}

async fn a_device_that_is_gone_fails_every_socket(bound: &Transport) {
    let gone = Command::new("ip")
        .args(["link", "del", "cable0"])
        .status()
        .unwrap();
    assert!(gone.success());
    let target = start(Binding::Any).listen().unwrap().remove(0);
    let address = target.local_addr();
    let error = bound.dial(address, OriginClass::User).await.unwrap_err();
    assert!(matches!(error, DialError::Io { .. }), "{error}");
    assert!(bound.udp(address, OriginClass::User).is_err());
    assert!(bound.listen().is_err());
    let error = fetch(bound, &target).await.unwrap_err();
    assert!(matches!(error, HttpError::Failed { .. }), "{error}");
}

async fn fetch(transport: &Transport, target: &Listener) -> Result<(), HttpError> {
    let limits = HttpLimits {
        protocol: Protocol::TrackerHttp,
        max_body_bytes: 1024,
        timeout: Duration::from_millis(300),
        max_redirects: 0,
        family: None,
    };
    let url = format!("http://{}/", target.local_addr()).parse().unwrap();
    transport
        .http()
        .get(url, OriginClass::User, limits)
        .await
        .map(|_| ())
}

fn ip(words: &str) {
    let mut command = Command::new("ip");
    assert!(command.args(words.split(' ')).status().unwrap().success());
}

/// Somebody at the other end of a cable that comes and goes.
struct Neighbour(std::process::Child);

impl Neighbour {
    fn new() -> Neighbour {
        let mut command = Command::new("unshare");
        let child = command.args(["--net", "sleep", "100"]).spawn().unwrap();
        let theirs = format!("/proc/{}/ns/net", child.id());
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&theirs).is_ok_and(|theirs| theirs == ours) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Neighbour(child)
    }

    fn plug_in(&self) {
        ip(&format!(
            "link add cable0 type veth peer name cable1 netns {}",
            self.0.id()
        ));
        let up = "ip addr add 10.9.0.2/24 dev cable1 && ip link set cable1 up";
        assert!(self.command(up).status().unwrap().success());
        ip("addr add 10.9.0.1/24 dev cable0");
        ip("link set cable0 up");
    }

    /// Connects as soon as somebody listens, and stays.
    fn call(&self) -> std::process::Child {
        let script = "for i in $(seq 200); do (exec 3<>/dev/tcp/10.9.0.1/7000 && sleep 20) && exit; sleep 0.1; done";
        let mut command = self.command(script);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        silent.spawn().unwrap()
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        command.args(["bash", "-c", script]);
        command
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn what_was_made_on_a_device_that_went_ends_and_begins_anew_when_it_is_back() {
    let neighbour = Neighbour::new();
    // Not there yet: that is no error for who waits.
    let config = TransportConfig {
        listen: vec!["10.9.0.1:7000".parse().unwrap()],
        binding: Binding::Interface("cable0".into()),
        connect_timeout: Duration::from_millis(300),
        ..TransportConfig::default()
    };
    assert!(Transport::start(config.clone()).is_err());
    let bound = Transport::start(TransportConfig {
        waits_for_binding: true,
        ..config
    });
    let bound = bound.unwrap();
    let listener = bound.listen().unwrap().remove(0);
    let (utp, mut endpoints) = bound.utp(&[]).unwrap();
    let others = endpoints.remove(0).others;
    let keeping = tokio::spawn({
        let bound = bound.clone();
        async move { bound.keep().await }
    });
    let mut channels = Vec::new();
    let mut networks = bound.networks();
    let nobody = "10.9.0.7:7".parse().unwrap();
    let user = OriginClass::User;
    for _ in 0..2 {
        let error = bound.dial(nobody, user).await.unwrap_err();
        assert!(matches!(error, DialError::Shut(_)), "{error}");
        assert!(utp.dial(nobody, user).await.is_err());
        assert!(others.send(nobody, user, b"d").await.is_err());
        assert!(bound.udp(nobody, user).is_err());
        let error = fetch(&bound, &listener).await.unwrap_err();
        assert!(matches!(error, HttpError::Shut { .. }), "{error}");

        neighbour.plug_in();
        let mut theirs = neighbour.call();
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (ours, _) = accepted.unwrap().unwrap();
        assert!(bound.shut_because().is_none());
        let entered = tokio::time::timeout(PATIENCE, networks.changed()).await;
        entered.unwrap().unwrap();
        let channel = bound.udp(nobody, user).unwrap();
        assert!(others.send(nobody, user, b"d").await.is_ok());

        ip("link del cable0");
        let noticed = async {
            while bound.shut_because().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.unwrap();
        assert!(ours.readable().await.is_err());
        assert!(ours.try_read(&mut [0; 8]).is_err());
        assert!(ours.try_write(b"leak").is_err());
        assert!(channel.is_over() && channel.send(b"leak").await.is_err());
        // The channel lies in wait, and keeps nothing from going on.
        channels.push(channel);
        drop(ours);
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }
    bound.close("it was removed");
    keeping.await.unwrap();
    let error = bound.dial(nobody, user).await.unwrap_err();
    assert_eq!(error.to_string(), "nothing leaves: it was removed");
    assert!(listener.accept().await.is_err());
    drop((listener, utp, others, endpoints));
    bound.emptied().await;
}
