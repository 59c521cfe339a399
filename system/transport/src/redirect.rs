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
    let same_origin = next.origin() == current.origin();
    let has_own = !next.username().is_empty() || next.password().is_some();
    if same_origin && has_own {
        return Ok(next);
    }
    let (username, password) = if same_origin {
        (current.username(), current.password())
    } else {
        ("", None)
    };
    let set = next
        .set_username(username)
        .and_then(|()| next.set_password(password));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(first: &str, current: &str, location: &str) -> Result<String, HttpError> {
        let parse = |text: &str| Url::parse(text).unwrap();
        next_hop(&parse(first), &parse(current), location).map(String::from)
    }

    #[test]
    fn credentials_stay_with_the_origin_they_were_given_for() {
        let from = "http://me:secret@tracker.test/a/b";
        for (location, expected) in [
            ("c", "http://me:secret@tracker.test/a/c"),
            ("/c", "http://me:secret@tracker.test/c"),
            ("http://tracker.test/c", "http://me:secret@tracker.test/c"),
            (
                "http://tracker.test:80/c",
                "http://me:secret@tracker.test/c",
            ),
            ("http://other@tracker.test/c", "http://other@tracker.test/c"),
            ("//evil.test/c", "http://evil.test/c"),
            ("http://tracker.test:81/c", "http://tracker.test:81/c"),
            ("https://tracker.test/c", "https://tracker.test/c"),
            ("http://admin:admin@evil.test/", "http://evil.test/"),
        ] {
            assert_eq!(hop(from, from, location).unwrap(), expected, "{location}");
        }
    }

    #[test]
    fn what_began_encrypted_stays_encrypted() {
        let https = "https://tracker.test/";
        assert!(matches!(
            hop(https, https, "http://tracker.test/"),
            Err(HttpError::Downgrade { .. })
        ));
        assert!(hop(https, https, "https://other.test/").is_ok());
        assert!(hop("http://a.test/", https, "http://b.test/").is_ok());
    }

    #[test]
    fn only_http_is_followed() {
        let from = "http://tracker.test/";
        for location in [
            "file:///etc/passwd",
            "ftp://x.test/",
            "data:,x",
            "javascript:1",
        ] {
            assert!(
                matches!(
                    hop(from, from, location),
                    Err(HttpError::UnsupportedScheme(_))
                ),
                "{location}"
            );
        }
        assert!(matches!(
            hop(from, from, "http://[nonsense"),
            Err(HttpError::BadRedirect(_))
        ));
    }

    #[test]
    fn a_key_in_a_path_is_not_shown() {
        let url = Url::parse("https://me:secret@tracker.test:8443/passkey/announce?key=1").unwrap();
        assert_eq!(site(&url), "https://tracker.test:8443");
    }
}
