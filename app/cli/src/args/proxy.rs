//! The proxy of a command, and its password, which no list of processes shows.
//!
//! Invariant: the password is in a file, is read once, and appears in no message.

use std::path::Path;

use shoal_node::{PasswordError, told_password};
use shoal_transport::Proxy;

use crate::exit::{Exit, Failure};

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
    let told = told_password(proxy.clone(), path).map_err(|error| {
        let exit = match &error {
            PasswordError::File(..) => Exit::Unusable,
            PasswordError::Refused(..) => Exit::Usage,
        };
        Failure::new(exit, error.to_string())
    })?;
    Ok(Some(told))
}
