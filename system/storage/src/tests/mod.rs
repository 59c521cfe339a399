//! Scenarios over whole contents, most of them with a disk that fails.

mod faults;
mod resume;
mod rig;
mod scenarios;
