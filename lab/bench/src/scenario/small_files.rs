//! A hundred thousand small files in one v1 torrent.

use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::Section;
use crate::transfer::{Goods, Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Content, Kind, Speech};
use std::path::{Path, PathBuf};

const FILES: u64 = 100_000;
const FILES_IN_A_HURRY: u64 = 5_000;
const FILE_BYTES: u64 = 16 * 1024;
/// A folder of this many files is one that people make.
const FILES_IN_A_FOLDER: u64 = 1_000;

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let files = match run.arguments.quick {
        true => FILES_IN_A_HURRY,
        false => FILES,
    };
    let settings = format!("{files} files of 16 KiB, v1, pieces of 1 MiB");
    let mut section = run.section(What::SmallFiles, settings);
    let folder = run.lab.folder("source")?;
    let sizes: Vec<(PathBuf, u64)> = (0..files)
        .map(|file| {
            let (folder, file) = (file / FILES_IN_A_FOLDER, file % FILES_IN_A_FOLDER);
            (
                Path::new("small").join(format!("{folder:03}/{file:03}.bin")),
                FILE_BYTES,
            )
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(5);
    let content = Content::write(&folder, "small", &sizes, &mut rng)?;
    let goods = Goods::new(run.lab, content, files * FILE_BYTES, Kind::V1)?;
    let subjects = [Client::Shoal, Client::Libtorrent].map(|client| (client.to_string(), client));
    rounds(run, &mut section, subjects.into(), |client| {
        let plan = Plan {
            goods: &goods,
            seeds: &[*client],
            leeches: &[*client],
            target: None,
            speech: Speech::Clear,
            utp: false,
        };
        Ok(measure(run.lab, plan)?.figures())
    });
    Ok(section)
}
