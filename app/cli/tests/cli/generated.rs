//! What comes from the definition of the command line: help, the manual page, completions; and output without colour.

use crate::support::{World, finish};

const COMMANDS: [&str; 7] = [
    "create",
    "show",
    "get",
    "seed",
    "check",
    "man",
    "completions",
];
const EXIT_CODES: [&str; 8] = ["0", "1", "2", "3", "4", "5", "130", "141"];

#[test]
fn every_help_text_lists_every_exit_code() {
    let world = World::new();
    let plain = world.run(&["--help"]).expect(0);
    let of_commands = COMMANDS.map(|command| world.run(&[command, "--help"]).expect(0));
    for help in of_commands.iter().chain([&plain]) {
        let (_, codes) = help.stdout.split_once("Exit codes:").unwrap();
        let listed: Vec<_> = codes
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(listed, EXIT_CODES, "{}", help.stdout);
    }
    for command in COMMANDS {
        assert!(
            plain.stdout.contains(&format!("\n  {command}")),
            "{}",
            plain.stdout
        );
    }
    assert!(
        world
            .run(&["--version"])
            .expect(0)
            .stdout
            .starts_with("shoal ")
    );
}

#[test]
fn the_manual_has_every_command_and_option() {
    let world = World::new();
    let page = world.run(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH shoal 1"), "{page}");
    for command in COMMANDS {
        assert!(
            page.contains(&format!(".SH \"SHOAL {}\"", command.to_uppercase())),
            "{command}"
        );
        let help = world.run(&[command, "--help"]).expect(0).stdout;
        let options = help
            .split_whitespace()
            .filter(|word| word.starts_with("--"));
        for option in options.map(|word| word.trim_end_matches([',', '.', ')'])) {
            let escaped = option.replace('-', "\\-");
            assert!(page.contains(&escaped), "{command} {option}");
        }
    }
    assert!(page.contains("141"), "exit codes");
}

#[test]
fn completions_are_made_for_every_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]).expect(0).stdout;
        assert!(script.contains("preallocate"), "{shell}");
    }
    world.run(&["completions", "abacus"]).expect(2);
}

#[test]
fn nothing_is_coloured_where_nobody_asked_for_colour() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    let nothing = world.folder("nothing");
    let nothing = nothing.to_str().unwrap();
    for variable in [
        ("NO_COLOR", "1"),
        ("TERM", "dumb"),
        ("TERM", "xterm-256color"),
    ] {
        for arguments in [
            vec!["--help"],
            vec!["frobnicate"],
            vec!["show", &torrent],
            vec!["check", &torrent, "--data", nothing],
        ] {
            let said = finish(world.command(&arguments).env(variable.0, variable.1));
            assert!(!said.stdout.contains('\u{1b}'), "{said:?}");
            assert!(!said.stderr.contains('\u{1b}'), "{said:?}");
        }
    }
}

#[test]
fn quiet_says_results_only() {
    let world = World::new();
    let album = world.album();
    std::os::unix::fs::symlink("a.bin", album.join("link")).unwrap();
    let said = world
        .run(&["-q", "create", album.to_str().unwrap()])
        .expect(0);
    assert!(!said.stdout.contains("warning"), "{said:?}");
    assert!(said.stdout.contains("info hash v1"), "{said:?}");
}
