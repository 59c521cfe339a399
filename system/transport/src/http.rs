//! Bounded HTTP requests that obey the address policy at every hop.
//!
//! Invariant: a connection goes only to an address that was checked for this very hop: names are resolved and filtered
//! here and the client library is given the result, addresses in URLs are checked as they stand, no proxy of the
//! environment is used, and a connection is used again only for a hop of which the same addresses were found and checked.
//! Under a proxy of the route, every connection is to that; names that the policy lets it look up go to it as they are.

mod clients;
mod date;
mod stream;

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header;
use url::{Host, Url};

use crate::binding::Binding;
use crate::policy::{OriginClass, Protocol};
use crate::proxy::{Endpoint, Proxy};
use crate::redirect;
use crate::resolver::{AddressFamily, ResolveError};
use crate::transport::Transport;
use crate::way::Hold;
use clients::{Coding, MAX_IDLE_PER_ORIGIN, MAX_IDLE_PER_SITE, MAX_IDLE_TIME, Site};

pub(crate) use clients::Clients;
pub use stream::{HttpStream, RangeRequest};

/// What this program calls itself.
const USER_AGENT: &str = "Shoal/0.1.0";
/// Header fields of a reply. Ordinary ones have about 20.
const MAX_HEADERS: usize = 64;
/// The body of a redirect up to this is read, so that its connection can be used again.
const SMALL_BODY_BYTES: u64 = 16 * 1024;
/// The body's buffer starts no larger than this, whatever length the server claims.
const FIRST_CAPACITY_BYTES: usize = 64 * 1024;

/// Bounds of one request, redirects included.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// What the request is for, which decides the policy's cell: [`Protocol::TrackerHttp`] or [`Protocol::Http`].
    pub protocol: Protocol,
    /// The largest body, after decompression.
    pub max_body_bytes: usize,
    /// From the first look-up to the last byte.
    pub timeout: Duration,
    /// Redirects that are followed.
    pub max_redirects: usize,
    /// Only over this family, so that a tracker learns each of our addresses; `None` for any.
    pub family: Option<AddressFamily>,
}

impl HttpLimits {
    /// Those of a file that a person or a link names, of so many bytes at most.
    #[must_use]
    pub const fn file(max_body_bytes: usize) -> Self {
        HttpLimits {
            protocol: Protocol::Http,
            max_body_bytes,
            // A torrent of 10 MiB over a slow line takes half of this.
            timeout: Duration::from_secs(60),
            // Sites move, and shorten URLs; more hops than these are a loop.
            max_redirects: 5,
            family: None,
        }
    }
}

/// A complete reply of any status that is not a redirect.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// Where the reply came from after redirects, relative references are relative to it.
    pub final_url: Url,
    /// Whom it came from, where the library knows. Behind a proxy nobody does.
    pub remote: Option<SocketAddr>,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// `Content-Type`, if it is text.
    pub content_type: Option<String>,
    /// `Retry-After` in seconds, if it is a number.
    pub retry_after_s: Option<u64>,
}

/// Why there is no reply. URLs are shown without path and query: they may hold keys.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not HTTP.
    #[error("`{0}` URLs are not supported here: only http and https are")]
    UnsupportedScheme(String),
    /// The host has no address that may be reached.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The route has ended, or there is none yet.
    #[error("{site} is not asked: {why}")]
    Shut {
        /// Who was to be.
        site: String,
        /// Why there is no route.
        why: Arc<str>,
    },
    /// A redirect without a usable `Location`.
    #[error("{0} redirects to nowhere")]
    BadRedirect(String),
    /// More redirects than allowed, or a loop.
    #[error("{site} redirects more than {limit} times")]
    TooManyRedirects {
        /// The last one.
        site: String,
        /// How many are followed.
        limit: usize,
    },
    /// From https to http.
    #[error("{from} redirects to {to}, which is not encrypted: refused")]
    Downgrade {
        /// Who redirects.
        from: String,
        /// Where to.
        to: String,
    },
    /// The body exceeds the bound.
    #[error("the reply of {site} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Who sent it.
        site: String,
        /// The bound.
        limit_bytes: usize,
    },
    /// Not done in time.
    #[error("{site} gave no complete reply within {} s", after.as_secs())]
    TimedOut {
        /// Who was asked.
        site: String,
        /// How long was waited.
        after: Duration,
    },
    /// The system has no certificate authorities.
    #[error(
        "no certificate authorities found to check https sites: install the system's ca-certificates"
    )]
    NoCertificateAuthorities,
    /// The connection or the reply failed.
    #[error("{site}: {reason}")]
    Failed {
        /// Who was asked.
        site: String,
        /// The innermost cause.
        reason: String,
        /// All of it.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Makes requests through a [`Transport`].
#[derive(Clone, Debug)]
pub struct HttpClient {
    transport: Transport,
}

impl HttpClient {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport }
    }

    /// Fetches `url`, which `origin` named. A redirect must be allowed to `origin` and to [`OriginClass::Redirect`].
    pub async fn get(
        &self,
        url: Url,
        origin: OriginClass,
        limits: HttpLimits,
    ) -> Result<HttpReply, HttpError> {
        let site = redirect::site(&url);
        let after = limits.timeout;
        let work = Box::pin(async {
            let request = Request {
                headers: header::HeaderMap::new(),
                coding: Coding::Any,
                body: None,
            };
            let first = url.clone();
            let asked = async {
                let (response, url) = self.follow(url, origin, &limits, &request).await?;
                read_reply(response, url, limits.max_body_bytes).await
            };
            let (mut reply, _) = self.on_the_way(&first, asked).await?;
            if self.transport.proxy().is_some() {
                reply.remote = None;
            }
            Ok(reply)
        });
        tokio::time::timeout(after, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut { site, after }))
    }

    /// Sends an action of UPnP (SOAP 1.1) to `url`, which `origin` named.
    pub(crate) async fn post_action(
        &self,
        url: Url,
        origin: OriginClass,
        limits: HttpLimits,
        action: &str,
        body: String,
    ) -> Result<HttpReply, HttpError> {
        let site = redirect::site(&url);
        let after = limits.timeout;
        let mut headers = header::HeaderMap::new();
        let xml = header::HeaderValue::from_static("text/xml; charset=\"utf-8\"");
        headers.insert(header::CONTENT_TYPE, xml);
        if let Ok(action) = header::HeaderValue::from_str(action) {
            headers.insert("soapaction", action);
        }
        let request = Request {
            headers,
            coding: Coding::Any,
            body: Some(body),
        };
        let first = url.clone();
        let asked = async {
            let (response, url) = self.follow(url, origin, &limits, &request).await?;
            read_reply(response, url, limits.max_body_bytes).await
        };
        let work = Box::pin(async { Ok(self.on_the_way(&first, asked).await?.0) });
        tokio::time::timeout(after, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut { site, after }))
    }

    /// What may be done as long as the way lasts that is open now.
    async fn on_the_way<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<(T, Hold), HttpError> {
        let shut = |why| HttpError::Shut {
            site: redirect::site(url),
            why,
        };
        let hold = self.transport.hold().map_err(shut)?;
        match hold.during(work).await {
            Some(done) => Ok((done?, hold)),
            None => {
                let why = self.transport.hold().err();
                Err(shut(why.unwrap_or_else(|| "the route has ended".into())))
            }
        }
    }

    /// Asks, and asks wherever a redirect leads, until there is a reply that is none.
    async fn follow(
        &self,
        first: Url,
        origin: OriginClass,
        limits: &HttpLimits,
        request: &Request,
    ) -> Result<(reqwest::Response, Url), HttpError> {
        redirect::check_scheme(&first)?;
        let mut url = first.clone();
        for hop in 0..=limits.max_redirects {
            let origins = [origin, OriginClass::Redirect];
            let origins = if hop == 0 {
                &origins[..1]
            } else {
                &origins[..]
            };
            let response = self.send(&url, origins, limits, request).await?;
            if !redirect::is_redirect(response.status().as_u16()) {
                return Ok((response, url));
            }
            let location = header_text(&response, &header::LOCATION)
                .ok_or_else(|| HttpError::BadRedirect(redirect::site(&url)))?;
            url = redirect::next_hop(&first, &url, &location)?;
            // A connection whose reply was read to its end can be used again.
            if response
                .content_length()
                .is_some_and(|length| length <= SMALL_BODY_BYTES)
            {
                drop(response.bytes().await);
            }
        }
        Err(HttpError::TooManyRedirects {
            site: redirect::site(&url),
            limit: limits.max_redirects,
        })
    }

    /// One hop. Every one of `origins` must be allowed to reach the address.
    async fn send(
        &self,
        url: &Url,
        origins: &[OriginClass],
        limits: &HttpLimits,
        request: &Request,
    ) -> Result<reqwest::Response, HttpError> {
        let host = url
            .host_str()
            .ok_or_else(|| HttpError::UnsupportedScheme(url.scheme().to_owned()))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let endpoints = self
            .transport
            .endpoints_for(host, port, origins, limits.protocol, limits.family)
            .await?;
        let address = |endpoint| match endpoint {
            Endpoint::Address(address) => Some(address),
            Endpoint::Name(..) => None,
        };
        let addresses: Vec<SocketAddr> = endpoints.into_iter().filter_map(address).collect();
        let site = Site::new(url, &addresses, request.coding);
        let get = |client: &reqwest::Client| {
            let builder = match request.body.clone() {
                Some(body) => client.post(url.clone()).body(body),
                None => client.get(url.clone()),
            };
            builder.headers(request.headers.clone()).send()
        };
        if let Some(client) = self.transport.http_clients().find(&site) {
            match get(&client).await {
                Err(error) if may_be_stale(&error) => {
                    tracing::debug!(site = redirect::site(url), "a kept connection has gone");
                }
                done => return done.map_err(|error| self.not_reached(url, error)),
            }
        }
        let tls = match url.scheme() {
            "https" => trusting_system_roots().await?,
            _ => trusting_nobody(),
        };
        let client = build_client(&self.transport, url, addresses, request.coding, tls)
            .map_err(|error| failed(url, error))?;
        self.transport.http_clients().keep(site, client.clone());
        get(&client)
            .await
            .map_err(|error| self.not_reached(url, error))
    }

    /// Says who was in between.
    fn not_reached(&self, url: &Url, error: reqwest::Error) -> HttpError {
        match (failed(url, error), self.transport.proxy()) {
            (
                HttpError::Failed {
                    site,
                    reason,
                    source,
                },
                Some(proxy),
            ) => HttpError::Failed {
                site,
                reason: format!("{reason} (through the proxy {proxy})"),
                source,
            },
            (error, _) => error,
        }
    }
}

/// What is asked for at every hop.
struct Request {
    headers: header::HeaderMap,
    coding: Coding,
    /// What is sent; `None` where something is only asked for.
    body: Option<String>,
}

/// Whether a request may have failed because the server closed a kept connection just then: there was a connection, and no
/// reply came. Requests are GETs, and actions that change nothing when they are made twice.
fn may_be_stale(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// A client for hops to one site. The library connects to a literal address in the URL by itself, which was checked; for a name
/// it asks the resolver it is given, which knows that name alone.
fn build_client(
    transport: &Transport,
    url: &Url,
    addresses: Vec<SocketAddr>,
    coding: Coding,
    tls: rustls::ClientConfig,
) -> reqwest::Result<reqwest::Client> {
    let (compressed, idle) = match coding {
        Coding::Any => (true, MAX_IDLE_PER_SITE),
        Coding::Identity => (false, MAX_IDLE_PER_ORIGIN),
    };
    let builder = match transport.is_anonymous() {
        true => reqwest::Client::builder(),
        false => reqwest::Client::builder().user_agent(USER_AGENT),
    };
    let builder = builder
        .tls_backend_preconfigured(tls)
        .no_proxy()
        // Shared out among the addresses, so that a dead first one leaves time for the next.
        .connect_timeout(transport.connect_timeout())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(MAX_IDLE_TIME)
        .http1_only()
        .http1_max_headers(MAX_HEADERS)
        .gzip(compressed)
        .deflate(compressed)
        .dns_resolver(Checked {
            host: match url.host() {
                Some(Host::Domain(name)) if transport.proxy().is_none() => Some(name.to_owned()),
                _ => None,
            },
            addresses,
        });
    let builder = match transport.proxy() {
        Some(proxy) => builder.proxy(through(proxy)?),
        None => builder,
    };
    match transport.binding() {
        Binding::Any => builder,
        Binding::Address(address) => builder.local_address(*address),
        Binding::Interface(name) => on_interface(builder, name),
    }
    .build()
}

/// Everything goes there, whatever its scheme and host.
fn through(proxy: &Proxy) -> reqwest::Result<reqwest::Proxy> {
    let everything = reqwest::Proxy::all(proxy.for_library())?;
    Ok(match proxy.login() {
        Some((name, password)) => everything.basic_auth(name, password),
        None => everything,
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn on_interface(builder: reqwest::ClientBuilder, name: &str) -> reqwest::ClientBuilder {
    builder.interface(name)
}

/// Where devices cannot be bound, [`Transport::start`] has refused the binding. Should one come here all the same, no
/// socket can have this source.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn on_interface(builder: reqwest::ClientBuilder, _name: &str) -> reqwest::ClientBuilder {
    builder.local_address(std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST))
}

/// Answers with the addresses that were checked, for the host they were checked for.
struct Checked {
    host: Option<String>,
    addresses: Vec<SocketAddr>,
}

impl reqwest::dns::Resolve for Checked {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let answer: Result<reqwest::dns::Addrs, Box<dyn StdError + Send + Sync>> =
            if self.host.as_deref() == Some(name.as_str()) {
                Ok(Box::new(self.addresses.clone().into_iter()))
            } else {
                Err("a host that was not checked".into())
            };
        Box::pin(std::future::ready(answer))
    }
}

/// Reads the body as it is decompressed and stops at the bound.
async fn read_reply(
    mut response: reqwest::Response,
    final_url: Url,
    max_body_bytes: usize,
) -> Result<HttpReply, HttpError> {
    let too_large = || HttpError::TooLarge {
        site: redirect::site(&final_url),
        limit_bytes: max_body_bytes,
    };
    let claimed = response.content_length().unwrap_or(0);
    let claimed = usize::try_from(claimed).map_err(|_| too_large())?;
    if claimed > max_body_bytes {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(claimed.min(FIRST_CAPACITY_BYTES));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(&final_url, error))?
    {
        if chunk.len() > max_body_bytes - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpReply {
        remote: response.remote_addr(),
        status: response.status().as_u16(),
        content_type: header_text(&response, &header::CONTENT_TYPE),
        retry_after_s: header_text(&response, &header::RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok()),
        final_url,
        body,
    })
}

fn header_text(response: &reqwest::Response, name: &header::HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

fn failed(url: &Url, error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let mut innermost: &dyn StdError = &error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    HttpError::Failed {
        site: redirect::site(url),
        reason: innermost.to_string(),
        source: Box::new(error),
    }
}

/// For hops without TLS: the library wants a configuration, and reading the system's certificates takes milliseconds.
fn trusting_nobody() -> rustls::ClientConfig {
    tls_config(rustls::RootCertStore::empty())
}

/// The system's certificate authorities, read once.
async fn trusting_system_roots() -> Result<rustls::ClientConfig, HttpError> {
    static CONFIG: OnceLock<Option<rustls::ClientConfig>> = OnceLock::new();
    if CONFIG.get().is_none() {
        // Reading files is for a blocking thread; if two requests are the first, the second result is dropped.
        let read = tokio::task::spawn_blocking(read_system_roots).await;
        if let Ok(config) = read {
            let _ = CONFIG.set(config);
        }
    }
    CONFIG
        .get()
        .cloned()
        .flatten()
        .ok_or(HttpError::NoCertificateAuthorities)
}

fn read_system_roots() -> Option<rustls::ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate authority could not be read");
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    (!roots.is_empty()).then(|| tls_config(roots))
}

/// The provider is named here rather than taken from the process, so that no start-up order matters.
fn tls_config(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring implements the protocol versions that rustls considers safe");
    builder.with_root_certificates(roots).with_no_client_auth()
}
