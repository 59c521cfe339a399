//! Trackers of torrents, over real requests.

use crate::support::{
    PATIENCE, all_are, ask, into, named, node, node_of, node_with, only, sample, until,
};
use shoal_engine::{AnnounceRules, Engine, EngineConfig};
use shoal_node::message::{
    Add, ErrorKind, Reply, Request, State, Tracker, TrackerRequest, TrackerState,
};
use shoal_node::{Node, NodeError, NodeSettings};
use shoal_store::Database;
use shoal_transport::TransportConfig;
use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A tracker that knows nobody: its URL, and the query of each announce.
pub(crate) async fn tracker() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, announces) = mpsc::channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let body = "d8:completei5e10:incompletei7e8:intervali1800e12:min intervali0e5:peers0:e";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()).await);
            drop(heard.send(line));
        }
    });
    (format!("http://{address}/secret/announce"), announces)
}

async fn tell(node: &Node, request: TrackerRequest) -> Result<Vec<Tracker>, NodeError> {
    match node.ask(Request::Tracker(request), None).await? {
        Reply::Trackers { trackers } => Ok(trackers),
        other => panic!("{other:?}"),
    }
}

async fn shown(node: &Node) -> Vec<(usize, String)> {
    let torrents = named("word");
    let all = tell(node, TrackerRequest::List { torrents }).await.unwrap();
    all.into_iter().map(|one| (one.tier, one.url)).collect()
}

fn add(urls: &[&str], tier: Option<usize>) -> TrackerRequest {
    TrackerRequest::Add {
        torrents: named("word"),
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        tier,
    }
}

fn set(url: &str, to: Option<&str>, tier: Option<usize>) -> TrackerRequest {
    TrackerRequest::Set {
        torrents: named("word"),
        url: url.to_owned(),
        to: to.map(str::to_owned),
        tier,
    }
}

/// Waits for an announce with this in it.
pub(crate) async fn heard(announces: &mpsc::Receiver<String>, what: &str) {
    let waiting = async {
        loop {
            match announces.try_recv() {
                Ok(line) if line.contains(what) => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("no announce with {what}"));
}

/// Waits until this one works and hears of us again within so many seconds.
async fn planned(node: &Node, url: &str, seconds: RangeInclusive<u64>) -> Tracker {
    let waiting = async {
        loop {
            let torrents = named("word");
            let all = tell(node, TrackerRequest::List { torrents }).await.unwrap();
            let found = all.into_iter().find(|one| one.url == url).unwrap();
            let next = found.next_announce_s.unwrap_or(u64::MAX);
            if found.state == TrackerState::Working && seconds.contains(&next) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test]
async fn trackers_come_change_and_go_while_it_runs_and_stay_after_the_next_start() {
    let (first, first_heard) = tracker().await;
    let (second, second_heard) = tracker().await;
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node_with(state.path(), &[("add.trackers", "udp://127.0.0.1:9/")]).await;
    let add_first = Add {
        trackers: vec![first.clone()],
        ..into(sample.folder.path())
    };
    sample.add_to(&ours, add_first).await.unwrap();
    until(&ours, State::Seeding).await;
    heard(&first_heard, "event=started").await;
    let everywhere = "udp://127.0.0.1:9/".to_owned();
    assert_eq!(
        shown(&ours).await,
        [(1, first.clone()), (2, everywhere.clone())]
    );

    // While the first tier answers, the next one is not asked.
    tell(&ours, add(&[&second], None)).await.unwrap();
    let gone = TrackerRequest::Remove {
        torrents: named("word"),
        urls: vec![first.clone()],
    };
    tell(&ours, set(&second, None, Some(1))).await.unwrap();
    tell(&ours, gone).await.unwrap();
    heard(&first_heard, "event=stopped").await;
    heard(&second_heard, "event=started").await;
    let working = planned(&ours, &second, 1_000..=1_800).await;
    assert_eq!((working.seeds, working.leeches), (Some(5), Some(7)));
    let announce = TrackerRequest::Announce {
        torrents: named("word"),
        url: second.clone(),
    };
    ours.ask(Request::Tracker(announce), None).await.unwrap();
    // As soon as it lets us.
    planned(&ours, &second, 0..=999).await;

    let elsewhere = "udp://127.0.0.1:10/";
    let moved = set(&everywhere, Some(elsewhere), Some(9));
    tell(&ours, moved).await.unwrap();
    let left = [(1, second.clone()), (2, elsewhere.to_owned())];
    assert_eq!(shown(&ours).await, left);
    ours.stop(PATIENCE).await;

    // What the settings say now is not what this torrent was told.
    let (ours, _) = node_with(state.path(), &[("add.trackers", "udp://127.0.0.1:11/")]).await;
    heard(&second_heard, "event=started").await;
    assert_eq!(shown(&ours).await, left);
    assert!(
        first_heard
            .try_iter()
            .all(|line| !line.contains("event=started"))
    );
    assert_eq!(only(&ours).await.info_hash.len(), 40);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_no_tracker_is_refused_without_saying_what_it_is() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    let paused = Add {
        paused: Some(true),
        ..into(sample.folder.path())
    };
    sample.add_to(&ours, paused).await.unwrap();
    let long = format!("http://secret.example/{}", "x".repeat(5_000));
    let many: Vec<String> = (0..101)
        .map(|one| format!("udp://a.example:1/{one}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let remove = TrackerRequest::Remove {
        torrents: named("word"),
        urls: named("http://secret.example/"),
    };
    for (wrong, words) in [
        (add(&["secret"], None), "https://tracker.example"),
        (
            add(&["ftp://secret.example/"], None),
            "https://tracker.example",
        ),
        (add(&[&long], None), "https://tracker.example"),
        (add(&many, Some(1)), "100 trackers"),
        (add(&["http://secret.example/"], Some(0)), "from 1"),
        (
            set("http://secret.example/", None, Some(1)),
            "shoal tracker list",
        ),
        (remove, "shoal tracker list"),
    ] {
        assert!(!format!("{wrong:?}").contains("secret"));
        let refused = tell(&ours, wrong).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
        let message = refused.to_string();
        assert!(
            message.contains(words) && !message.contains("secret"),
            "{message}"
        );
    }
    let urls = [
        "udp://a.example:1/",
        "udp://b.example:1/",
        "udp://a.example:1/",
    ];
    let told = tell(&ours, add(&urls, None)).await.unwrap();
    let states: Vec<TrackerState> = told.iter().map(|tracker| tracker.state).collect();
    assert_eq!(states, [TrackerState::Idle, TrackerState::Idle]);
    let twice = tell(&ours, set(urls[0], Some(urls[1]), None)).await;
    assert!(twice.unwrap_err().to_string().contains("there already"));
    assert_eq!(shown(&ours).await.len(), 2);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_magnet_link_is_looked_for_with_the_trackers_that_it_is_told() {
    let (url, announces) = tracker().await;
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    let link = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}&dn=word", "0a".repeat(20))),
        ..into(target.path())
    };
    let added = ask(&ours, Request::Add(Box::new(link))).await.unwrap();
    assert_eq!(added[0].name, "word");
    all_are(&ours, &[State::Searching]).await;
    tell(&ours, add(&[&url], None)).await.unwrap();
    heard(&announces, "info_hash=").await;
    assert_eq!(shown(&ours).await, [(1, url)]);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn trackers_are_told_what_was_chosen_and_as_many_as_was_chosen() {
    let mut trackers = Vec::new();
    for _ in 0..4 {
        trackers.push(tracker().await);
    }
    let url = |at: usize| trackers[at].0.clone();
    let (all, first) = (true, false);
    for (name, all_trackers, all_tiers) in [("a", all, first), ("b", first, all)] {
        let (sample, state) = (sample(name, 50_000), tempfile::tempdir().unwrap());
        let engine = Engine::start(EngineConfig {
            transport: TransportConfig {
                listen: vec![([127, 0, 0, 1], 0).into()],
                isolated: true,
                ..TransportConfig::default()
            },
            announces: AnnounceRules {
                all_trackers,
                all_tiers,
                address: Some([192, 0, 2, 1].into()),
                port: Some(4_444),
            },
            workers: 1,
            ..EngineConfig::default()
        });
        let engine = engine.await.unwrap();
        let database = Database::open(&state.path().join("session.db")).await;
        let database = database.unwrap();
        let ours = node_of(state.path(), engine, database, NodeSettings::default()).await;
        let paused = Add {
            paused: Some(true),
            ..into(sample.folder.path())
        };
        sample.add_to(&ours, paused).await.unwrap();
        let add = |urls: Vec<String>, tier| TrackerRequest::Add {
            torrents: named(name),
            urls,
            tier: Some(tier),
        };
        tell(&ours, add(vec![url(0), url(1)], 1)).await.unwrap();
        tell(&ours, add(vec![url(2), url(3)], 2)).await.unwrap();
        crate::support::resume(&ours, name).await;
        until(&ours, State::Seeding).await;
        let mut asked = [false; 4];
        let wanted = 2;
        let waiting = async {
            while asked.iter().filter(|asked| **asked).count() < wanted {
                for (asked, (_, announces)) in asked.iter_mut().zip(&trackers) {
                    if let Ok(line) = announces.try_recv() {
                        assert!(line.contains("port=4444"), "{line}");
                        assert!(line.contains("&ip=192.0.2.1"), "{line}");
                        *asked = true;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        // Others hear of it where one does not answer, which all do.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (asked, (_, announces)) in asked.iter_mut().zip(&trackers) {
            *asked |= announces.try_iter().any(|line| line.contains("started"));
        }
        let tiers = [&asked[..2], &asked[2..]];
        let of_tier = tiers.map(|tier| tier.iter().filter(|asked| **asked).count());
        match all_trackers {
            true => assert_eq!(of_tier, [2, 0]),
            false => assert_eq!(of_tier, [1, 1]),
        }
        ours.stop(PATIENCE).await;
        for (_, announces) in &trackers {
            announces.try_iter().for_each(drop);
        }
    }
}
