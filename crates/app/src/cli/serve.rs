//! `sessiond serve`: starts a node, serves, reloads, and stops.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use application::{Intervals, TaskEnded};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::demo::Demo;
use super::greeting::Greeting;
use super::signals::Signals;
use crate::composition::credentials;
use crate::composition::interfaces::{Interfaces, Keys};
use crate::composition::node::Node;
use crate::config::{Settings, Values};
use crate::file_descriptors::FileDescriptors;
use crate::http::{DRAIN_TIMEOUT, Lifecycle, initialise_metrics, serve};
use crate::telemetry::{self, Logging};

/// The exit code of a node whose background work has failed: `EX_SOFTWARE` of sysexits(3).
const BACKGROUND_FAILED: u8 = 70;

/// What closing connections may take beyond [`DRAIN_TIMEOUT`], where that was used up.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until SIGTERM or SIGINT, or until background work fails. A demo adds routes and traffic.
pub(super) async fn run(
    settings: Settings,
    config: Option<PathBuf>,
    demo: Option<Demo>,
) -> Result<ExitCode> {
    let logging = Logging::start(&settings)?;
    if !settings.passed_over.is_empty() {
        let names = settings.passed_over.join(", ");
        tracing::warn!(
            names,
            "ignored variables that are no configuration: ours are SESSIOND_SECTION__KEY"
        );
    }
    // Handlers first: a signal that comes while connecting must not be lost.
    let signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let metrics = telemetry::start_metrics(logging.dropped())?;
    refuse_dev_keys_off_loopback(&settings)?;
    let dev_keys = credentials::dev_keys(&settings)?;
    // The database first: that another node uses it explains more than that its address is in use.
    let mut node = Node::connect(&settings).await?;
    let public = bind("server.listen", settings.listen).await?;
    let service = bind("server.service_listen", settings.service_listen).await?;
    let public_addr = public.local_addr()?;
    let service_addr = service.local_addr()?;
    // Last: a start that has failed must not leave keys behind that no node knows.
    let credentials = credentials::credentials(&settings)?;

    let file_descriptors = FileDescriptors::raise(&settings);
    let intervals = Intervals { poll: settings.poll, cleanup: settings.cleanup_interval };
    let served = CancellationToken::new();
    let background = start_background(&mut node, intervals, served.clone(), &signals).await?;
    let greeting = Greeting { node: &node, public_addr, service_addr, demo: demo.as_ref() };
    greeting.print(&credentials, &dev_keys)?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(public = %public_addr, service = %service_addr, version, "ready");

    initialise_metrics();
    let keys = Keys::new(credentials);
    let mut interfaces = Interfaces::new(&node, &keys, &settings, metrics, shutdown.clone());
    let mut helpers = JoinSet::new();
    helpers.spawn(interfaces.limits.keep_small());
    helpers.spawn(node.nodes.clone().report_regularly());
    if let Some(demo) = &demo {
        let routes = demo.routes(node.application.clone(), &settings.auth.cookie_name);
        interfaces.public = interfaces.public.merge(routes);
        helpers.spawn(demo.traffic(node.application.clone()));
        demo.open(public_addr, service_addr);
    }
    let lifecycle =
        Lifecycle { stopping: signals.stop.clone(), shutdown, abort: signals.abort.clone() };
    let serving = async {
        tokio::join!(
            wait_for_stop(&node, &signals, &lifecycle, settings.shutdown_delay),
            serve(
                "public",
                public,
                interfaces.public,
                file_descriptors.public(&settings),
                lifecycle.clone()
            ),
            serve(
                "service",
                service,
                interfaces.service,
                file_descriptors.service(&settings),
                lifecycle.clone()
            ),
        )
    };
    let (deadline, (), ()) = tokio::select! {
        stopped = serving => stopped,
        never = reload_on_hangup(&node, &keys, &logging, config.as_deref()) => never?,
        never = supervise(&mut helpers) => never,
    };
    helpers.abort_all();
    // Nothing is served any more. What the last requests recorded is written after them.
    served.cancel();
    let deadline = deadline.max(Instant::now() + CLOSE_TIMEOUT);
    close(&node, background, deadline, &signals.abort).await
}

/// Reports a helper task that has ended, which none should. The node goes on without it: none of
/// them holds a promise.
async fn supervise<T>(helpers: &mut JoinSet<()>) -> T {
    while let Some(ended) = helpers.join_next().await {
        let error = ended.err().map_or("it returned".to_owned(), |error| error.to_string());
        tracing::error!(error, "a helper task of this node has ended");
    }
    std::future::pending().await
}

/// Waits for a signal to stop. From then on the node is not ready, and after `delay`, in which load
/// balancers notice that, its listeners close. Returns until when requests that have begun may go
/// on.
async fn wait_for_stop(
    node: &Node,
    signals: &Signals,
    lifecycle: &Lifecycle,
    delay: Duration,
) -> Instant {
    lifecycle.stopping.cancelled().await;
    node.health.stopping();
    tracing::info!(?delay, "stopping: not ready any more");
    let _ = tokio::time::timeout(delay, signals.at_once.cancelled()).await;
    tracing::info!("finishing the requests that have begun");
    lifecycle.shutdown.cancel();
    Instant::now() + DRAIN_TIMEOUT
}

/// Writes what is in memory, leaves the peers, and closes every connection, until `deadline` at the
/// latest.
async fn close(
    node: &Node,
    background: JoinHandle<Result<(), TaskEnded>>,
    deadline: Instant,
    abort: &CancellationToken,
) -> Result<ExitCode> {
    let closing = async {
        let result = background.await;
        node.application.leave().await;
        node.nodes.leave().await;
        node.close().await;
        result
    };
    let closed = tokio::select! {
        closed = tokio::time::timeout_at(deadline, closing) => closed.ok(),
        () = abort.cancelled() => None,
    };
    match closed.transpose()? {
        None => {
            tracing::warn!(
                "gave up waiting for database or cache; activity that was not written is lost"
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Ok(())) => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Some(Err(error)) => {
            tracing::error!(%error, "stopped, because background work has failed");
            Ok(ExitCode::from(BACKGROUND_FAILED))
        }
    }
}

/// Reads the configuration again each time that SIGHUP comes: secrets, keys, the GeoIP file and the
/// log level. A configuration with an error leaves everything as it was.
async fn reload_on_hangup<T>(
    node: &Node,
    keys: &Keys,
    logging: &Logging,
    config: Option<&Path>,
) -> Result<T> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        match reload(node, keys, logging, config).await {
            Ok(failed) if failed.is_empty() => {
                tracing::info!("read secrets, keys, the GeoIP file and the log level again");
            }
            Ok(failed) => {
                for error in failed {
                    let error = format!("{error:#}");
                    tracing::error!(error, "cannot reload this; the rest was read again");
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "cannot reload; everything stays as it was");
            }
        }
    }
}

/// Reads the configuration again and applies it. Returns what could not be applied; that stays as
/// it was.
///
/// # Errors
/// If the configuration has an error: then nothing of it is applied.
async fn reload(
    node: &Node,
    keys: &Keys,
    logging: &Logging,
    config: Option<&Path>,
) -> Result<Vec<anyhow::Error>> {
    let settings = Settings::from_values(&Values::load(config)?)?;
    refuse_dev_keys_off_loopback(&settings)?;
    keys.replace(credentials::credentials(&settings)?);
    let mut failed = node.reload(&settings).await;
    failed.extend(logging.set_level(&settings.log_level).err());
    Ok(failed)
}

/// Starts the background work of a node, which goes on until `served`. If it fails before, the node
/// is not ready any more, and stops.
async fn start_background(
    node: &mut Node,
    intervals: Intervals,
    served: CancellationToken,
    signals: &Signals,
) -> Result<JoinHandle<Result<(), TaskEnded>>> {
    let mut background_tasks =
        node.background_tasks.take().context("the background tasks of this node run already")?;
    // The first poll, so that caches are of use from the first request on. If it fails, there will
    // be others.
    if let Err(error) = background_tasks.poll().await {
        tracing::debug!(%error, "cannot poll the revocation log yet");
    }
    let health = node.health.clone();
    let stop = signals.stop.clone();
    let shutdown = application::shutdown(async move { served.cancelled().await });
    Ok(tokio::spawn(async move {
        let result = background_tasks.run(intervals, shutdown, tokio::spawn).await;
        if let Err(error) = &result {
            tracing::error!(%error, "this node stops");
            health.stopping();
            stop.cancel();
        }
        result
    }))
}

/// Refuses development keys off loopback: a caller from another machine who has one has read its
/// file, or was given it: neither is authentication.
fn refuse_dev_keys_off_loopback(settings: &Settings) -> Result<()> {
    if !settings.auth.has_token_keys() && !settings.listen.ip().is_loopback() {
        bail!(
            "server.listen: {} is not loopback, and there are only development keys; configure \
                auth.jwt.* first",
            settings.listen
        );
    }
    if settings.auth.service_keys.is_empty() && !settings.service_listen.ip().is_loopback() {
        bail!(
            "server.service_listen: {} is not loopback, and there is only a development key; \
                configure auth.service_keys first",
            settings.service_listen
        );
    }
    Ok(())
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    let hint =
        format!("{key}: cannot listen on {address} (stop what uses it, or set another address)");
    TcpListener::bind(address).await.context(hint)
}
