//! One module for each command; here is what they share: from a command to its exit code.

mod check;
mod completions;
mod create;
mod describe;
mod get;
mod hand_over;
mod man;
mod node;
mod seed;
mod show;
mod transfer;

use crate::args::{Command, CommandLine};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

/// Runs the command, says why if it fails, and gives the exit code.
pub(crate) fn run(command_line: CommandLine) -> Exit {
    let format = command_line.global.format();
    let mut output = Output::new(format);
    let done = match command_line.command {
        Command::Create(args) => create::run(&args, &mut output),
        Command::Show(args) => show::run(&args, &mut output),
        Command::Get(args) => get::run(&args, &mut output),
        Command::Seed(args) => seed::run(&args, &mut output),
        Command::Check(args) => check::run(&args, &mut output),
        Command::Up(args) => node::up(&args, &mut output),
        Command::Add(args) => node::add(&args, &mut output),
        Command::List(args) => node::list(args, &mut output),
        Command::Pause(args) => node::pause(args, &mut output),
        Command::Resume(args) => node::resume(args, &mut output),
        Command::Start(args) => node::start(args, &mut output),
        Command::Recheck(args) => node::recheck(args, &mut output),
        Command::Announce(args) => node::tracker::announce(args, &mut output),
        Command::Tracker(args) => node::tracker::run(&args, &mut output),
        Command::Peer(args) => node::peer::run(&args, &mut output),
        Command::WebSeed(args) => node::webseed::run(&args, &mut output),
        Command::Priority(args) => node::priority::run(&args, &mut output),
        Command::Queue(args) => node::queue(args, &mut output),
        Command::Limit(args) => node::limit(args, &mut output),
        Command::Share(args) => node::share(args, &mut output),
        Command::Category(args) => node::category(args, &mut output),
        Command::Tag(args) => node::tag(args, &mut output),
        Command::Route(args) => node::route(args, &mut output),
        Command::Move(args) => node::relocate(args, &mut output),
        Command::Rename(args) => node::rename(args, &mut output),
        Command::Rm(args) => node::remove(args, &mut output),
        Command::Settings(args) => node::settings(args, &mut output),
        Command::Import(args) => node::import(args, &mut output),
        Command::Filter(args) => node::filter(args, &mut output),
        Command::Watch(args) => node::watch(args, &mut output),
        Command::Hook(args) => node::hook(args, &mut output),
        Command::Schedule(args) => node::schedule(args, &mut output),
        Command::Down(args) => node::down(&args),
        Command::Man => man::run(),
        Command::Completions { shell } => completions::run(shell),
    };
    // The bar goes before the line about an error comes.
    drop(output);
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            output::fail(format, &failure);
            failure.exit
        }
    }
}

/// What a command comes to.
type Done = Result<Exit, Failure>;
