//! Where a redirect leads, as far as the URL tells.
//!
//! Invariant: credentials never reach another origin than the one they were given for, and a request that began
//! encrypted stays so.

use url::Url;

use crate::http::HttpError;

/// Whether a response of that status sends a GET elsewhere (RFC 9110 section 15.4).
pub(crate) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The URL that `location`, received from `current`, means.
pub(crate) fn next_hop(first: &Url, current: &Url, location: &str) -> Result<Url, HttpError> {
    let mut next = current
        .join(location)
        .map_err(|_| HttpError::BadRedirect(site(current)))?;
    check_scheme(&next)?;
    if first.scheme() == "https" && next.scheme() != "https" {
        return Err(HttpError::Downgrade {
            from: site(current),
            to: site(&next),
        });
    }
    let (username, password) = if next.origin() == current.origin() {
        match (next.username(), current.username()) {
            ("", _) if next.password().is_none() => (current.username(), current.password()),
            _ => return Ok(next),
        }
    } else {
        ("", None)
    };
    let (username, password) = (username.to_owned(), password.map(str::to_owned));
    let set = next
        .set_username(&username)
        .and_then(|()| next.set_password(password.as_deref()));
    set.map_err(|()| HttpError::BadRedirect(site(current)))?;
    Ok(next)
}

/// Only what this crate speaks.
pub(crate) fn check_scheme(url: &Url) -> Result<(), HttpError> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        other => Err(HttpError::UnsupportedScheme(other.to_owned())),
    }
}

/// Scheme, host and port: the part of a URL that can be shown, since trackers put keys into path and query.
pub(crate) fn site(url: &Url) -> String {
    url.origin().ascii_serialization()
}
