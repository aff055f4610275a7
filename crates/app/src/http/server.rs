use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client_address::PeerAddress;
use super::connection::{Answering, Deadlines, TimedStream};

/// How long what has begun may take to finish once the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of one listener at a time. More wait in the operating system's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// The largest head of a request: request line and headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// The pause after an error of `accept`, such as "too many open files", which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the router until `shutdown` is cancelled, then lets open requests finish, [`DRAIN_TIMEOUT`] at most.
///
/// `axum::serve` has no time-outs for reading a head and no bound on connections, so the loop is our own.
///
/// `name` tells the listeners apart in metrics.
pub async fn serve(name: &'static str, listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (stream, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            Some((accepted, place)) = accepted => match accepted {
                Ok((stream, peer)) => ((stream, peer.ip()), place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(async move {
            let gauge = metrics::gauge!("sessiond_http_connections", "listener" => name);
            gauge.increment(1);
            serve_connection(stream, router, shutdown).await;
            gauge.decrement(1);
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "gave up waiting for open connections");
    }
}

async fn serve_connection((stream, peer): (TcpStream, IpAddr), router: Router, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let deadlines = Deadlines::default();
    let stream = TimedStream::new(stream, deadlines.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, deadlines) = (router.clone(), deadlines.clone());
        async move {
            deadlines.head_arrived();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(PeerAddress(peer));
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(Answering::watch(response, deadlines))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // TimedStream has the time-outs: hyper's own would also end a connection that is merely idle.
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
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
