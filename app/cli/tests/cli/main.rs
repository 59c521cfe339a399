//! The binary as a person or a program uses it: command lines in, lines, files and exit codes out.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod automation;
mod down;
mod folders;
mod generated;
mod import;
mod magnets;
mod node;
mod priority;
mod round_trip;
mod route;
mod scrape;
mod show;
mod support;
mod transfer;
mod urls;
mod web;
mod wrong_input;
