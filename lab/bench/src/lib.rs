//! Shoal against the engines of the field: interleaved runs on one machine, every file verified by hash.
//!
//! A run is a list of scenarios ([`scenario`]); each gives a section of figures ([`figures`]), of which the targets
//! ([`target`]) are judged and the terminal, a JSON file, plots and docs/performance.md are made ([`report`]).
//!
//! Invariant: a figure is kept only of a run in which every file arrived as it was sent.

pub mod arguments;
pub mod figures;
mod floor;
mod load;
mod machine;
pub mod picking;
pub mod report;
pub mod room;
pub mod scenario;
mod shelf;
mod slow_disk;
pub mod soak;
pub mod target;
mod transfer;
mod usage;
