//! The same bytes in a v2 and in a v1 torrent, from Shoal to Shoal.

use super::{Run, rounds};
use crate::arguments::What;
use crate::figures::Section;
use crate::transfer::{Goods, Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Content, Kind, Shape, Speech};

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = run.arguments.size();
    let settings = format!("{} MiB, pieces of 1 MiB, shoal -> shoal", bytes >> 20);
    let mut section = run.section(What::V2, settings);
    let folder = run.lab.folder("source")?;
    let content = |seed| Content::generate(&folder, "content.bin", Shape::File(bytes), seed);
    let v1 = Goods::new(run.lab, content(3)?, bytes, Kind::V1)?;
    // Written once more, which is the price of each torrent having hashes to compare with.
    let v2 = Goods::new(run.lab, content(3)?, bytes, Kind::V2)?;
    let subjects = vec![("v1".to_owned(), v1), ("v2".to_owned(), v2)];
    rounds(run, &mut section, subjects, |goods| {
        let plan = Plan {
            goods,
            seeds: &[Client::Shoal],
            leeches: &[Client::Shoal],
            target: None,
            speech: Speech::Clear,
            utp: false,
        };
        Ok(measure(run.lab, plan)?.figures())
    });
    Ok(section)
}
