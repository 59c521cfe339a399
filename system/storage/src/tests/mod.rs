//! Scenarios over whole contents, most of them with a disk that fails.

mod absence;
mod adoption;
mod chaos;
mod faults;
mod relocation;
mod removal;
mod resume;
mod rig;
mod scenarios;
