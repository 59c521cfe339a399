//! The binary as a person or a program uses it: command lines in, lines, files and exit codes out.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod automation;
mod connections;
mod down;
mod folders;
mod generated;
mod import;
mod listing;
mod magnets;
mod node;
mod peer;
mod priority;
mod round_trip;
mod route;
mod scrape;
mod show;
mod support;
mod tracker;
mod transfer;
mod urls;
mod web;
mod webseed;
mod wrong_input;
