//! What torrents leave by. Each route is bound to an address of its own, so that whoever is called sees by which one it was.

use crate::support::{
    PATIENCE, Sample, add_file, all_are, change, into, list, make, node_of, only, resume, sample,
    until, words,
};
use shoal_engine::{Engine, EngineConfig, OWN_ROUTE, PeerTransports, PortMapping, RouteConfig};
use shoal_node::message::{
    Add, CarrierKind, ErrorKind, Reply, Request, Route, RouteRequest, RouteState, SetRoute, State,
};
use shoal_node::{Network, Node, NodeError, NodeSettings, has_own_route};
use shoal_store::Database;
use shoal_transport::TransportConfig;
use std::io::{ErrorKind as Io, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// As long as a dial that goes astray would take on loopback, many times over.
const WATCHED_FOR: Duration = Duration::from_millis(500);

/// A node as the command line starts it: an engine that opens nothing where the default route is stored.
async fn node(folder: &Path) -> Node {
    let database = Database::open(&folder.join("session.db")).await.unwrap();
    let own_route_said = !has_own_route(&database).await.unwrap();
    let isolated = TransportConfig {
        isolated: true,
        ..TransportConfig::default()
    };
    let listen = match own_route_said {
        true => vec![([127, 0, 0, 1], 0).into()],
        false => Vec::new(),
    };
    let engine = Engine::start(EngineConfig {
        transport: TransportConfig {
            listen,
            ..isolated.clone()
        },
        peers_over: PeerTransports::Tcp,
        workers: 1,
        ..EngineConfig::default()
    });
    let route = RouteConfig {
        transport: TransportConfig {
            listen: vec![([127, 0, 0, 1], 0).into()],
            ..isolated
        },
        peers_over: PeerTransports::Tcp,
        port_mapping: PortMapping::Never,
        dht: None,
    };
    let settings = NodeSettings {
        network: Network {
            route,
            ports: vec![0],
        },
        own_route_said,
        ..NodeSettings::default()
    };
    node_of(folder, engine.await.unwrap(), database, settings).await
}

async fn ask(node: &Node, request: RouteRequest) -> Result<Vec<Route>, NodeError> {
    match node.ask(Request::Route(request), None).await? {
        Reply::Routes { routes } => Ok(routes),
        other => panic!("{other:?}"),
    }
}

async fn set(node: &Node, name: &str, tell: impl FnOnce(&mut SetRoute)) -> Vec<Route> {
    let mut said = SetRoute {
        name: name.to_owned(),
        ..SetRoute::default()
    };
    tell(&mut said);
    ask(node, RouteRequest::Set(said)).await.unwrap()
}

/// Binds a route to 127.0.0.`last`.
async fn bind(node: &Node, name: &str, last: u8) -> Vec<Route> {
    let address = Ipv4Addr::new(127, 0, 0, last).to_string();
    set(node, name, |said| said.bind = Some(address)).await
}

async fn take(node: &Node, torrents: &str, route: &str) {
    let rules = words(&[("route", route)]);
    change(node, torrents, |change| change.rules = rules)
        .await
        .unwrap();
}

/// Somebody who is called, sees by whom, and says nothing.
struct Called {
    listener: TcpListener,
    address: SocketAddr,
}

impl Called {
    fn new() -> Called {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Called { listener, address }
    }

    fn poll(&self) -> Option<(TcpStream, u8)> {
        match self.listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(true).unwrap();
                match from.ip() {
                    std::net::IpAddr::V4(ip) => Some((stream, ip.octets()[3])),
                    other => panic!("{other}"),
                }
            }
            Err(error) if error.kind() == Io::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next call, which has to come from 127.0.0.`last`.
    async fn by(&self, last: u8) -> TcpStream {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some((stream, from)) = self.poll() {
                assert_eq!(from, last, "somebody came another way");
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("nobody came from 127.0.0.{last}");
    }

    async fn by_nobody(&self) {
        tokio::time::sleep(WATCHED_FOR).await;
        let call = self.poll();
        assert!(call.is_none(), "somebody came: {call:?}");
    }
}

/// Whether the other side has closed it by this moment.
fn has_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != Io::WouldBlock,
        }
    }
}

fn told(folder: &Path, called: &Called) -> Add {
    Add {
        peers: vec![called.address],
        ..into(folder)
    }
}

#[tokio::test]
async fn a_torrent_leaves_by_one_route_at_every_moment_whatever_is_said_of_it() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sample, called) = (sample("word", 100_000), Called::new());
    let ours = node(state.path()).await;
    bind(&ours, "two", 2).await;
    bind(&ours, "three", 3).await;
    let (category, tag) = (CarrierKind::Category, CarrierKind::Tag);
    make(&ours, category, "films", &[]).await.unwrap();
    make(&ours, tag, "far", &[("route", "three")])
        .await
        .unwrap();
    let add = Add {
        category: Some("films".to_owned()),
        ..told(target.path(), &called)
    };
    sample.add_to(&ours, add).await.unwrap();
    let mut before = called.by(1).await;
    // What the session says comes last, a tag before it, the category before that, and the torrent itself first.
    let session = CarrierKind::Session;
    make(&ours, session, "", &[("route", "two")]).await.unwrap();
    let mut call = called.by(2).await;
    assert!(has_ended(&mut before));
    before = call;
    let tags = ["far".to_owned()].into();
    change(&ours, "word", |change| change.tags_too = tags)
        .await
        .unwrap();
    call = called.by(3).await;
    assert!(has_ended(&mut before));
    before = call;
    make(&ours, category, "films", &[("route", "two")])
        .await
        .unwrap();
    call = called.by(2).await;
    assert!(has_ended(&mut before));
    before = call;
    take(&ours, "word", "three").await;
    call = called.by(3).await;
    assert!(has_ended(&mut before));
    before = call;
    take(&ours, "word", "none").await;
    call = called.by(1).await;
    assert!(has_ended(&mut before));
    before = call;
    take(&ours, "word", "inherit").await;
    call = called.by(2).await;
    assert!(has_ended(&mut before));
    before = call;
    // What the route is changes: nothing of what it was is left when that is answered.
    let routes = bind(&ours, "two", 4).await;
    assert!(has_ended(&mut before));
    let two = routes.iter().find(|route| route.name == "two").unwrap();
    assert_eq!((two.state, two.torrents), (RouteState::Open, 1));
    assert_eq!(two.bind.as_deref(), Some("127.0.0.4"));
    before = called.by(4).await;
    // It is removed: the torrent takes no other, and goes on when there is one of its name.
    let name = "two".to_owned();
    ask(&ours, RouteRequest::Remove { name }).await.unwrap();
    assert!(has_ended(&mut before));
    let waits = until(&ours, State::NoRoute).await;
    assert!(waits.message.unwrap().contains("shoal route set two"));
    resume(&ours, "word").await;
    until(&ours, State::NoRoute).await;
    called.by_nobody().await;
    bind(&ours, "two", 5).await;
    before = called.by(5).await;
    until(&ours, State::Downloading).await;
    // The engine's own route is one as others are.
    take(&ours, "word", "none").await;
    call = called.by(1).await;
    assert!(has_ended(&mut before));
    before = call;
    bind(&ours, OWN_ROUTE, 6).await;
    assert!(has_ended(&mut before));
    called.by(6).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn routes_are_there_after_the_next_start_before_the_first_torrent() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (sample("one", 100_000), sample("other", 100_001));
    let (first, second) = (Called::new(), Called::new());
    let ours = node(state.path()).await;
    bind(&ours, OWN_ROUTE, 2).await;
    bind(&ours, "three", 3).await;
    let paused = |called: &Called| Add {
        paused: Some(true),
        trackers: vec![format!("http://{}/announce", called.address)],
        ..into(target.path())
    };
    one.add_to(&ours, paused(&first)).await.unwrap();
    other.add_to(&ours, paused(&second)).await.unwrap();
    take(&ours, "other", "three").await;
    resume(&ours, "all").await;
    first.by(2).await;
    second.by(3).await;
    ours.stop(PATIENCE).await;
    while first.poll().is_some() || second.poll().is_some() {}
    let ours = node(state.path()).await;
    first.by(2).await;
    second.by(3).await;
    let routes = ask(&ours, RouteRequest::List {}).await.unwrap();
    let listening = routes
        .iter()
        .map(|route| route.listening[0].ip().to_string());
    assert_eq!(listening.collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3"]);
    // An address that this machine has not: its torrents wait, and others do not.
    set(&ours, "three", |said| {
        said.bind = Some("192.0.2.1".to_owned());
    })
    .await;
    ours.stop(PATIENCE).await;
    while first.poll().is_some() || second.poll().is_some() {}
    let ours = node(state.path()).await;
    first.by(2).await;
    all_are(&ours, &[State::Downloading, State::NoRoute]).await;
    let waits = list(&ours, &["state:no_route"]).await.unwrap();
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].name, "other");
    assert!(waits[0].message.as_ref().unwrap().contains("192.0.2.1"));
    second.by_nobody().await;
    bind(&ours, "three", 3).await;
    second.by(3).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_waited_for_and_is_nowhere_else() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sample, called, proxy) = (sample("word", 100_000), Called::new(), Called::new());
    let ours = node(state.path()).await;
    let file = target.path().join("password");
    let url = format!("socks5://me@{}", proxy.address);
    let routes = set(&ours, "tunnel", |said| {
        said.proxy = Some(url.clone());
        said.password_file = Some(file.to_str().unwrap().to_owned());
    })
    .await;
    let tunnel = routes.iter().find(|route| route.name == "tunnel").unwrap();
    assert_eq!(tunnel.state, RouteState::Shut);
    assert!(tunnel.message.as_ref().unwrap().contains("password"));
    // Not even the name is shown.
    assert_eq!(tunnel.proxy, Some(format!("socks5://{}", proxy.address)));
    let add = Add {
        rules: words(&[("route", "tunnel")]),
        ..told(target.path(), &called)
    };
    sample.add_to(&ours, add).await.unwrap();
    let waits = until(&ours, State::NoRoute).await;
    assert!(waits.message.unwrap().contains("password"));
    called.by_nobody().await;
    assert!(proxy.poll().is_none());
    std::fs::write(&file, "a secret word\n").unwrap();
    let mut call = proxy.by(1).await;
    call.set_nonblocking(false).unwrap();
    call.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut methods = [0; 4];
    call.read_exact(&mut methods).unwrap();
    assert_eq!(methods, [5, 2, 0, 2]);
    call.write_all(&[5, 2]).unwrap();
    let mut login = [0; 18];
    call.read_exact(&mut login).unwrap();
    assert_eq!(&login, b"\x01\x02me\x0da secret word");
    assert!(called.poll().is_none());
    let shown = format!("{:?}", ask(&ours, RouteRequest::List {}).await.unwrap());
    assert!(!shown.contains("secret"));
    ours.stop(PATIENCE).await;
    for entry in std::fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
            assert!(!has(b"secret word"), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_search_and_a_torrent_file_behind_a_url_come_by_the_route_of_what_they_are_for() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (called, server) = (Called::new(), Called::new());
    let ours = node(state.path()).await;
    bind(&ours, "two", 2).await;
    bind(&ours, "three", 3).await;
    let route = |name: &str| words(&[("route", name)]);
    let magnet = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}", "0a".repeat(20))),
        rules: route("two"),
        ..told(target.path(), &called)
    };
    add_file(&ours, magnet, None).await.unwrap();
    let mut before = called.by(2).await;
    assert_eq!(only(&ours).await.state, State::Searching);
    take(&ours, "all", "three").await;
    let call = called.by(3).await;
    assert!(has_ended(&mut before));
    before = call;
    bind(&ours, "three", 4).await;
    assert!(has_ended(&mut before));
    // Whoever is sent away comes again.
    before = called.by(4).await;
    set(&ours, "three", |said| {
        said.bind = Some("192.0.2.1".to_owned());
    })
    .await;
    assert!(has_ended(&mut before));
    let waits = until(&ours, State::NoRoute).await;
    assert!(waits.message.unwrap().contains("192.0.2.1"));
    called.by_nobody().await;

    let category = CarrierKind::Category;
    make(&ours, category, "films", &[("route", "two")])
        .await
        .unwrap();
    let Sample { torrent, .. } = sample("word", 1_000);
    let url = || Add {
        url: Some(format!("http://{}/word.torrent", server.address)),
        category: Some("films".to_owned()),
        paused: Some(true),
        ..into(target.path())
    };
    let serving = async {
        let mut call = server.by(2).await;
        call.set_nonblocking(false).unwrap();
        let length = torrent.len();
        write!(call, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").unwrap();
        call.write_all(&torrent).unwrap();
        call
    };
    let (added, _call) = tokio::join!(add_file(&ours, url(), None), serving);
    assert_eq!(added.unwrap()[0].name, "word");
    // By a way that is not there it is not fetched.
    let name = "two".to_owned();
    ask(&ours, RouteRequest::Remove { name }).await.unwrap();
    let refused = add_file(&ours, url(), None).await.unwrap_err();
    assert!(refused.to_string().contains("route"), "{refused}");
    server.by_nobody().await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_names_no_route_is_refused_and_the_default_one_stays() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = node(state.path()).await;
    let sample = sample("word", 1_000);
    let nowhere = || words(&[("route", "nowhere")]);
    let add = Add {
        rules: nowhere(),
        ..into(target.path())
    };
    let refused = sample.add_to(&ours, add).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    sample.add_to(&ours, into(target.path())).await.unwrap();
    let refused = change(&ours, "word", |change| change.rules = nowhere()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = make(&ours, CarrierKind::Tag, "x", &[("route", "nowhere")]).await;
    assert!(refused.unwrap_err().to_string().contains("shoal route set"));
    for (name, kind) in [(OWN_ROUTE, ErrorKind::Usage), ("x", ErrorKind::NotFound)] {
        let name = name.to_owned();
        let refused = ask(&ours, RouteRequest::Remove { name }).await;
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
    for said in [
        SetRoute {
            name: "a b".to_owned(),
            bind: Some("any".to_owned()),
            ..SetRoute::default()
        },
        SetRoute {
            name: "x".to_owned(),
            proxy: Some("socks5://me:word@127.0.0.1:1".to_owned()),
            ..SetRoute::default()
        },
    ] {
        let refused = ask(&ours, RouteRequest::Set(said)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
        assert!(!refused.to_string().contains("word@"), "{refused}");
    }
    let routes = ask(&ours, RouteRequest::List {}).await.unwrap();
    assert_eq!(routes.len(), 1);
    assert_eq!(
        (routes[0].name.as_str(), routes[0].torrents),
        (OWN_ROUTE, 1)
    );
    let interfaces = Request::Route(RouteRequest::Interfaces {});
    let Reply::Interfaces { interfaces } = ours.ask(interfaces, None).await.unwrap() else {
        panic!("something else was asked");
    };
    assert!(interfaces.iter().any(|interface| interface.name == "lo"));
    ours.stop(PATIENCE).await;
}
