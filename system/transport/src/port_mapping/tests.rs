//! Routers that keep the protocols, and routers that lie, on loopback.

use super::*;
use crate::transport::TransportConfig;
use crate::{Binding, IpNet};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const US: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FAR_SIDE: Ipv4Addr = Ipv4Addr::new(11, 22, 33, 44);

/// What a router passes on: external port and kind, to internal port.
type Table = Arc<Mutex<BTreeMap<(u16, &'static str), u16>>>;

/// In a table, what stands for a port of another machine.
const ANOTHERS: u16 = 1;

/// A mapper whose router is at `address`, where nothing but that is opened to it.
fn mapper(address: [u8; 4], wanted: WantedPort) -> PortMapper {
    let config = TransportConfig {
        allow_net: vec![IpNet::host(IpAddr::from(address))],
        ..TransportConfig::default()
    };
    let transport = Transport::start(config).unwrap();
    let listening = SocketAddr::from(([0, 0, 0, 0], wanted.port));
    let mut mapper = transport.port_mapper(listening, wanted).unwrap();
    mapper.router = Some(Router {
        address: address.into(),
        client: US,
        ssdp: SocketAddrV4::new(address.into(), 1900),
    });
    mapper
}

const BOTH: WantedPort = WantedPort {
    port: 6881,
    tcp: true,
    udp: true,
};

/// What a router of PCP does with a request, unless it is `busy` there: it gives another port than that.
fn pcp_answer(request: &[u8], far_side: Ipv4Addr, busy: Option<u16>, table: &Table) -> Vec<u8> {
    let lifetime = u32::from_be_bytes(request[4..8].try_into().unwrap());
    let kind = if request[36] == 6 { "TCP" } else { "UDP" };
    let [internal, wished] =
        [40, 42].map(|at| u16::from_be_bytes(request[at..at + 2].try_into().unwrap()));
    let external = if Some(wished) == busy { 50_000 } else { wished };
    let mut table = table.lock().unwrap();
    if lifetime == 0 {
        table.retain(|(_, of), to| (*of, *to) != (kind, internal));
    } else {
        table.insert((external, kind), internal);
    }
    let mut answer = request[..60].to_vec();
    answer[1] |= 0x80;
    answer[3] = 0;
    answer[8..24].fill(0);
    answer[42..44].copy_from_slice(&external.to_be_bytes());
    answer[44..60].copy_from_slice(&far_side.to_ipv6_mapped().octets());
    answer
}

fn nat_pmp_answer(request: &[u8], far_side: Ipv4Addr, table: &Table) -> Vec<u8> {
    let mut answer = vec![0, 128 + request[1], 0, 0, 0, 0, 0, 1];
    if request[0] != 0 {
        // RFC 6886 section 3.5.
        return vec![0, 128 + request[1], 0, 1, 0, 0, 0, 1];
    }
    if request[1] == 0 {
        answer.extend(far_side.octets());
        return answer;
    }
    let kind = if request[1] == 2 { "TCP" } else { "UDP" };
    let [internal, external] =
        [4, 6].map(|at| u16::from_be_bytes(request[at..at + 2].try_into().unwrap()));
    let mut table = table.lock().unwrap();
    if request[8..12] == [0; 4] {
        table.retain(|(_, of), to| (*of, *to) != (kind, internal));
    } else {
        table.insert((external, kind), internal);
    }
    answer.extend(&request[4..12]);
    answer
}

/// Answers datagrams at `at`, for as long as the test runs.
async fn answering(
    at: SocketAddr,
    mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) {
    let socket = UdpSocket::bind(at).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2_000];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(answer) = answer(&buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
}

fn mapped_to(table: &Table) -> Vec<(u16, &'static str, u16)> {
    let table = table.lock().unwrap();
    let mapped = table
        .iter()
        .map(|((external, kind), internal)| (*external, *kind, *internal));
    mapped.collect()
}

#[tokio::test]
async fn a_router_of_pcp_maps_tcp_and_udp_at_one_port_and_forgets_them() {
    let (router, table) = ([127, 81, 0, 1], Table::default());
    let held = Arc::clone(&table);
    answering((router, PORT).into(), move |request| {
        Some(pcp_answer(request, FAR_SIDE, None, &held))
    })
    .await;
    let mut mapper = mapper(router, BOTH);
    for _ in 0..2 {
        let mapped = mapper.map().await.unwrap();
        assert_eq!(mapped.address, SocketAddrV4::new(FAR_SIDE, 6881));
        assert_eq!(mapped.by, MappingProtocol::Pcp);
        assert_eq!(
            mapped_to(&table),
            [(6881, "TCP", 6881), (6881, "UDP", 6881)]
        );
    }
    mapper.release().await;
    assert_eq!(mapped_to(&table), []);
}

#[tokio::test]
async fn a_port_that_only_one_kind_gets_is_given_back_for_another() {
    let (router, table) = ([127, 81, 0, 2], Table::default());
    let held = Arc::clone(&table);
    answering((router, PORT).into(), move |request| {
        let busy = (request[36] == 17).then_some(6881);
        Some(pcp_answer(request, FAR_SIDE, busy, &held))
    })
    .await;
    let mut mapper = mapper(router, BOTH);
    let port = mapper.map().await.unwrap().address.port();
    assert!(FREE_PORTS.contains(&port));
    assert_eq!(
        mapped_to(&table),
        [(port, "TCP", 6881), (port, "UDP", 6881)]
    );
}

#[tokio::test]
async fn a_router_of_nat_pmp_alone_is_asked_by_that() {
    let (router, table) = ([127, 81, 0, 3], Table::default());
    let held = Arc::clone(&table);
    answering((router, PORT).into(), move |request| {
        Some(nat_pmp_answer(request, FAR_SIDE, &held))
    })
    .await;
    let only_udp = WantedPort { tcp: false, ..BOTH };
    let mut mapper = mapper(router, only_udp);
    let mapped = mapper.map().await.unwrap();
    assert_eq!(mapped.by, MappingProtocol::NatPmp);
    assert_eq!(mapped_to(&table), [(6881, "UDP", 6881)]);
    mapper.release().await;
    assert_eq!(mapped_to(&table), []);
}

#[tokio::test]
async fn a_far_side_that_nobody_outside_can_reach_is_not_believed() {
    for (last, far_side) in [
        (4, [192, 168, 1, 1]),
        (5, [127, 0, 0, 1]),
        (6, [239, 1, 1, 1]),
    ] {
        let (router, table) = ([127, 81, 0, last], Table::default());
        let held = Arc::clone(&table);
        answering((router, PORT).into(), move |request| {
            let is_pcp = request[0] == 2;
            is_pcp.then(|| pcp_answer(request, far_side.into(), None, &held))
        })
        .await;
        let mut mapper = mapper(router, BOTH);
        let (router, asker) = (mapper.router.unwrap(), Asker::Pcp(mapper.nonce));
        let error = mapper.map_by(&router, asker, &[6881]).await.unwrap_err();
        assert!(matches!(error, MappingError::Refused(_)), "{error}");
        mapper.release().await;
        assert_eq!(mapped_to(&table), [], "what is of no use is taken back");
    }
}

/// One request of HTTP: its first line, and its body.
async fn read_request(stream: &mut tokio::net::TcpStream) -> (String, String) {
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 2_048];
        let length = stream.read(&mut chunk).await.unwrap();
        text.extend(&chunk[..length]);
        let so_far = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else {
            assert!(length > 0, "no request");
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            let text = String::from_utf8_lossy(&text).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            return (head.lines().next().unwrap().to_owned(), body.to_owned());
        }
    }
}

fn element<'a>(body: &'a str, name: &str) -> &'a str {
    let (_, rest) = body.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0
}

/// Answers to HTTP at `at` as a gateway device does, whose leases have no end. Counts its requests.
async fn device(at: SocketAddr, control: &'static str, table: Table) -> Arc<Mutex<usize>> {
    let listener = TcpListener::bind(at).await.unwrap();
    let requests = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *counted.lock().unwrap() += 1;
            let (line, body) = read_request(&mut stream).await;
            let (status, reply) = if line.starts_with("GET /desc.xml ") {
                let kind = "urn:schemas-upnp-org:service:WANIPConnection:1";
                (
                    200,
                    format!(
                        "<root><service><serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service></root>"
                    ),
                )
            } else if body.contains("GetExternalIPAddress") {
                (
                    200,
                    format!("<NewExternalIPAddress>{FAR_SIDE}</NewExternalIPAddress>"),
                )
            } else {
                change(&body, &table)
            };
            let reply = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reply}",
                reply.len()
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    requests
}

fn change(body: &str, table: &Table) -> (u16, String) {
    let external = element(body, "NewExternalPort").parse().unwrap();
    let kind = match element(body, "NewProtocol") {
        "TCP" => "TCP",
        _ => "UDP",
    };
    let mut table = table.lock().unwrap();
    if body.contains("DeletePortMapping") {
        table.remove(&(external, kind));
    } else if element(body, "NewLeaseDuration") != "0" {
        return (500, "<errorCode>725</errorCode>".to_owned());
    } else if table.get(&(external, kind)) == Some(&ANOTHERS) {
        return (500, "<errorCode>718</errorCode>".to_owned());
    } else {
        assert_eq!(element(body, "NewInternalClient"), US.to_string());
        let internal = element(body, "NewInternalPort").parse().unwrap();
        table.insert((external, kind), internal);
    }
    (200, "<ok/>".to_owned())
}

fn found_at(place: String) -> impl FnMut(&[u8]) -> Option<Vec<u8>> {
    move |search| {
        assert!(search.starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
        Some(format!("HTTP/1.1 200 OK\r\nLOCATION: {place}\r\n\r\n").into_bytes())
    }
}

#[tokio::test]
async fn a_upnp_device_maps_ports_and_forgets_them() {
    let (router, table) = ([127, 81, 0, 7], Table::default());
    answering(
        (router, 1900).into(),
        found_at("http://127.81.0.7:5000/desc.xml".to_owned()),
    )
    .await;
    device((router, 5000).into(), "/control", Arc::clone(&table)).await;
    let mut mapper = mapper(router, BOTH);
    let mapped = mapper.map().await.unwrap();
    assert_eq!(mapped.by, MappingProtocol::Upnp);
    assert_eq!(mapped.address, SocketAddrV4::new(FAR_SIDE, 6881));
    assert_eq!(
        mapped_to(&table),
        [(6881, "TCP", 6881), (6881, "UDP", 6881)]
    );
    mapper.release().await;
    assert_eq!(mapped_to(&table), []);
}

#[tokio::test]
async fn a_port_that_is_another_machines_stays_its_own() {
    let (router, table) = ([127, 81, 0, 12], Table::default());
    answering(
        (router, 1900).into(),
        found_at("http://127.81.0.12:5000/desc.xml".to_owned()),
    )
    .await;
    device((router, 5000).into(), "/control", Arc::clone(&table)).await;
    for kind in ["TCP", "UDP"] {
        table.lock().unwrap().insert((6881, kind), ANOTHERS);
    }
    let mut mapper = mapper(router, BOTH);
    let port = mapper.map().await.unwrap().address.port();
    assert_ne!(port, 6881);
    mapper.release().await;
    assert_eq!(
        mapped_to(&table),
        [(6881, "TCP", ANOTHERS), (6881, "UDP", ANOTHERS)]
    );
}

#[tokio::test]
async fn who_stops_waiting_for_a_release_can_release_again() {
    let (router, table) = ([127, 81, 0, 13], Table::default());
    let held = Arc::clone(&table);
    answering((router, PORT).into(), move |request| {
        Some(pcp_answer(request, FAR_SIDE, None, &held))
    })
    .await;
    let mut mapper = mapper(router, BOTH);
    mapper.map().await.unwrap();
    // The requests are not on their way yet.
    tokio::select! {
        biased;
        () = mapper.release() => panic!("nobody can have answered"),
        () = std::future::ready(()) => {}
    }
    mapper.release().await;
    assert_eq!(mapped_to(&table), []);
}

#[tokio::test]
async fn a_description_elsewhere_is_not_fetched() {
    let (router, victim) = ([127, 81, 0, 8], [127, 81, 0, 9]);
    answering(
        (router, 1900).into(),
        found_at("http://127.81.0.9:5000/desc.xml".to_owned()),
    )
    .await;
    let requests = device((victim, 5000).into(), "/control", Table::default()).await;
    mapper(router, BOTH).map().await.unwrap_err();
    assert_eq!(*requests.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_description_that_names_a_control_elsewhere_is_not_obeyed() {
    let (router, victim) = ([127, 81, 0, 10], [127, 81, 0, 11]);
    answering(
        (router, 1900).into(),
        found_at("http://127.81.0.10:5000/desc.xml".to_owned()),
    )
    .await;
    device(
        (router, 5000).into(),
        "http://127.81.0.11:5000/control",
        Table::default(),
    )
    .await;
    let requests = device((victim, 5000).into(), "/control", Table::default()).await;
    mapper(router, BOTH).map().await.unwrap_err();
    assert_eq!(*requests.lock().unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_mapped_where_nobody_outside_could_come() {
    let transport = |binding: Binding, isolated: bool| {
        Transport::start(TransportConfig {
            binding,
            isolated,
            ..TransportConfig::default()
        })
        .unwrap()
    };
    let none = |transport: Transport, listening: &str| {
        let listening = listening.parse().unwrap();
        transport.port_mapper(listening, BOTH).is_none()
    };
    assert!(none(transport(Binding::Any, true), "0.0.0.0:6881"));
    assert!(none(transport(Binding::Any, false), "127.0.0.1:6881"));
    assert!(none(transport(Binding::Any, false), "[::]:6881"));
    let loopback = Binding::Address(IpAddr::V4(US));
    assert!(none(transport(loopback, false), "0.0.0.0:6881"));
    let mut over_loopback = transport(Binding::Interface("lo".to_owned()), false)
        .port_mapper("0.0.0.0:6881".parse().unwrap(), BOTH)
        .unwrap();
    let error = over_loopback.map().await.unwrap_err();
    assert!(matches!(error, MappingError::NoRouter(_)), "{error}");
}
