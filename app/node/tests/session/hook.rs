//! Programs that run when something happens to a torrent.

use crate::support::{PATIENCE, into, node, pause, resume, sample, until};
use shoal_node::Node;
use shoal_node::message::{Hook, HookRequest, Occasion, Reply, Request, State};
use std::fs;
use std::path::Path;
use std::time::Duration;

async fn hook(node: &Node, request: HookRequest) -> Vec<Hook> {
    match node.ask(Request::Hook(request), None).await.unwrap() {
        Reply::Hooks { hooks } => hooks,
        other => panic!("{other:?}"),
    }
}

/// Writes its arguments into a file of its own each time.
async fn set(node: &Node, on: Occasion, folder: &Path, arguments: &[&str]) {
    let script = format!(
        "printf '<%s>' \"$@\" > {0}/part.$$; mv {0}/part.$$ {0}/{1}.$$",
        folder.display(),
        on.name()
    );
    let shell = ["sh", "-c", &script, "hook"];
    let program = shell.iter().chain(arguments);
    let program = program.map(|&word| word.to_owned()).collect();
    hook(node, HookRequest::Set { on, program }).await;
}

/// What was written on this occasion.
fn written(folder: &Path, on: Occasion) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let ours = entries.filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with(on.name())
    });
    ours.map(|entry| fs::read_to_string(entry.path()).unwrap())
        .collect()
}

async fn wait(folder: &Path, on: Occasion) -> Vec<String> {
    let waiting = async {
        while written(folder, on).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    written(folder, on)
}

#[tokio::test]
async fn a_program_is_told_once_of_what_was_added_and_of_what_is_complete() {
    let (state, told, target) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let hostile = "word; touch pwned $(id) 'a'";
    let sample = sample(hostile, 40_000);
    let (seed, at) = node(&state.path().join("seed")).await;
    sample
        .add_to(&seed, into(sample.folder.path()))
        .await
        .unwrap();
    until(&seed, State::Seeding).await;
    let ours = state.path().join("leech");
    let (leech, _) = node(&ours).await;
    let words = [
        "{name}",
        "{files} {size}",
        "{content}",
        "{root}",
        "{category}",
        "{id}",
    ];
    set(&leech, Occasion::Added, told.path(), &words).await;
    set(&leech, Occasion::Complete, told.path(), &["{info_hash_v1}"]).await;
    let mut add = into(target.path());
    add.peers = vec![at];
    let added = sample.add_to(&leech, add).await.unwrap();
    let folder = target.path().canonicalize().unwrap();
    let content = folder.join(hostile).display().to_string();
    let expected = format!("<{hostile}><1 40000><{content}><><><{}>", added.id);
    assert_eq!(wait(told.path(), Occasion::Added).await, [expected]);
    let complete = [format!("<{}>", added.info_hash)];
    assert_eq!(wait(told.path(), Occasion::Complete).await, complete);
    pause(&leech, "all").await;
    until(&leech, State::Paused).await;
    leech.stop(PATIENCE).await;
    drop(leech);

    let (leech, _) = node(&ours).await;
    let hooks = hook(&leech, HookRequest::List {}).await;
    assert_eq!(hooks.len(), 2);
    resume(&leech, "all").await;
    until(&leech, State::Seeding).await;
    let on = vec![Occasion::Added];
    assert_eq!(hook(&leech, HookRequest::Remove { on }).await.len(), 1);
    leech.stop(PATIENCE).await;
    seed.stop(PATIENCE).await;
    assert_eq!(written(told.path(), Occasion::Complete).len(), 1);
    assert_eq!(written(told.path(), Occasion::Added).len(), 1);
}
