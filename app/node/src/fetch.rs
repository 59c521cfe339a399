//! Fetching .torrent files from servers.
//!
//! Invariant: errors name the site only, as the rest of a URL may be a secret.

use shoal_metainfo::metainfo::Limits;
use shoal_transport::{HttpError, HttpLimits, OriginClass, Transport};
use url::Url;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The text is no URL of the kind.
    #[error("{0:?} is no URL of a torrent file; write one like https://example.org/file.torrent")]
    NoUrl(String),
    /// The server cannot be asked, or does not answer as it should.
    #[error("cannot fetch the torrent: {0}")]
    Failed(String),
}

/// The file at the URL that a person wrote.
pub(crate) async fn torrent_at(transport: &Transport, text: &str) -> Result<Vec<u8>, FetchError> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| FetchError::NoUrl(text.to_owned()))?;
    torrent(transport, url, OriginClass::User).await
}

/// The file at `url`, on the word of `origin`: at most as long as a torrent from the network may be.
///
/// # Errors
/// It cannot be fetched.
pub async fn torrent(
    transport: &Transport,
    url: Url,
    origin: OriginClass,
) -> Result<Vec<u8>, FetchError> {
    let site = url.origin().ascii_serialization();
    let limits = HttpLimits::file(Limits::REMOTE.bytes);
    let reply = transport.http().get(url, origin, limits).await;
    let reply = reply.map_err(|error| FetchError::Failed(explain(&site, &error)))?;
    if reply.status != 200 {
        let status = reply.status;
        let why = format!("{site}: the server answers with status {status}; check the URL");
        return Err(FetchError::Failed(why));
    }
    Ok(reply.body.to_vec())
}

/// What went wrong at which site, and what to do. Most errors name the site themselves: it may be one that was redirected to.
#[must_use]
pub fn explain(site: &str, error: &HttpError) -> String {
    match error {
        HttpError::Failed { .. } | HttpError::TimedOut { .. } => {
            format!("{error}; check the URL, or try again later")
        }
        HttpError::BadRedirect(_) | HttpError::TooManyRedirects { .. } => {
            format!("{error}; check the URL")
        }
        HttpError::TooLarge { .. } => {
            format!("{error}; check the URL, or download the file and name that")
        }
        HttpError::Downgrade { .. } => error.to_string(),
        HttpError::UnsupportedScheme(_)
        | HttpError::Resolve(_)
        | HttpError::NoCertificateAuthorities => format!("{site}: {error}"),
    }
}
