//! Lists of addresses that peers must not have.

use crate::support::{
    self, PATIENCE, Sample, ask, into, node, node_with, only, pause, resume, sample, until,
};
use crate::tracker::{heard, tracker};
use shoal_node::message::{AddressList, FilterRequest, Reply, Request, State, TrackerRequest};
use shoal_node::{Node, NodeError};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

async fn filter(node: &Node, request: FilterRequest) -> Result<Vec<AddressList>, NodeError> {
    match node.ask(Request::Filter(request), None).await? {
        Reply::AddressLists { lists } => Ok(lists),
        other => panic!("{other:?}"),
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn seed(node: &Node, sample: &Sample) {
    sample
        .add_to(node, into(sample.folder.path()))
        .await
        .unwrap();
    until(node, State::Seeding).await;
}

/// Waits until the only torrent has so many peers.
async fn peers(node: &Node, wanted: usize) {
    let waiting = async {
        while only(node).await.peers != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn who_is_on_a_list_is_neither_called_nor_let_in_and_is_sent_away() {
    let (here, there, folder) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let sample = sample("word", 40_000);
    let (one, at): (Node, SocketAddr) = node(here.path()).await;
    seed(&one, &sample).await;
    let list = folder.path().join("level1.p2p");
    fs::write(&list, "Us:127.0.0.0-127.255.255.255\n").unwrap();
    let lists = filter(&one, FilterRequest::Add { path: text(&list) })
        .await
        .unwrap();
    assert_eq!((lists.len(), lists[0].ranges, lists[0].bad), (1, 1, 0));

    let (other, _) = node(there.path()).await;
    let mut add = into(folder.path());
    add.peers = vec![at];
    sample.add_to(&other, add).await.unwrap();
    until(&other, State::Downloading).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(only(&other).await.verified_bytes, 0, "nobody lets it in");
    filter(
        &one,
        FilterRequest::Remove {
            paths: vec![text(&list)],
        },
    )
    .await
    .unwrap();
    pause(&other, "all").await;
    until(&other, State::Paused).await;
    resume(&other, "all").await;
    until(&other, State::Seeding).await;
    one.stop(PATIENCE).await;
    other.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_connection_ends_when_its_address_comes_onto_a_list() {
    let (here, there, folder) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let sample = sample("word", 400_000);
    let (one, at) = node(here.path()).await;
    seed(&one, &sample).await;
    let (other, _) = node(there.path()).await;
    let mut add = into(folder.path());
    add.peers = vec![at];
    add.rules = [("down".to_owned(), "1000".to_owned())].into();
    sample.add_to(&other, add).await.unwrap();
    peers(&one, 1).await;
    let list = folder.path().join("list.cidr");
    fs::write(&list, "127.0.0.0/8\n").unwrap();
    filter(&other, FilterRequest::Add { path: text(&list) })
        .await
        .unwrap();
    peers(&one, 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(only(&one).await.peers, 0, "nor does it call");
    one.stop(PATIENCE).await;
    other.stop(PATIENCE).await;
}

#[tokio::test]
async fn lists_hold_for_trackers_where_that_is_set() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (url, announces) = tracker().await;
    let (ours, _) = node_with(state.path(), &[("filter.trackers", "on")]).await;
    let list = folder.path().join("list.cidr");
    fs::write(&list, "127.0.0.0/8\n").unwrap();
    let path = text(&list);
    filter(&ours, FilterRequest::Add { path }).await.unwrap();
    let sample = sample("word", 40_000);
    let mut add = into(sample.folder.path());
    add.trackers = vec![url.clone()];
    sample.add_to(&ours, add).await.unwrap();
    let refused = async {
        loop {
            let request = TrackerRequest::List {
                torrents: support::named("word"),
            };
            let Reply::Trackers { trackers } =
                ours.ask(Request::Tracker(request), None).await.unwrap()
            else {
                panic!("no trackers");
            };
            let message = trackers[0].message.clone().unwrap_or_default();
            if message.contains("an address list forbids it") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(announces.try_recv().is_err(), "it heard of us");
    support::set(&ours, &[("filter.trackers", "off")])
        .await
        .unwrap();
    let torrents = support::named("word");
    ask(&ours, Request::Announce { torrents }).await.unwrap();
    heard(&announces, "event=started").await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn lists_of_every_form_are_read_again_and_tell_which_line_forbids() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = node(state.path()).await;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.p2p"), "A company:1.2.3.0-1.2.3.255\nnonsense\n").unwrap();
    fs::write(
        path("b.dat"),
        "005.006.007.000 - 005.006.007.255 , 000 , B\n",
    )
    .unwrap();
    fs::write(path("c.cidr"), "# mine\n2001:db8::/32\n").unwrap();
    for name in ["a.p2p", "b.dat", "c.cidr"] {
        let path = text(&path(name));
        filter(&node, FilterRequest::Add { path }).await.unwrap();
    }
    let forbidden = async |node: &Node, address: &str| {
        let address = address.parse().unwrap();
        let request = Request::Filter(FilterRequest::Test { address });
        match node.ask(request, None).await.unwrap() {
            Reply::Address(tested) => tested.forbidden.map(|forbidden| {
                let name = Path::new(&forbidden.path).file_name().unwrap().to_owned();
                (name.into_string().unwrap(), forbidden.line)
            }),
            other => panic!("{other:?}"),
        }
    };
    let by = |name: &str, line: u32| Some((name.to_owned(), line));
    assert_eq!(forbidden(&node, "1.2.3.4").await, by("a.p2p", 1));
    assert_eq!(forbidden(&node, "5.6.7.8").await, by("b.dat", 1));
    assert_eq!(forbidden(&node, "2001:db8::7").await, by("c.cidr", 2));
    assert_eq!(forbidden(&node, "::ffff:1.2.4.4").await, None);
    let lists = filter(&node, FilterRequest::List {}).await.unwrap();
    assert_eq!((lists[0].bad, lists[0].first_bad[0].line), (1, 2));
    node.stop(PATIENCE).await;
    drop(node);

    // What has changed is read at the next start or when a person wants; what cannot be read holds as it was.
    fs::write(path("a.p2p"), "1.2.4.0/24\n").unwrap();
    let (node, _) = support::node(state.path()).await;
    assert_eq!(forbidden(&node, "1.2.3.4").await, None);
    assert_eq!(forbidden(&node, "1.2.4.4").await, by("a.p2p", 1));
    fs::remove_file(path("a.p2p")).unwrap();
    let lists = filter(&node, FilterRequest::Reload {}).await.unwrap();
    let trouble = lists[0].message.as_ref().unwrap();
    assert!(trouble.contains("a.p2p"), "{trouble}");
    assert_eq!(forbidden(&node, "1.2.4.4").await, by("a.p2p", 1));
    fs::write(path("a.p2p"), "1.2.5.0/24\n").unwrap();
    let lists = filter(&node, FilterRequest::Reload {}).await.unwrap();
    assert_eq!(lists[0].message, None);
    assert_eq!(forbidden(&node, "1.2.5.5").await, by("a.p2p", 1));
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_no_list_is_refused_and_leaves_nothing_behind() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = node(state.path()).await;
    let file = folder.path().join("letter.txt");
    fs::write(&file, "Dear Ada,\nhow are you?\n").unwrap();
    for (path, about) in [
        ("list.p2p".to_owned(), "from the root"),
        (text(&folder.path().join("absent")), "cannot read"),
        (text(folder.path()), "no file"),
        (text(&file), "line 1"),
    ] {
        let refused = filter(&node, FilterRequest::Add { path })
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(about), "{refused}");
    }
    let paths = vec!["/absent".to_owned()];
    let refused = filter(&node, FilterRequest::Remove { paths })
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("shoal filter"), "{refused}");
    assert!(
        filter(&node, FilterRequest::List {})
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        ask(
            &node,
            Request::List {
                torrents: Vec::new()
            }
        )
        .await
        .unwrap()
        .is_empty()
    );
    node.stop(PATIENCE).await;
}
