//! Steps a picker: `picks PIECES PEERS STEPS`. What a step costs is counted from outside, by callgrind.

use anyhow::{Result, bail};
use shoal_bench::picking::Scene;
use std::env;

fn main() -> Result<()> {
    let numbers: Vec<u32> = env::args()
        .skip(1)
        .map(|word| word.parse())
        .collect::<Result<_, _>>()?;
    let [pieces, peers, steps] = numbers[..] else {
        bail!("usage: picks PIECES PEERS STEPS");
    };
    let mut scene = Scene::new(pieces, peers)?;
    for _ in 0..steps {
        scene.step()?;
    }
    Ok(())
}
