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
