//! The proxy of a command, and its password, which no list of processes shows.
//!
//! Invariant: the password is in a file, is read once, and appears in no message.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use shoal_transport::Proxy;

use crate::exit::{Exit, Failure};

/// More than any password that a proxy could be told, with its line's end.
const MAX_FILE_BYTES: u64 = 1024;

pub(super) fn parse(text: &str) -> Result<Proxy, String> {
    text.parse::<Proxy>().map_err(|error| error.to_string())
}

/// The proxy that everything goes through, told the password of this file: all of it but the end of its line.
///
/// # Errors
/// Where the file cannot be read, or the proxy's protocol knows no such password.
pub(super) fn read(
    proxy: Option<&Proxy>,
    password: Option<&Path>,
) -> Result<Option<Proxy>, Failure> {
    let (Some(proxy), Some(path)) = (proxy, password) else {
        return Ok(proxy.cloned());
    };
    let mut text = String::new();
    let opened = File::open(path).map(|file| file.take(MAX_FILE_BYTES));
    let read = opened.and_then(|mut file| file.read_to_string(&mut text));
    let shown = path.display();
    read.map_err(|error| {
        let message = format!("cannot read the proxy's password from {shown}: {error}");
        Failure::new(Exit::Unusable, message)
    })?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    let told = proxy.clone().with_password(password);
    let told = told.map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error}")))?;
    Ok(Some(told))
}
