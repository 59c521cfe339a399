//! What holds at which hours.

use crate::support::{
    self, PATIENCE, all_are, ask, downloads, into, list, make, named, node, sample,
};
use shoal_node::message::{
    CarrierKind, Holds, Now, Reply, Request, Schedule, ScheduleRequest, Span, State,
};
use shoal_node::{Node, NodeError};

async fn schedule(node: &Node, request: ScheduleRequest) -> Result<Schedule, NodeError> {
    match node.ask(Request::Schedule(request), None).await? {
        Reply::Schedule(schedule) => Ok(schedule),
        other => panic!("{other:?}"),
    }
}

/// All of every day, so that no hour of the test is another one.
fn always(holds: Holds) -> Span {
    Span {
        times: "00:00-24:00".to_owned(),
        holds,
        down: None,
        up: None,
    }
}

#[tokio::test]
async fn the_rates_of_the_hour_hold_and_last_until_a_person_wants_others() {
    let state = tempfile::tempdir().unwrap();
    let (node, _) = node(state.path()).await;
    let rates = [
        ("down", "1000"),
        ("up", "2000"),
        ("alternative_down", "100"),
    ];
    let session = make(&node, CarrierKind::Session, "", &rates).await.unwrap();
    assert_eq!(session[0].rules["alternative_down"], "100");
    let held = |schedule: &Schedule| {
        let (down, up) = (schedule.down_bytes_per_s, schedule.up_bytes_per_s);
        (schedule.holds, down.unwrap_or(0), up.unwrap_or(0))
    };
    let span = always(Holds::Alternative);
    let added = schedule(&node, ScheduleRequest::Add { span })
        .await
        .unwrap();
    assert_eq!(held(&added), (Holds::Alternative, 100, 2000));
    let own = Span {
        up: Some("none".to_owned()),
        times: "mon-sun 0:00-24:00".to_owned(),
        ..always(Holds::Rates)
    };
    let added = schedule(&node, ScheduleRequest::Add { span: own })
        .await
        .unwrap();
    assert_eq!(held(&added), (Holds::Rates, 1000, 0));
    assert_eq!(added.spans[1].times, "00:00-24:00");
    node.stop(PATIENCE).await;
    drop(node);

    let (node, _) = support::node(state.path()).await;
    let kept = schedule(&node, ScheduleRequest::List {}).await.unwrap();
    assert_eq!(kept, added);
    let now = Now::Normal;
    let normal = schedule(&node, ScheduleRequest::Now { now }).await.unwrap();
    assert_eq!(held(&normal), (Holds::Normal, 1000, 2000));
    let now = Now::Auto;
    schedule(&node, ScheduleRequest::Now { now }).await.unwrap();
    let spans = vec![2];
    let left = schedule(&node, ScheduleRequest::Remove { spans })
        .await
        .unwrap();
    assert_eq!(held(&left), (Holds::Alternative, 100, 2000));
    // Another alternative rate holds at once.
    let rates = [("alternative_down", "50"), ("alternative_up", "60")];
    make(&node, CarrierKind::Session, "", &rates).await.unwrap();
    let left = schedule(&node, ScheduleRequest::List {}).await.unwrap();
    assert_eq!(held(&left), (Holds::Alternative, 50, 60));
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn in_an_hour_without_traffic_nothing_runs_whoever_forces_it() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = node(state.path()).await;
    downloads(&node, folder.path(), 2).await;
    let torrents = named("2");
    ask(&node, Request::Start { torrents }).await.unwrap();
    all_are(&node, &[State::Downloading; 2]).await;
    let span = always(Holds::Pause);
    schedule(&node, ScheduleRequest::Add { span })
        .await
        .unwrap();
    all_are(&node, &[State::Queued; 2]).await;
    let shown = list(&node, &["1"]).await.unwrap();
    let why = shown[0].message.as_ref().unwrap();
    assert!(why.contains("schedule"), "{why}");
    let late = sample("late", 9_000);
    late.add_to(&node, into(folder.path())).await.unwrap();
    node.stop(PATIENCE).await;
    drop(node);

    let (node, _) = support::node(state.path()).await;
    all_are(&node, &[State::Queued; 3]).await;
    let now = Now::Normal;
    schedule(&node, ScheduleRequest::Now { now }).await.unwrap();
    all_are(&node, &[State::Downloading; 3]).await;
    assert!(list(&node, &["2"]).await.unwrap()[0].forced);
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_no_hour_and_no_rate_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let (node, _) = node(state.path()).await;
    for (times, down, about) in [
        ("8-18", None, "time of day"),
        ("funday 08:00-18:00", None, "mon"),
        ("08:00-08:00", None, "00:00-24:00"),
        ("08:00-18:00", Some("fast"), "down"),
    ] {
        let span = Span {
            times: times.to_owned(),
            holds: down.map_or(Holds::Alternative, |_| Holds::Rates),
            down: down.map(str::to_owned),
            up: None,
        };
        let refused = schedule(&node, ScheduleRequest::Add { span })
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(about), "{refused}");
    }
    for wrong in [vec![0], vec![1]] {
        let refused = schedule(&node, ScheduleRequest::Remove { spans: wrong })
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("no span"), "{refused}");
    }
    for rates in [[("alternative_down", "0")], [("alternative_folder", "/")]] {
        let refused = make(&node, CarrierKind::Session, "", &rates)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(rates[0].0), "{refused}");
    }
    let refused = make(
        &node,
        CarrierKind::Category,
        "a",
        &[("alternative_up", "1")],
    )
    .await;
    assert!(refused.is_err());
    let empty = schedule(&node, ScheduleRequest::List {}).await.unwrap();
    assert!(empty.spans.is_empty() && empty.until.is_none());
    node.stop(PATIENCE).await;
}
