//! A listener: accepts connections, serves them, and stops without losing a request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::admission::{ConnectionSettings, Connections, Slot};
use super::connection::{TimedStream, TrackedResponse};
use crate::http::wire::client_address::PeerAddress;
use crate::http::wire::problem::Problem;

/// How long what has begun may take to finish once the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request: request line and headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// The pause after an error of `accept`, such as "too many open files", which would come again at
/// once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The two steps in which a node stops, so that no request is lost: a client that keeps a
/// connection open learns from a response that it is the last one, before connections are closed.
#[derive(Clone, Default)]
pub struct Lifecycle {
    /// The node is about to stop: it serves on, and closes each connection with the next response.
    pub stopping: CancellationToken,
    /// Nothing is accepted any more, idle connections are closed, and open requests are finished.
    pub shutdown: CancellationToken,
    /// Nothing is waited for any more.
    pub abort: CancellationToken,
}

/// Serves the router until `lifecycle.shutdown` is cancelled, then lets open requests finish,
/// [`DRAIN_TIMEOUT`] at most.
///
/// `axum::serve` has no time-outs for reading a head and no bound on connections, so the loop is
/// our own.
///
/// `name` is the listener's label in metrics.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    settings: ConnectionSettings,
    lifecycle: Lifecycle,
) {
    let connections = Arc::new(Connections::new(name, settings));
    let tasks = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = lifecycle.shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::warn!(%error, listener = name, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Some(slot) = connections.admit(peer) else { continue };
        let _ = stream.set_nodelay(true);
        tasks.spawn(serve_connection(
            (stream, peer),
            slot,
            connections.clone(),
            router.clone(),
            lifecycle.clone(),
        ));
    }
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = lifecycle.abort.cancelled() => {}
        () = tokio::time::sleep(DRAIN_TIMEOUT) => {
            tracing::warn!(listener = name, connections = tasks.len(), "gave up waiting for open \
                connections");
        }
    }
}

async fn serve_connection<S>(
    (stream, peer): (S, IpAddr),
    slot: Slot,
    connections: Arc<Connections>,
    router: Router,
    lifecycle: Lifecycle,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Lifecycle { stopping, shutdown, .. } = lifecycle;
    let activity = slot.activity.clone();
    let stream = TimedStream::new(stream, activity.clone(), connections.idle_timeout());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let activity = activity.clone();
        let stopping = stopping.clone();
        let connections = connections.clone();
        async move {
            activity.head_arrived();
            let mut response = match malformed_head(&request, activity.has_bare_line_feed()) {
                Some(problem) => problem.into_response(),
                None => {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(PeerAddress(peer));
                    router.oneshot(request).await.unwrap_or_else(|never| match never {})
                }
            };
            if stopping.is_cancelled() || connections.are_crowded() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(TrackedResponse::watch(response, activity))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // TimedStream has the time-outs: hyper's own would also end a connection that is merely
        // idle.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        // It was idle just before: nothing is lost, or what any client repeats that keeps
        // connections.
        () = slot.close.cancelled(), if !slot.activity.is_responding() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Returns what is wrong with a head that hyper accepts, and RFC 9112 does not: sections 2.2 (lines
/// end with CRLF) and 3.2 (exactly one `Host`, with a host in it). A proxy in front may read such a
/// request otherwise.
fn malformed_head(request: &Request<Incoming>, has_bare_line_feed: bool) -> Option<Problem> {
    if has_bare_line_feed {
        return Some(Problem::malformed_head("head", "a line ends without CR"));
    }
    let problem = host_problem(request.headers(), request.version())?;
    Some(Problem::malformed_head("Host", problem))
}

fn host_problem(headers: &HeaderMap, version: Version) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        return (version == Version::HTTP_11).then_some("is missing");
    };
    if hosts.next().is_some() {
        return Some("must be there once");
    }
    let is_authority = |host: &str| host.parse::<Authority>().is_ok_and(|_| !host.contains('@'));
    let is_host = host.is_empty() || host.to_str().is_ok_and(is_authority);
    (!is_host).then_some("must be a host, and a port where there is one")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::response::sse::{KeepAlive, Sse};
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::super::connection::{HEAD_TIMEOUT, WRITE_TIMEOUT};
    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
    const KEEP_ALIVE: Duration = Duration::from_secs(15);

    /// A connection in memory that holds this many bytes on their way, and the task that serves it.
    fn connect(bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        connect_with(bytes, Lifecycle::default())
    }

    fn connect_with(bytes: usize, lifecycle: Lifecycle) -> (DuplexStream, JoinHandle<()>) {
        let quiet = || async {
            Sse::new(stream::pending::<Result<_, Infallible>>())
                .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/large", get(|| async { "x".repeat(1 << 20) }))
            .route("/stream", get(quiet));
        let (client, server) = duplex(bytes);
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let settings = ConnectionSettings {
            max: 10,
            max_per_address: 10,
            idle_timeout: IDLE_TIMEOUT,
            trusted_proxies: Arc::new([]),
        };
        let connections = Arc::new(Connections::new("test", settings));
        let slot = connections.admit(peer).unwrap();
        (
            client,
            tokio::spawn(serve_connection((server, peer), slot, connections, router, lifecycle)),
        )
    }

    async fn send(client: &mut DuplexStream, path: &str) {
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
    }

    /// Reads until this text has come.
    async fn read_until(client: &mut DuplexStream, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let read = client.read_u8().await.unwrap();
            text.push(read.into());
        }
        text
    }

    /// What comes until the connection is closed, and how long that takes.
    async fn read_to_end(client: &mut DuplexStream) -> (String, Duration) {
        let started = Instant::now();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        (String::from_utf8(bytes).unwrap(), started.elapsed())
    }

    /// The time-outs are whole seconds; the timer's resolution is a millisecond.
    fn assert_took(took: Duration, expected: Duration) {
        assert!(
            took >= expected && took < expected + Duration::from_millis(10),
            "{took:?} instead of {expected:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connection_is_closed_after_the_head_timeout() {
        let (mut client, _server) = connect(1024);
        let (response, took) = read_to_end(&mut client).await;
        assert_eq!(response, "");
        assert_took(took, HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn head_that_arrives_byte_by_byte_is_given_no_more_time() {
        let (mut client, server) = connect(1024);
        let started = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        while !server.is_finished() {
            assert!(
                started.elapsed() < 2 * HEAD_TIMEOUT,
                "a byte every 100 ms keeps the connection open"
            );
            let _ = client.write_all(b"x").await;
            sleep(Duration::from_millis(100)).await;
        }
        assert!(started.elapsed() >= HEAD_TIMEOUT, "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn second_head_has_the_head_timeout_too() {
        let (mut client, _server) = connect(1024);
        send(&mut client, "/").await;
        read_until(&mut client, "hello").await;
        sleep(IDLE_TIMEOUT / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_took(read_to_end(&mut client).await.1, HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_closed_after_the_idle_timeout_and_serves_until_then() {
        let (mut client, _server) = connect(1024);
        for _ in 0..3 {
            send(&mut client, "/").await;
            assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
            sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        }
        send(&mut client, "/").await;
        read_until(&mut client, "hello").await;
        let (more, took) = read_to_end(&mut client).await;
        assert_eq!(more, "");
        assert_took(took, IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_stream_outlives_the_idle_timeout() {
        let (mut client, _server) = connect(1024);
        send(&mut client, "/stream").await;
        read_until(&mut client, "\r\n\r\n").await;
        let started = Instant::now();
        for comments in 1..=20 {
            read_until(&mut client, ":\n\n\r\n").await;
            assert_took(started.elapsed(), KEEP_ALIVE * comments);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_accepts_nothing_of_a_response_is_cut_off() {
        let (mut client, server) = connect(1024);
        send(&mut client, "/large").await;
        let started = Instant::now();
        server.await.unwrap();
        assert_took(started.elapsed(), WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_is_slow_but_reads_gets_the_whole_response() {
        let (mut client, _server) = connect(64 * 1024);
        send(&mut client, "/large").await;
        let started = Instant::now();
        let mut body = 0;
        let mut part = vec![0; 64 * 1024];
        while body < 1 << 20 {
            let read = client.read(&mut part).await.unwrap();
            assert!(read > 0, "cut off after {body} bytes and {:?}", started.elapsed());
            body += read;
            sleep(WRITE_TIMEOUT / 2).await;
        }
        assert!(started.elapsed() > 2 * WRITE_TIMEOUT, "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_node_closes_a_connection_with_its_next_response() {
        let lifecycle = Lifecycle::default();
        let (mut client, server) = connect_with(1024, lifecycle.clone());
        send(&mut client, "/").await;
        assert!(!read_until(&mut client, "hello").await.contains("connection: close"));
        lifecycle.stopping.cancel();
        sleep(IDLE_TIMEOUT / 2).await;
        send(&mut client, "/").await;
        let (response, took) = read_to_end(&mut client).await;
        assert!(
            response.starts_with("HTTP/1.1 200") && response.contains("connection: close"),
            "{response}"
        );
        assert!(
            response.ends_with("hello") && took < Duration::from_millis(10),
            "{response} {took:?}"
        );
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_closes_an_idle_connection_at_once() {
        let lifecycle = Lifecycle::default();
        let (mut client, _server) = connect_with(1024, lifecycle.clone());
        send(&mut client, "/").await;
        read_until(&mut client, "hello").await;
        lifecycle.shutdown.cancel();
        assert!(read_to_end(&mut client).await.1 < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn head_that_proxies_read_otherwise_is_400_and_the_end_of_the_connection() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        ] {
            let (mut client, _server) = connect(1024);
            client.write_all(head.as_bytes()).await.unwrap();
            let (response, _) = read_to_end(&mut client).await;
            assert!(
                response.starts_with("HTTP/1.1 400") || response.starts_with("HTTP/1.0 400"),
                "{head:?}: {response}"
            );
            assert!(response.contains("invalid_request"), "{head:?}: {response}");
        }
        for head in [
            "GET / HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            let (mut client, _server) = connect(1024);
            client.write_all(head.as_bytes()).await.unwrap();
            assert!(read_to_end(&mut client).await.0.ends_with("hello"), "{head:?}");
        }
    }
}
