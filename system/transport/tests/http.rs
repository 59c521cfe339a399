//! HTTP against servers on loopback that try to be fetched from where they should not, or to send too much.
//!
//! 127.0.0.1 is opened in the policy and plays the Internet; 127.0.0.2 is not and plays this machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shoal_transport::{
    AddressFamily, HttpError, HttpLimits, HttpReply, Lookup, OriginClass, Protocol, Resolve,
    ResolveError, Transport, TransportConfig,
};

/// Every name is 127.0.0.1, except `inside.test`, which is 127.0.0.2, and `both.test`, which is both families.
struct Names;

impl Resolve for Names {
    fn lookup(&self, host: &str) -> Lookup {
        let answer: Vec<IpAddr> = match host {
            "inside.test" => vec![IpAddr::from([127, 0, 0, 2])],
            "both.test" => vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            _ => vec![IpAddr::from([127, 0, 0, 1])],
        };
        Box::pin(async move { Ok(answer) })
    }
}

struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// Serves each request on a connection of its own with what `respond` makes of its path. Ends with the test process.
fn serve(ip: &str, respond: impl Fn(&str, SocketAddr) -> Vec<u8> + Send + 'static) -> Server {
    serve_on(
        TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap(),
        respond,
    )
}

fn serve_on(
    listener: TcpListener,
    respond: impl Fn(&str, SocketAddr) -> Vec<u8> + Send + 'static,
) -> Server {
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, count) = (Arc::clone(&requests), Arc::clone(&connections));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let request = read_head(&mut stream);
            let path = request.split(' ').nth(1).unwrap_or("").to_owned();
            seen.lock().unwrap().push(request);
            // A client that has had enough closes in the middle.
            let _ = stream.write_all(&respond(&path, address));
        }
    });
    Server {
        address,
        requests,
        connections,
    }
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn ok(body: &[u8]) -> Vec<u8> {
    with_headers(200, "Content-Type: text/plain\r\n", body)
}

fn redirect(location: &str) -> Vec<u8> {
    with_headers(302, &format!("Location: {location}\r\n"), b"")
}

fn with_headers(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn internet() -> Transport {
    Transport::start(TransportConfig {
        allow_net: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        resolver: Arc::new(Names),
        ..TransportConfig::default()
    })
    .unwrap()
}

fn limits() -> HttpLimits {
    HttpLimits {
        protocol: Protocol::Http,
        max_body_bytes: 100_000,
        timeout: Duration::from_secs(30),
        max_redirects: 5,
        family: None,
    }
}

async fn get(url: &str) -> Result<HttpReply, HttpError> {
    let url = url.parse().unwrap();
    internet()
        .http()
        .get(url, OriginClass::Metainfo, limits())
        .await
}

fn is_refused(result: &Result<HttpReply, HttpError>) -> bool {
    matches!(
        result,
        Err(HttpError::Resolve(ResolveError::Refused { .. }))
    )
}

#[tokio::test]
async fn a_reply_comes_with_what_a_tracker_client_needs() {
    let server = serve("127.0.0.1", |_, _| {
        with_headers(
            503,
            "Content-Type: text/html\r\nRetry-After: 120\r\n",
            b"later",
        )
    });
    let url = format!(
        "http://tracker.test:{}/announce?info_hash=%00%ff",
        server.address.port()
    );
    let reply = get(&url).await.unwrap();
    assert_eq!(reply.status, 503);
    assert_eq!(reply.body, b"later");
    assert_eq!(reply.content_type.as_deref(), Some("text/html"));
    assert_eq!(reply.retry_after_s, Some(120));
    assert_eq!(reply.final_url.as_str(), url);
    let request = server
        .requests
        .lock()
        .unwrap()
        .remove(0)
        .to_ascii_lowercase();
    assert!(
        request.starts_with("get /announce?info_hash=%00%ff http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("user-agent: shoal/0.1.0\r\n"), "{request}");
    assert!(!request.contains("referer"), "{request}");
}

#[tokio::test]
async fn whoever_is_anonymous_does_not_say_which_program_asks() {
    let server = serve("127.0.0.1", |_, _| ok(b"here"));
    let transport = Transport::start(TransportConfig {
        allow_net: vec!["127.0.0.1".parse().unwrap()],
        anonymous: true,
        ..TransportConfig::default()
    });
    let url = format!("http://127.0.0.1:{}/", server.address.port());
    let asked = transport.unwrap().http();
    let asked = asked.get(url.parse().unwrap(), OriginClass::Metainfo, limits());
    assert_eq!(asked.await.unwrap().body, b"here");
    let request = server.requests.lock().unwrap().remove(0);
    let request = request.to_ascii_lowercase();
    let names = ["user-agent", "shoal", "reqwest"];
    assert!(
        !names.iter().any(|name| request.contains(name)),
        "{request}"
    );
}

#[tokio::test]
async fn a_redirect_to_this_machine_is_not_followed() {
    let inside = serve("127.0.0.2", |_, _| ok(b"secret"));
    let port = inside.address.port();
    for target in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://2130706434:{port}/"),
        format!("http://0177.0.0.02:{port}/"),
        format!("http://0x7f000002:{port}/"),
        format!("http://127.2:{port}/"),
        format!("http://[::ffff:127.0.0.2]:{port}/"),
        format!("http://[64:ff9b::127.0.0.2]:{port}/"),
        format!("http://[2002:7f00:2::]:{port}/"),
        format!("http://inside.test:{port}/"),
        format!("//inside.test:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::]:{port}/"),
    ] {
        let location = target.clone();
        let outside = serve("127.0.0.1", move |_, _| redirect(&location));
        for origin in [OriginClass::Metainfo, OriginClass::User] {
            let url = format!("http://outside.test:{}/", outside.address.port());
            let url = url.parse().unwrap();
            let result = internet().http().get(url, origin, limits()).await;
            assert!(is_refused(&result), "{origin:?} {target}: {result:?}");
        }
        // A stranger's URL that names it outright fares no better.
        if target.starts_with("http:") {
            let result = get(&target).await;
            assert!(is_refused(&result), "{target}: {result:?}");
        }
    }
    assert_eq!(inside.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_the_user_named_on_this_machine_is_fetched() {
    let inside = serve("127.0.0.2", |_, _| ok(b"mine"));
    let url = format!("http://{}/", inside.address).parse().unwrap();
    let reply = internet()
        .http()
        .get(url, OriginClass::User, limits())
        .await
        .unwrap();
    assert_eq!(reply.body, b"mine");
}

#[tokio::test]
async fn redirects_are_followed_and_loops_end() {
    let server = serve("127.0.0.1", |path, _| match path {
        "/start" => redirect("next"),
        "/next" => redirect("/end"),
        "/end" => ok(b"there"),
        _ => redirect("/loop"),
    });
    let port = server.address.port();
    let reply = get(&format!("http://a.test:{port}/start")).await.unwrap();
    assert_eq!(reply.body, b"there");
    assert_eq!(reply.final_url.path(), "/end");

    let before = server.connections.load(Ordering::SeqCst);
    let error = get(&format!("http://a.test:{port}/loop"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HttpError::TooManyRedirects { limit: 5, .. }),
        "{error}"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst) - before, 6);
}

#[tokio::test]
async fn credentials_are_sent_to_their_origin_only() {
    let elsewhere = serve("127.0.0.1", |_, _| ok(b"done"));
    let other = elsewhere.address.port();
    let server = serve("127.0.0.1", move |path, _| match path {
        "/start" => redirect("/same"),
        _ => redirect(&format!("http://b.test:{other}/")),
    });
    let reply = get(&format!(
        "http://me:secret@a.test:{}/start",
        server.address.port()
    ))
    .await;
    assert_eq!(reply.unwrap().body, b"done");
    let authorised = |server: &Server| -> Vec<bool> {
        let requests = server.requests.lock().unwrap();
        let has = |request: &String| request.to_ascii_lowercase().contains("authorization:");
        requests.iter().map(has).collect()
    };
    assert_eq!(authorised(&server), [true, true]);
    assert_eq!(authorised(&elsewhere), [false]);
}

#[tokio::test]
async fn a_bomb_is_cut_at_the_bound_of_what_it_unpacks_to() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 50_000_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(
        bomb.len() < 90_000,
        "it must pass a bound on what is received: {}",
        bomb.len()
    );
    let mut small = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    small.write_all(&vec![7; 100_000]).unwrap();
    let small = small.finish().unwrap();

    let server = serve("127.0.0.1", move |path, _| {
        let body = if path == "/bomb" { &bomb } else { &small };
        with_headers(200, "Content-Encoding: gzip\r\n", body)
    });
    let port = server.address.port();
    let error = get(&format!("http://a.test:{port}/bomb"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            HttpError::TooLarge {
                limit_bytes: 100_000,
                ..
            }
        ),
        "{error}"
    );
    let reply = get(&format!("http://a.test:{port}/small")).await.unwrap();
    assert!(reply.body == vec![7; 100_000]);
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_at_the_bound_too() {
    let server = serve("127.0.0.1", |path, _| match path {
        "/claims" => b"HTTP/1.1 200 X\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec(),
        "/exact" => [&b"HTTP/1.1 200 X\r\n\r\n"[..], &[7; 100_000]].concat(),
        _ => [&b"HTTP/1.1 200 X\r\n\r\n"[..], &[7; 100_001]].concat(),
    });
    let port = server.address.port();
    for path in ["claims", "stream"] {
        let error = get(&format!("http://a.test:{port}/{path}"))
            .await
            .unwrap_err();
        assert!(!error.to_string().contains(path), "{error}");
        let bounded = matches!(error, HttpError::TooLarge { .. } | HttpError::Failed { .. });
        assert!(bounded, "{path}: {error}");
    }
    let reply = get(&format!("http://a.test:{port}/exact")).await.unwrap();
    assert_eq!(reply.body.len(), 100_000);
}

#[tokio::test]
async fn a_server_that_stays_silent_costs_the_time_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let limits = HttpLimits {
        timeout: Duration::from_millis(50),
        ..limits()
    };
    let error = internet()
        .http()
        .get(url, OriginClass::User, limits)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_family_can_be_asked_for() {
    let port = serve_both_families();
    for (family, expected) in [(AddressFamily::V4, "four"), (AddressFamily::V6, "six")] {
        let url = format!("http://both.test:{port}/").parse().unwrap();
        let limits = HttpLimits {
            family: Some(family),
            ..limits()
        };
        let reply = internet()
            .http()
            .get(url, OriginClass::Tracker, limits)
            .await
            .unwrap();
        assert_eq!(reply.body, expected.as_bytes());
    }
    let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let limits = HttpLimits {
        family: Some(AddressFamily::V6),
        ..limits()
    };
    let error = internet()
        .http()
        .get(url, OriginClass::Tracker, limits)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HttpError::Resolve(ResolveError::WrongFamily { .. })),
        "{error}"
    );
}

/// The same port on both, which another test may hold on one of them: then another is tried.
fn serve_both_families() -> u16 {
    loop {
        let port = serve("127.0.0.1", |_, _| ok(b"four")).address.port();
        if let Ok(listener) = TcpListener::bind(("::1", port)) {
            serve_on(listener, |_, _| ok(b"six"));
            return port;
        }
    }
}

#[tokio::test]
async fn other_schemes_and_dead_servers_are_told_apart() {
    let error = get("ftp://a.test/").await.unwrap_err();
    assert!(matches!(error, HttpError::UnsupportedScheme(_)), "{error}");
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = get(&format!("http://{free}/passkey")).await.unwrap_err();
    assert!(matches!(error, HttpError::Failed { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("refused") && !text.contains("passkey"),
        "{text}"
    );
}

/// A server that keeps connections: answers the requests of each, of which the first has number 0, until `respond` has
/// nothing more to say. Gives how many requests came over each connection.
fn serve_kept(
    respond: impl Fn(usize, usize) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (seen, respond) = (Arc::clone(&requests), Arc::new(respond));
    std::thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
            seen.lock().unwrap().push(0);
            std::thread::spawn(move || {
                for number in 0.. {
                    if read_head(&mut stream).is_empty() {
                        return;
                    }
                    seen.lock().unwrap()[connection] += 1;
                    let Some(answer) = respond(connection, number) else {
                        return;
                    };
                    let _ = stream.write_all(&answer);
                }
            });
        }
    });
    (address, requests)
}

fn kept(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn get_through(transport: &Transport, url: String) -> Result<HttpReply, HttpError> {
    let url = url.parse().unwrap();
    let http = transport.http();
    http.get(url, OriginClass::Metainfo, limits()).await
}

#[tokio::test]
async fn a_connection_serves_the_next_request_to_the_same_site_and_no_other() {
    let (address, requests) = serve_kept(|_, _| Some(kept(b"again")));
    let (transport, port) = (internet(), address.port());
    for (host, path) in [
        ("a.test", "x"),
        ("a.test", "y"),
        ("b.test", "x"),
        ("a.test", "x"),
    ] {
        let url = format!("http://{host}:{port}/{path}");
        let reply = get_through(&transport, url).await.unwrap();
        assert_eq!(reply.body, b"again");
    }
    assert_eq!(*requests.lock().unwrap(), [3, 1]);
}

#[tokio::test]
async fn a_kept_connection_that_has_gone_is_replaced_once() {
    // Each connection ends with its second request, except that the third has none to begin with.
    let respond = |connection, number| (connection < 2 && number == 0).then(|| kept(b"once"));
    let (address, requests) = serve_kept(respond);
    let transport = internet();
    let url = format!("http://{address}/");
    for _ in 0..2 {
        let reply = get_through(&transport, url.clone()).await.unwrap();
        assert_eq!(reply.body, b"once");
    }
    assert_eq!(*requests.lock().unwrap(), [2, 1]);
    let error = get_through(&transport, url).await.unwrap_err();
    assert!(matches!(error, HttpError::Failed { .. }), "{error}");
    assert_eq!(*requests.lock().unwrap(), [2, 2, 1]);
}

#[tokio::test]
async fn a_connection_in_the_middle_of_a_reply_is_not_used_again() {
    let (address, requests) = serve_kept(|connection, _| {
        let length = if connection == 0 { 200_000 } else { 3 };
        Some(kept(&vec![b'x'; length]))
    });
    let transport = internet();
    let url = format!("http://{address}/");
    let error = get_through(&transport, url.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
    let reply = get_through(&transport, url).await.unwrap();
    assert_eq!(reply.body, b"xxx");
    assert_eq!(*requests.lock().unwrap(), [1, 1]);
}

#[tokio::test]
async fn a_kept_connection_opens_nothing_to_who_may_not_go_there() {
    let (address, requests) = serve_kept(|_, _| Some(kept(b"mine")));
    // Nothing is opened in this policy, so that only the user may name this machine.
    let transport = Transport::start(TransportConfig::default()).unwrap();
    let url: url::Url = format!("http://{address}/").parse().unwrap();
    let http = transport.http();
    let reply = http.get(url.clone(), OriginClass::User, limits()).await;
    assert_eq!(reply.unwrap().body, b"mine");
    let result = http.get(url, OriginClass::Metainfo, limits()).await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(*requests.lock().unwrap(), [1]);
}

/// Set in the child process of the test below.
const CHILD_URL: &str = "SHOAL_TEST_HTTPS_URL";

/// The system's authorities come from the environment, which a test cannot change for itself: the test runs itself
/// again as a process that trusts the server.
#[tokio::test]
async fn https_works_with_a_trusted_certificate_only() {
    if let Ok(url) = std::env::var(CHILD_URL) {
        assert_eq!(get(&url).await.unwrap().body, b"sealed");
        let other_name = url.replace("localhost", "other.test");
        assert!(matches!(
            get(&other_name).await,
            Err(HttpError::Failed { .. })
        ));
        return;
    }
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificate");
    let address = serve_tls(directory);
    let url = format!("https://localhost:{}/", address.port());

    let error = get(&url).await.unwrap_err();
    let refused = match &error {
        HttpError::Failed { reason, .. } => reason.contains("certificate"),
        // A machine without any authorities.
        other => matches!(other, HttpError::NoCertificateAuthorities),
    };
    assert!(refused, "{error}");

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "https_works_with_a_trusted_certificate_only"])
        .env(CHILD_URL, url)
        .env("SSL_CERT_FILE", format!("{directory}/cert.pem"))
        .env_remove("SSL_CERT_DIR")
        // A proxy in the environment must not be used: nobody is there.
        .env("HTTPS_PROXY", "http://127.0.0.3:9")
        .env("ALL_PROXY", "http://127.0.0.3:9")
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

fn serve_tls(directory: &str) -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(format!("{directory}/cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{directory}/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that distrusts the certificate ends the handshake.
            let _ = answer_tls(stream.unwrap(), Arc::clone(&config));
        }
    });
    address
}

fn answer_tls(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> std::io::Result<()> {
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = rustls::StreamOwned::new(connection, stream);
    read_head(&mut tls);
    tls.write_all(&ok(b"sealed"))?;
    tls.conn.send_close_notify();
    tls.flush()
}
