//! Where sessions are found, and whether their clients run.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use shoal_import::Client;
use std::fs;

#[test]
fn the_session_folder_that_a_configuration_names_is_found() {
    let home = tempfile::tempdir().unwrap();
    let found = || Client::RTorrent.usual_folder(home.path());
    let name = "0123456789ABCDEF0123456789ABCDEF01234567.torrent";
    for folder in ["own session", ".session"] {
        fs::create_dir(home.path().join(folder)).unwrap();
        fs::write(home.path().join(folder).join(name), "").unwrap();
    }
    let own = home.path().join("own session");
    let usual = home.path().join(".session");
    assert_eq!(found().as_ref(), Some(&usual));
    let absolute = format!("session = \"{}\"\n", own.display());
    for (text, folder) in [
        ("session.path.set = ~/own session\n", &own),
        (&absolute, &own),
        ("session = /absent\nsession.path.set = own session\n", &own),
        ("# session = ~/own session\n", &usual),
        (
            "session.path.set = (cat,(cfg.basedir),\"own session/\")\n",
            &usual,
        ),
    ] {
        fs::write(home.path().join(".rtorrent.rc"), text).unwrap();
        assert_eq!(found().as_ref(), Some(folder), "{text}");
    }
}

#[test]
fn a_client_runs_as_long_as_the_process_of_its_mark_does() {
    let folder = tempfile::tempdir().unwrap();
    let (us, nobody) = (std::process::id(), u32::MAX);
    for (client, mark, texts) in [
        (
            Client::RTorrent,
            "rtorrent.lock",
            [format!("box:+{us}"), format!("box:+{nobody}")],
        ),
        (
            Client::Deluge,
            "deluged.pid",
            [format!("{us};58846\n"), format!("{nobody};58846\n")],
        ),
    ] {
        let mark = folder.path().join(mark);
        assert!(client.rests(folder.path()).is_ok());
        fs::write(&mark, &texts[0]).unwrap();
        let running = client.rests(folder.path()).unwrap_err();
        assert!(running.to_string().contains("is running"), "{running}");
        fs::write(&mark, &texts[1]).unwrap();
        assert!(client.rests(folder.path()).is_ok());
        fs::write(&mark, "what is this").unwrap();
        assert!(client.rests(folder.path()).is_ok());
    }
}

#[test]
fn a_lock_that_nobody_holds_is_none() {
    let profile = tempfile::tempdir().unwrap();
    let data = profile.path().join("data/BT_backup");
    fs::create_dir_all(&data).unwrap();
    fs::create_dir(profile.path().join("config")).unwrap();
    fs::write(profile.path().join("config/lockfile"), "").unwrap();
    assert!(Client::QBittorrent.rests(&data).is_ok());
}
