//! What we make is what others make: info dictionaries byte for byte, and torrents of other makers hold against the data.

use anyhow::{Context, Result, ensure};
use shoal_interop::shoal;
use shoal_interop::{Content, Kind, Maker, Program, Recipe, Shape, info_of, isolated, output_of};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each takes libtorrent a fifth of a second to start.
const CASES: u64 = 200;
const BLOCK: u64 = 16 * 1024;

#[test]
fn info_dictionaries_are_the_ones_that_libtorrent_makes() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        for seed in 0..CASES {
            let mut rng = fastrand::Rng::with_seed(seed);
            let folder = lab.folder("case")?;
            let content = random_content(&folder, &mut rng)?;
            let recipe = random_recipe(&mut rng);
            let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
            recipe.make(Maker::Shoal, &content, &ours)?;
            recipe.make(Maker::Libtorrent, &content, &theirs)?;
            ensure!(
                info_of(&ours)? == info_of(&theirs)?,
                "seed {seed}: {recipe:?} of {content:?} differs:\n{}\n{}",
                info_of(&ours)?.escape_ascii(),
                info_of(&theirs)?.escape_ascii()
            );
        }
        Ok(())
    })
}

/// A file, or a folder of up to eight files that are empty, small, odd or of whole blocks.
fn random_content(folder: &Path, rng: &mut fastrand::Rng) -> Result<Content> {
    let name = format!("content {}", rng.u8(..));
    if rng.u8(..4) == 0 {
        let bytes = random_length(rng).max(1);
        return Content::write(folder, &name, &[(PathBuf::from(&name), bytes)], rng);
    }
    let mut files = vec![(Path::new(&name).join("first.bin"), rng.u64(1..40 * BLOCK))];
    for number in 0..rng.u8(..8) {
        // A name is a directory or a file, never both, and none begins with another.
        let within = ["", "inner", "inner/deep", "Über"][rng.usize(..4)];
        let path = Path::new(&name).join(within).join(format!("{number} file"));
        files.push((path, random_length(rng)));
    }
    let content = Content::write(folder, &name, &files, rng)?;
    let (program, _) = rng.choice(&files).context("there are files")?;
    if rng.bool() {
        fs::set_permissions(folder.join(program), fs::Permissions::from_mode(0o755))?;
    }
    Ok(content)
}

fn random_length(rng: &mut fastrand::Rng) -> u64 {
    match rng.u8(..5) {
        0 => 0,
        1 => rng.u64(1..100),
        2 => BLOCK * rng.u64(1..20),
        3 => BLOCK * rng.u64(1..20) + 1,
        _ => rng.u64(1..3_000_000),
    }
}

fn random_recipe(rng: &mut fastrand::Rng) -> Recipe {
    let kind = [Kind::V1, Kind::V2, Kind::Hybrid][rng.usize(..3)];
    let piece_length = rng.bool().then(|| 16_384 << rng.u32(..6));
    Recipe {
        piece_length,
        private: rng.u8(..3) == 0,
        ..Recipe::new(kind)
    }
}

#[test]
fn torrents_of_mktorrent_and_transmission_hold_against_their_data() -> Result<()> {
    isolated(&[Program::Mktorrent, Program::TransmissionCreate], |lab| {
        let folder = lab.folder("source")?;
        let content = Content::generate(&folder, "content", Shape::Folder(5_000_000), 4)?;
        for maker in [Program::Mktorrent, Program::TransmissionCreate] {
            let torrent = lab.path(&format!("{maker:?}.torrent"));
            let mut command = Command::new(maker.find()?);
            output_of(command.arg("-o").arg(&torrent).arg(content.path()))?;
            let mut check = shoal::command(&["check"])?;
            output_of(check.arg(&torrent).arg("--data").arg(&folder))?;
        }
        Ok(())
    })
}
