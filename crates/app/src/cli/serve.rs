//! `sessiond serve`: starts a node, serves, reloads, and stops.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use application::{Intervals, TaskEnded};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::auth::{DevKeys, ServiceKeys, TokenVerifier};
use crate::config::{Settings, Values};
use crate::descriptors::Descriptors;
use crate::http::{
    DRAIN_TIMEOUT, Lifecycle, Limits, MAX_EVENT_STREAMS, PublicState, ServiceState, initialise_metrics, public_router,
    serve, service_router,
};
use crate::telemetry::{self, Logging};
use crate::wiring::{self, Credentials, Node};

/// The user of the first session that the greeting suggests.
const EXAMPLE_USER: &str = "00000000-0000-4000-8000-000000000001";

/// The exit code of a node whose background work has failed: `EX_SOFTWARE` of sysexits(3).
const BACKGROUND_FAILED: u8 = 70;

/// What closing connections may take beyond [`DRAIN_TIMEOUT`], where that was used up.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until SIGTERM or SIGINT, or until background work fails.
pub(super) async fn run(settings: Settings, config: Option<PathBuf>) -> Result<ExitCode> {
    let logging = Logging::start(&settings)?;
    if !settings.passed_over.is_empty() {
        let names = settings.passed_over.join(", ");
        tracing::warn!(names, "passed over variables that are no configuration: ours are SESSIOND_SECTION__KEY");
    }
    // Handlers first: a signal that comes while connecting must not be lost.
    let signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let metrics = telemetry::start_metrics(logging.dropped())?;
    refuse_dev_keys_off_loopback(&settings)?;
    let dev_keys = wiring::dev_keys(&settings)?;
    // The database first: that another node uses it explains more than that its address is in use.
    let mut node = wiring::wire(&settings).await?;
    let public = bind("server.listen", settings.listen).await?;
    let service = bind("server.service_listen", settings.service_listen).await?;
    let (public_addr, service_addr) = (public.local_addr()?, service.local_addr()?);
    // Last: a start that has failed must not leave keys behind that no node knows.
    let credentials = wiring::credentials(&settings)?;

    let descriptors = Descriptors::raise(&settings);
    let intervals = Intervals { poll: settings.poll, cleanup: settings.cleanup_interval };
    let served = CancellationToken::new();
    let background = start_background(&mut node, intervals, served.clone(), &signals).await?;
    let greeting = Greeting { node: &node, public_addr, service_addr };
    greeting.print(&credentials, &dev_keys)?;
    tracing::info!(public = %public_addr, service = %service_addr, version = env!("CARGO_PKG_VERSION"), "ready");

    initialise_metrics();
    let limits = Arc::new(Limits::new(&settings.limits));
    let keeping_small = tokio::spawn(limits.clone().keep_small());
    let keys = Keys {
        tokens: Arc::new(ArcSwap::from_pointee(credentials.tokens)),
        service_keys: Arc::new(ArcSwap::from_pointee(credentials.service_keys)),
    };
    let trusted_proxies: Arc<[_]> = settings.trusted_proxies.clone().into();
    let public_state = PublicState {
        application: node.application.clone(),
        clock: node.clock.clone(),
        tokens: keys.tokens.clone(),
        limits: limits.clone(),
        trusted_proxies: trusted_proxies.clone(),
    };
    let service_state = ServiceState {
        application: node.application.clone(),
        clock: node.clock.clone(),
        service_keys: keys.service_keys.clone(),
        limits,
        trusted_proxies,
        health: node.health.clone(),
        metrics,
        event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
        shutdown: shutdown.clone(),
    };
    let health = node.health.clone();
    let lifecycle = Lifecycle { stopping: signals.stop.clone(), shutdown, abort: signals.abort.clone() };
    let announce = async {
        lifecycle.stopping.cancelled().await;
        health.stopping();
        tracing::info!(delay = ?settings.shutdown_delay, "stopping: not ready any more");
        let _ = tokio::time::timeout(settings.shutdown_delay, signals.at_once.cancelled()).await;
        tracing::info!("finishing the requests that have begun");
        lifecycle.shutdown.cancel();
        tokio::time::Instant::now() + DRAIN_TIMEOUT
    };
    let serving = async {
        tokio::join!(
            announce,
            serve("public", public, public_router(public_state), descriptors.public(&settings), lifecycle.clone()),
            serve("service", service, service_router(service_state), descriptors.service(&settings), lifecycle.clone()),
        )
    };
    let (deadline, (), ()) = tokio::select! {
        stopped = serving => stopped,
        never = reload_on_hangup(&node, &keys, &logging, config.as_deref()) => never?,
    };
    keeping_small.abort();
    // Nothing is served any more. What the last requests recorded is written after them.
    served.cancel();
    let deadline = deadline.max(tokio::time::Instant::now() + CLOSE_TIMEOUT);
    let closing = async {
        let result = background.await;
        node.application.leave().await;
        node.close().await;
        result
    };
    let closed = tokio::select! {
        closed = tokio::time::timeout_at(deadline, closing) => closed.ok(),
        () = signals.abort.cancelled() => None,
    };
    match closed.transpose()? {
        None => {
            tracing::warn!("gave up waiting for the database or the cache: activity that was not written is lost");
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

/// The keys that callers are verified with, which can be replaced while they are used.
struct Keys {
    tokens: Arc<ArcSwap<TokenVerifier>>,
    service_keys: Arc<ArcSwap<ServiceKeys>>,
}

/// Reads secrets, keys, the GeoIP file and the log level again each time that SIGHUP comes. What cannot be
/// read leaves everything as it was.
async fn reload_on_hangup<T>(node: &Node, keys: &Keys, logging: &Logging, config: Option<&Path>) -> Result<T> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        match reload(node, keys, logging, config) {
            Ok(()) => tracing::info!("read secrets, keys, the GeoIP file and the log level again"),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot reload; everything stays as it was");
            }
        }
    }
}

fn reload(node: &Node, keys: &Keys, logging: &Logging, config: Option<&Path>) -> Result<()> {
    let settings = Settings::from_values(&Values::load(config)?)?;
    refuse_dev_keys_off_loopback(&settings)?;
    let credentials = wiring::credentials(&settings)?;
    node.reload(&settings)?;
    logging.set_level(&settings.log_level)?;
    credentials.tokens.adopt_keys(&keys.tokens.load());
    keys.tokens.store(Arc::new(credentials.tokens));
    keys.service_keys.store(Arc::new(credentials.service_keys));
    Ok(())
}

/// Starts the background work of a node, which goes on until `served`. If it fails before, the node is not ready any more, and stops.
async fn start_background(
    node: &mut Node,
    intervals: Intervals,
    served: CancellationToken,
    signals: &Signals,
) -> Result<JoinHandle<Result<(), TaskEnded>>> {
    let mut background = node.background.take().context("the background work of this node runs already")?;
    // The first poll, so that caches are of use from the first request on. If it fails, there will be others.
    if let Err(error) = background.poll().await {
        tracing::debug!(%error, "cannot poll the log of revocations yet");
    }
    let (health, stop) = (node.health.clone(), signals.stop.clone());
    let shutdown = application::shutdown(async move { served.cancelled().await });
    Ok(tokio::spawn(async move {
        let result = background.run(intervals, shutdown, tokio::spawn).await;
        if let Err(error) = &result {
            tracing::error!(%error, "this node stops");
            health.stopping();
            stop.cancel();
        }
        result
    }))
}

/// What signals ask for.
#[derive(Clone, Default)]
struct Signals {
    /// SIGTERM or SIGINT: stop.
    stop: CancellationToken,
    /// SIGINT: do not wait for balancers to notice.
    at_once: CancellationToken,
    /// A second signal: wait for nothing any more.
    abort: CancellationToken,
}

impl Signals {
    /// Signals are heard from now on, until the process ends.
    fn listen() -> Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = Self::default();
        let Self { stop, at_once, abort } = signals.clone();
        tokio::spawn(async move {
            let mut signals = 0;
            loop {
                let by_a_person = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => true,
                };
                signals += 1;
                if by_a_person || signals > 1 {
                    at_once.cancel();
                }
                if signals > 1 {
                    abort.cancel();
                }
                stop.cancel();
            }
        });
        Ok(signals)
    }
}

/// A caller from another machine who has a development key has read its file, or was given it: neither is authentication.
fn refuse_dev_keys_off_loopback(settings: &Settings) -> Result<()> {
    if !settings.auth.has_token_keys() && !settings.listen.ip().is_loopback() {
        bail!(
            "server.listen: {} is not loopback, and there are only development keys; configure auth.jwt.* first",
            settings.listen
        );
    }
    if settings.auth.service_keys.is_empty() && !settings.service_listen.ip().is_loopback() {
        bail!(
            "server.service_listen: {} is not loopback, and there is only a development key; configure auth.service_keys first",
            settings.service_listen
        );
    }
    Ok(())
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    let hint = format!("{key}: cannot listen on {address} (stop what uses it, or set another address)");
    TcpListener::bind(address).await.context(hint)
}

/// What a person who has just started sessiond wants to know.
struct Greeting<'a> {
    node: &'a Node,
    public_addr: SocketAddr,
    service_addr: SocketAddr,
}

impl Greeting<'_> {
    /// Prints it where a person reads it: on a terminal, or where there are development keys. Among the lines of
    /// a log it would be noise.
    fn print(&self, credentials: &Credentials, dev_keys: &DevKeys) -> Result<()> {
        let has_dev_keys = credentials.dev_token_secret || credentials.dev_service_key;
        if has_dev_keys || std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            print(&self.text(credentials, dev_keys))?;
        }
        Ok(())
    }

    fn text(&self, credentials: &Credentials, dev_keys: &DevKeys) -> String {
        let mut text = format!(
            "sessiond {}\n  end users   http://{}\n  service     http://{}\n  data        {}\n  cache       {}\n",
            env!("CARGO_PKG_VERSION"),
            self.public_addr,
            self.service_addr,
            self.node.store_description,
            self.node.cache_description,
        );
        let mut keys = Vec::new();
        if credentials.dev_token_secret {
            keys.push(dev_keys.token_secret_path());
        }
        if credentials.dev_service_key {
            keys.push(dev_keys.service_key_path());
        }
        for path in &keys {
            text.push_str(&format!("  key         {} (for development: loopback only)\n", path.display()));
        }
        if keys.len() == 2 {
            text.push_str(&self.first_steps(dev_keys));
        }
        text
    }

    /// Lines that work as they are, in whatever directory they are pasted.
    fn first_steps(&self, dev_keys: &DevKeys) -> String {
        let sessiond = std::env::current_exe().unwrap_or_else(|_| "sessiond".into());
        let (sessiond, secret, key) =
            (quoted(&sessiond), quoted(&dev_keys.token_secret_path()), quoted(&dev_keys.service_key_path()));
        let (public, service) = (self.public_addr, self.service_addr);
        format!(
            r#"
Create a session and read it, in another terminal:

  USER_ID={EXAMPLE_USER}
  SESSION_ID=$(curl -sS http://{service}/service/v1/sessions -H "Authorization: Bearer $(cat {key})" -H "Content-Type: application/json" -d "{{\"user_id\": \"$USER_ID\", \"user_agent\": \"curl\"}}" | sed 's/.*"id":"\([^"]*\)","user_id".*/\1/')
  TOKEN=$({sessiond} token mint --key-file {secret} --user "$USER_ID" --session "$SESSION_ID")
  curl -i http://{public}/api/v1/sessions/$SESSION_ID -H "Authorization: Bearer $TOKEN"

"#
        )
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/srv/sessiond-1")), "/srv/sessiond-1");
        assert_eq!(quoted(Path::new("/home/Zoë's files")), r"'/home/Zoë'\''s files'");
    }
}
