//! Replies that are read piece by piece, as they come.
//!
//! Invariant: no byte is read from the connection that nobody asked for here, but for what the library has buffered; nothing is
//! decompressed, so that what is read is what was sent.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::clients::Coding;
use super::{HttpClient, HttpError, HttpLimits, Request, date, failed, header_text};
use crate::policy::OriginClass;
use crate::redirect;
use crate::way::Hold;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// Where.
    pub url: Url,
    /// Which bytes; `None` for all.
    pub range: Option<Range<u64>>,
    /// Only if the whole is still what this strong validator (RFC 9110 section 13.1.5) named; otherwise all of it is sent.
    pub if_range: Option<String>,
}

/// A reply whose body has not been read. Dropping it ends it.
#[derive(Debug)]
pub struct HttpStream {
    response: reqwest::Response,
    url: Url,
    hold: Hold,
}

impl HttpClient {
    /// Asks for bytes of `request.url`, which `origin` named; returns when the head of the reply is there. The time limit is
    /// for that, and no body is too large.
    ///
    /// # Errors
    /// Where there is no reply.
    pub async fn open(
        &self,
        request: RangeRequest,
        origin: OriginClass,
        limits: HttpLimits,
    ) -> Result<HttpStream, HttpError> {
        let site = redirect::site(&request.url);
        let after = limits.timeout;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if let Some(range) = request.range.filter(|range| !range.is_empty()) {
            let text = format!("bytes={}-{}", range.start, range.end - 1);
            headers.extend(HeaderValue::try_from(text).map(|value| (header::RANGE, value)));
            let validator = request.if_range.and_then(|text| text.try_into().ok());
            headers.extend(validator.map(|value| (header::IF_RANGE, value)));
        }
        let asked = Request {
            headers,
            coding: Coding::Identity,
            body: None,
        };
        let first = request.url.clone();
        let following = self.follow(request.url, origin, &limits, &asked);
        let work = Box::pin(self.on_the_way(&first, following));
        let ((response, url), hold) = tokio::time::timeout(after, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut { site, after }))?;
        Ok(HttpStream {
            response,
            url,
            hold,
        })
    }
}

impl HttpStream {
    /// The status code. Never a redirect's.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Where the reply came from, after redirects.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The length of the body, where it is said.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        let text = self.header("content-length")?;
        text.trim().parse().ok()
    }

    /// Whether the body is compressed, although that was not asked for.
    #[must_use]
    pub fn is_encoded(&self) -> bool {
        self.header("content-encoding")
            .is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
    }

    /// How long to wait, as `Retry-After` says in seconds or as a date.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?;
        let until = || date::parse(&text)?.duration_since(SystemTime::now()).ok();
        let seconds = text.trim().parse().ok().map(Duration::from_secs);
        seconds.or_else(until)
    }

    /// A field of the head, if it is text. Of several of one name the first.
    #[must_use]
    pub fn header(&self, name: &'static str) -> Option<String> {
        header_text(&self.response, &HeaderName::from_static(name))
    }

    /// All fields of a name, as far as they are text.
    pub fn headers(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let values = self.response.headers().get_all(name);
        values.iter().filter_map(|value| value.to_str().ok())
    }

    /// Waits for the next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// Where the connection breaks, or the body ends before the length that was said.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let chunk = self.hold.during(self.response.chunk()).await;
        let chunk = chunk.ok_or_else(|| HttpError::Shut {
            site: redirect::site(&self.url),
            why: "the route has ended".into(),
        })?;
        chunk.map_err(|error| failed(&self.url, error))
    }
}
