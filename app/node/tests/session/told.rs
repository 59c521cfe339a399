//! What a person tells of torrents and of the session.

use crate::support::{
    PATIENCE, all_are, ask, carriers, change, downloads, into, list, make, named, node, only,
    resume, sample, set, until, words,
};
use shoal_node::message::{Add, Assignment, CarrierKind, ErrorKind, Fate, Request, Shift, State};
use std::time::Duration;

#[tokio::test]
async fn settings_hold_at_once_and_after_the_next_start() {
    use State::{Downloading, Queued};
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    set(&ours, &[("queue.downloads", "1")]).await.unwrap();
    downloads(&ours, target.path(), 3).await;
    all_are(&ours, &[Downloading, Queued, Queued]).await;
    set(&ours, &[("queue.downloads", "2")]).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    let wrong = set(&ours, &[("queue.downloads", "3"), ("queue.dance", "1")]).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Usage);
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    set(&ours, &[("queue.enabled", "off")]).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Downloading]).await;
    let reset = |key: &str| Assignment::Reset {
        key: key.to_owned(),
    };
    let assignments = vec![reset("queue.enabled"), reset("queue.downloads")];
    ours.ask(Request::Set { assignments }, None).await.unwrap();
    set(&ours, &[("queue.torrents", "1")]).await.unwrap();
    all_are(&ours, &[Downloading, Queued, Queued]).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn torrents_keep_their_places_in_the_queue_and_those_that_are_forced_need_none() {
    use State::{Downloading, Paused, Queued};
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    set(&ours, &[("queue.downloads", "1"), ("add.top", "on")])
        .await
        .unwrap();
    downloads(&ours, target.path(), 3).await;
    // The last one came before those that waited.
    all_are(&ours, &[Queued, Queued, Downloading]).await;
    let shift = async |name: &str, to| {
        let torrents = named(name);
        ask(&ours, Request::Queue { torrents, to }).await.unwrap()
    };
    assert_eq!(shift("word-1", Shift::Up).await[0].position, Some(2));
    shift("word-3,word-1", Shift::Bottom).await;
    all_are(&ours, &[Queued, Downloading, Queued]).await;
    let torrents = named("word-1");
    ask(&ours, Request::Start { torrents }).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    let listed = list(&ours, &[]).await.unwrap();
    let positions: Vec<Option<usize>> = listed.iter().map(|torrent| torrent.position).collect();
    assert_eq!(positions, [Some(3), Some(1), Some(2)]);
    assert_eq!(
        listed
            .iter()
            .map(|torrent| torrent.forced)
            .collect::<Vec<_>>(),
        [true, false, false]
    );
    resume(&ours, "word-1").await;
    all_are(&ours, &[Queued, Downloading, Queued]).await;
    set(&ours, &[("add.paused", "on")]).await.unwrap();
    let more = sample("word-4", 4_000);
    let add = into(target.path());
    assert_eq!(more.add_to(&ours, add).await.unwrap().state, Paused);
    let forced = sample("word-5", 5_000);
    let add = Add {
        force: true,
        ..into(target.path())
    };
    assert!(forced.add_to(&ours, add).await.unwrap().forced);
    all_are(&ours, &[Queued, Downloading, Queued, Paused, Downloading]).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_that_has_given_enough_rests_until_it_is_told_to_go_on() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    make(&ours, CarrierKind::Session, "", &[("time", "0s")])
        .await
        .unwrap();
    let rests = until(&ours, State::Enough).await;
    assert!(rests.message.unwrap().contains("resume"));
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    // It is not begun only to rest again.
    assert_eq!(only(&ours).await.state, State::Enough);
    resume(&ours, "all").await;
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    until(&ours, State::Seeding).await;
    // What it is told itself goes before what the session says.
    change(&ours, "word", |change| {
        change.rules = words(&[("time", "none")]);
    })
    .await
    .unwrap();
    until(&ours, State::Seeding).await;
    let told = words(&[("time", "inherit"), ("then", "rm")]);
    change(&ours, "word", |change| change.rules = told)
        .await
        .unwrap();
    let gone = async {
        while !list(&ours, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(sample.folder.path().join("word").exists());
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn categories_and_tags_say_what_torrents_do_not() {
    use CarrierKind::{Category, Tag};
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let folder = sample.folder.path().canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let (ours, _) = node(state.path()).await;
    let made = make(&ours, Category, "films/short", &[("folder", folder)])
        .await
        .unwrap();
    let names: Vec<&str> = made.iter().map(|carrier| carrier.name.as_str()).collect();
    assert_eq!(names, ["films", "films/short"]);
    make(&ours, Tag, "site", &[("time", "0s")]).await.unwrap();
    let add = Add {
        category: Some("films/short".to_owned()),
        ..Add::default()
    };
    let absent = Add {
        category: Some("music".to_owned()),
        ..add.clone()
    };
    let refused = sample.add_to(&ours, absent).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let added = sample.add_to(&ours, add).await.unwrap();
    assert_eq!(added.directory, folder);
    until(&ours, State::Seeding).await;
    for (word, count) in [
        ("category:films", 1),
        ("category:none", 0),
        ("tag:none", 1),
        ("tag:site", 0),
    ] {
        assert_eq!(list(&ours, &[word]).await.unwrap().len(), count, "{word}");
    }
    let tag = |name: &str| std::collections::BTreeSet::from([name.to_owned()]);
    change(&ours, "word", |change| change.tags_too = tag("site"))
        .await
        .unwrap();
    until(&ours, State::Enough).await;
    // A category goes before a tag.
    let made = make(&ours, Category, "films", &[("time", "none")])
        .await
        .unwrap();
    assert_eq!(made[0].torrents, 1);
    resume(&ours, "word").await;
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    let again = until(&ours, State::Seeding).await;
    assert_eq!(
        (again.category.as_deref(), again.tags),
        (Some("films/short"), tag("site"))
    );
    let forget = |kind, name: &str| Request::RemoveCarriers {
        kind,
        names: named(name),
    };
    let left = ours
        .ask(forget(Category, "films"), None)
        .await
        .map(carriers);
    assert_eq!(left.unwrap(), []);
    assert_eq!(until(&ours, State::Enough).await.category, None);
    ours.ask(forget(Tag, "site"), None).await.unwrap();
    assert!(only(&ours).await.tags.is_empty());
    for (kind, name) in [(Category, "films"), (Tag, "site")] {
        let refused = ours.ask(forget(kind, name), None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }
    for name in ["", "a//b", "none", "a,b"] {
        let refused = make(&ours, Category, name, &[]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{name}");
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_has_the_name_and_tags_that_it_is_given() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    for tag in ["a", "b", "c"] {
        make(&ours, CarrierKind::Tag, tag, &[]).await.unwrap();
    }
    let tags = |names: &[&str]| -> std::collections::BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let add = Add {
        name: Some("saying".to_owned()),
        tags: tags(&["a", "b"]),
        ..into(sample.folder.path())
    };
    sample.add_to(&ours, add).await.unwrap();
    let told = change(&ours, "saying", |change| {
        change.tags_too = tags(&["c"]);
        change.tags_not = tags(&["a"]);
    });
    assert_eq!(told.await.unwrap().tags, tags(&["b", "c"]));
    let only_a = change(&ours, "saying", |change| change.tags = Some(tags(&["a"])));
    assert_eq!(only_a.await.unwrap().tags, tags(&["a"]));
    let unknown = change(&ours, "saying", |change| change.tags_too = tags(&["d"]));
    assert_eq!(unknown.await.unwrap_err().kind(), ErrorKind::NotFound);
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    assert_eq!(
        list(&ours, &["saying"]).await.unwrap()[0].tags,
        tags(&["a"])
    );
    let own = change(&ours, "saying", |change| change.name = Some(String::new()));
    assert_eq!(own.await.unwrap().name, "word");
    let lines = change(&ours, "word", |change| {
        change.name = Some("a\nb".to_owned());
    });
    assert_eq!(lines.await.unwrap_err().kind(), ErrorKind::Usage);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_removed_with_its_data_takes_its_own_files_and_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node(state.path()).await;
    let samples = [sample("one", 50_000), sample("two", 60_000)];
    for sample in &samples {
        std::fs::write(sample.folder.path().join("mine"), "mine").unwrap();
        sample
            .add_to(&ours, into(sample.folder.path()))
            .await
            .unwrap();
    }
    all_are(&ours, &[State::Seeding, State::Seeding]).await;
    let request = Request::Remove {
        torrents: named("one"),
        data: Some(Fate::Delete),
    };
    assert_eq!(ask(&ours, request).await.unwrap()[0].name, "one");
    // What share limits say removes data too.
    let told = words(&[("time", "0s"), ("then", "rm-data")]);
    change(&ours, "two", |change| change.rules = told)
        .await
        .unwrap();
    for (sample, name) in samples.iter().zip(["one", "two"]) {
        let gone = async {
            while sample.folder.path().join(name).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        assert!(sample.folder.path().join("mine").exists());
    }
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    assert_eq!(list(&ours, &[]).await.unwrap(), []);
    let journals = std::fs::read_dir(state.path().join("journals")).unwrap();
    assert_eq!(journals.count(), 0);
    ours.stop(PATIENCE).await;
}

/// Rates that are said of a torrent, a category or the session hold while it runs, and as soon as they are lifted they do not.
#[tokio::test]
async fn rates_hold_for_torrents_that_run_whoever_says_them() {
    const SLOW: (&str, &str) = ("down", "16KiB");
    const LIFTED: (&str, &str) = ("down", "none");
    let (sample, state) = (sample("word", 1 << 20), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    for who in ["torrent", "category", "session"] {
        let target = tempfile::tempdir().unwrap();
        let (leech, _) = node(&state.path().join(who)).await;
        make(&leech, CarrierKind::Category, "slow", &[])
            .await
            .unwrap();
        let add = Add {
            peers: vec![address],
            category: Some("slow".to_owned()),
            // It begins at a rate of its own, so that the others come while it runs.
            rules: words(&[SLOW]),
            ..into(target.path())
        };
        sample.add_to(&leech, add).await.unwrap();
        until(&leech, State::Downloading).await;
        let say = async |rule: (&str, &str)| match who {
            "torrent" => {
                let told = change(&leech, "word", |change| change.rules = words(&[rule])).await;
                told.map(drop)
            }
            "category" => make(&leech, CarrierKind::Category, "slow", &[rule])
                .await
                .map(drop),
            _ => make(&leech, CarrierKind::Session, "", &[rule])
                .await
                .map(drop),
        };
        say(SLOW).await.unwrap();
        if who != "torrent" {
            let own = change(&leech, "word", |change| change.rules = words(&[LIFTED]));
            own.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(only(&leech).await.state, State::Downloading, "{who}");
        // At that rate it would take a minute.
        say(LIFTED).await.unwrap();
        until(&leech, State::Seeding).await;
        leech.stop(PATIENCE).await;
    }
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn files_that_are_missing_are_waited_for_unless_a_person_has_them_verified() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let file = target.path().join("word");
    let (leech, _) = node(&ours).await;
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;
    let away = target.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    let (leech, _) = node(&ours).await;
    assert!(until(&leech, State::Missing).await.message.is_some());
    std::fs::rename(&away, &file).unwrap();
    // By itself, and without fetching anything.
    let back = until(&leech, State::Seeding).await;
    assert_eq!(back.downloaded_bytes, 50_000);
    leech.stop(PATIENCE).await;
    std::fs::remove_file(&file).unwrap();
    let (leech, _) = node(&ours).await;
    until(&leech, State::Missing).await;
    let torrents = named("word");
    ask(&leech, Request::Recheck { torrents }).await.unwrap();
    // Its peers were named in an earlier life.
    until(&leech, State::Downloading).await;
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_at_rest_waits_for_files_that_went_while_nobody_looked() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    let (file, away) = (
        sample.folder.path().join("word"),
        sample.folder.path().join("away"),
    );
    std::fs::rename(&file, &away).unwrap();
    let noticed = async {
        while only(&ours).await.state != State::Missing {
            // Whatever is said to it wakes it.
            let torrents = named("word");
            ask(&ours, Request::Announce { torrents }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    std::fs::rename(&away, &file).unwrap();
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
}
