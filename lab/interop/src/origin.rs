//! An HTTP server that has content: nginx, as anybody would set it up.

use crate::http;
use crate::lab::{Lab, make_public};
use crate::process::{Process, eventually};
use crate::program::Program;
use anyhow::Result;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START_WITHIN: Duration = Duration::from_secs(10);

/// A server that runs.
pub struct Origin {
    log: PathBuf,
    _process: Process,
}

impl Origin {
    /// Serves the files below `root` at this address.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(lab: &Lab, address: SocketAddr, root: &Path) -> Result<Origin> {
        let state = lab.folder(&format!("nginx-{}", address.port()))?;
        let log = state.join("access.log");
        make_public(root)?;
        let at = state.display();
        let settings = format!(
            "daemon off;\n\
             pid {at}/pid;\n\
             worker_processes 1;\n\
             error_log stderr;\n\
             {user}\
             events {{ }}\n\
             http {{\n\
               log_format plain '$status $request';\n\
               access_log {at}/access.log plain;\n\
               client_body_temp_path {at}/1;\n\
               proxy_temp_path {at}/2;\n\
               fastcgi_temp_path {at}/3;\n\
               uwsgi_temp_path {at}/4;\n\
               scgi_temp_path {at}/5;\n\
               server {{ listen {address}; root {root}; }}\n\
             }}\n",
            root = root.display(),
            // As root it would become somebody who may not look into the folders of the test.
            user = if rustix::process::geteuid().is_root() {
                "user root;\n"
            } else {
                ""
            },
        );
        let file = state.join("nginx.conf");
        fs::write(&file, settings)?;
        let mut command = Command::new(Program::Nginx.find()?);
        command.args(["-e", "stderr", "-c"]).arg(&file);
        let process = Process::start(lab, "nginx", &mut command)?;
        eventually(START_WITHIN, "nginx to answer", || {
            Ok(http::get(address, "/").is_ok())
        })?;
        Ok(Origin {
            log,
            _process: process,
        })
    }

    /// What torrents name as their web seed.
    #[must_use]
    pub fn url(address: SocketAddr) -> String {
        format!("http://{address}/")
    }

    /// How many ranges of files, or whole ones, it has served.
    ///
    /// # Errors
    ///
    /// Its log cannot be read.
    pub fn served(&self) -> Result<usize> {
        let log = fs::read_to_string(&self.log)?;
        let served = |line: &&str| line.starts_with("200 ") || line.starts_with("206 ");
        Ok(log.lines().filter(served).count())
    }
}
