//! Bad data is neither believed nor announced, and a full disk is a pause.

use anyhow::{Context, Result, ensure};
use shoal_interop::wire::{Liar, bitfield_of};
use shoal_interop::{Client, Content, Job, Kind, Maker, Process, Program, Recipe, Shape};
use shoal_interop::{Lab, eventually, isolated, output_of, shoal, swarms_of};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

const PIECE_BYTES: u32 = 64 * 1024;
const PIECES: u64 = 200;
const BYTES: u64 = PIECES * PIECE_BYTES as u64;
/// So slow that there is time to ask a liar instead.
const SEED_BYTES_PER_S: u64 = 2 * 1024 * 1024;
const COMPLETE_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_liar_about_a_v1_torrent_is_left_alone_and_the_rest_is_got_elsewhere() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| survives_a_liar(lab, Kind::V1))
}

#[test]
fn a_liar_about_a_v2_torrent_is_left_alone_and_the_rest_is_got_elsewhere() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| survives_a_liar(lab, Kind::V2))
}

fn survives_a_liar(lab: &Lab, kind: Kind) -> Result<()> {
    let (content, torrent) = make(lab, kind)?;
    let hash = swarms_of(&torrent)?[0];
    let job = Job::seed(&torrent, &content.parent, lab.address()).at_most(SEED_BYTES_PER_S);
    let seed = Client::Libtorrent.start(lab, &job)?;
    let address = lab.address();
    let liar = Liar::start(address, hash, usize::try_from(PIECES)?)?;

    let (target, peers) = (lab.folder("target")?, [address, seed.address]);
    let job = Job::leech(&torrent, &target, lab.address()).with(&peers);
    let mut leech = Client::Shoal.start(lab, &job)?;
    leech.wait_complete(COMPLETE_WITHIN)?;
    content.check_exactly(&target)?;
    let events = shoal::events(&leech.process.said());
    let complete = events.last().context("it said something")?;
    ensure!(complete["failed_pieces"].as_u64() > Some(0), "{complete}");
    // What was asked of it before its first lie was found out; the seed alone would have taken seconds.
    let (lies, blocks) = (liar.lies(), BYTES / (16 * 1024));
    ensure!(lies > 0, "it was never asked");
    ensure!(
        lies < blocks / 4,
        "it was asked for {lies} of {blocks} blocks"
    );
    Ok(())
}

#[test]
fn a_damaged_piece_is_not_announced_and_the_others_are_served() -> Result<()> {
    const DAMAGED: u64 = 17;
    isolated(&[Program::Libtorrent], |lab| {
        let (content, torrent) = make(lab, Kind::V1)?;
        let file = File::options().write(true).open(content.path())?;
        file.write_all_at(b"damage", DAMAGED * u64::from(PIECE_BYTES) + 99)?;

        let address = lab.address();
        let mut command = shoal::command(&["seed", "--isolated"])?;
        command.arg(&torrent).arg("--data").arg(&content.parent);
        command.arg("--listen").arg(address.to_string());
        command.arg("--state-dir").arg(lab.path("state"));
        let seed = Process::start(lab, "shoal-seed", &mut command)?;
        let mut started = None;
        eventually(COMPLETE_WITHIN, "shoal to have checked", || {
            let events = shoal::events(&seed.said());
            started = events.into_iter().find(|event| event["event"] == "started");
            Ok(started.is_some())
        })?;
        let started = started.context("it started")?;
        ensure!(started["verified_pieces"] == PIECES - 1, "{started}");
        let bitfield = bitfield_of(address, swarms_of(&torrent)?[0])?;
        let has = |piece: u64| -> Result<bool> {
            let piece = usize::try_from(piece)?;
            Ok(bitfield[piece / 8] & (0x80 >> (piece % 8)) != 0)
        };
        for piece in 0..PIECES {
            ensure!(has(piece)? == (piece != DAMAGED), "piece {piece}");
        }

        let (target, peers) = (lab.folder("target")?, [address]);
        let job = Job::leech(&torrent, &target, lab.address()).with(&peers);
        let leech = Client::Libtorrent.start(lab, &job)?;
        let all_but_one = format!("\"done\": {}", BYTES - u64::from(PIECE_BYTES));
        eventually(COMPLETE_WITHIN, "libtorrent to get the rest", || {
            Ok(leech.process.said().contains(&all_but_one))
        })?;
        ensure!(
            !leech.process.said().contains("hash_failed_alert"),
            "libtorrent got something wrong"
        );
        Ok(())
    })
}

#[test]
fn a_full_disk_is_a_pause_until_there_is_room() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        let (content, torrent) = make(lab, Kind::Hybrid)?;
        let job = Job::seed(&torrent, &content.parent, lab.address());
        let seed = Client::Libtorrent.start(lab, &job)?;
        // The mount namespace is ours, so nobody else sees this, and it goes with the test.
        let target = lab.folder("small")?;
        mount(&target, "size=6m")?;
        let peers = [seed.address];
        let job = Job::leech(&torrent, &target, lab.address()).with(&peers);
        let mut leech = Client::Shoal.start(lab, &job)?;
        eventually(COMPLETE_WITHIN, "the download to pause", || {
            Ok(leech.process.said().contains(r#""event":"suspended""#))
        })?;
        // It stays so.
        thread::sleep(Duration::from_secs(3));
        ensure!(leech.process.ended()?.is_none(), "it ended");
        ensure!(!leech.process.said().contains(r#""event":"complete""#));
        mount(&target, "remount,size=64m")?;
        leech.wait_complete(COMPLETE_WITHIN)?;
        let said = leech.process.said();
        ensure!(
            said.contains(r#""event":"continued""#),
            "it does not say so"
        );
        content.check_exactly(&target)
    })
}

fn mount(folder: &Path, options: &str) -> Result<()> {
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(folder);
    output_of(&mut command)?;
    Ok(())
}

/// One file of [`PIECES`] pieces, and its torrent.
fn make(lab: &Lab, kind: Kind) -> Result<(Content, std::path::PathBuf)> {
    let source = lab.folder("source")?;
    let content = Content::generate(&source, "content", Shape::File(BYTES), 8)?;
    ensure!(fs::metadata(content.path())?.len() == BYTES);
    let torrent = lab.path("content.torrent");
    let recipe = Recipe::new(kind).pieces(PIECE_BYTES);
    recipe.make(Maker::Shoal, &content, &torrent)?;
    Ok((content, torrent))
}
