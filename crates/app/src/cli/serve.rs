use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use application::{Intervals, TaskEnded};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::auth::DevKeys;
use crate::config::Settings;
use crate::http::{Lifecycle, MAX_EVENT_STREAMS, PublicState, ServiceState, public_router, serve, service_router};
use crate::telemetry;
use crate::wiring::{self, Credentials, Node};

/// The user of the first session that the greeting suggests.
const EXAMPLE_USER: &str = "00000000-0000-4000-8000-000000000001";

/// The exit code of a node whose background work has failed: `EX_SOFTWARE` of sysexits(3).
const BACKGROUND_FAILED: u8 = 70;

/// Serves until SIGTERM or SIGINT, or until background work fails.
pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    telemetry::start_logging(&settings)?;
    // Handlers first: a signal that comes while connecting must not be lost.
    let signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let metrics = telemetry::start_metrics()?;
    let credentials = wiring::credentials(&settings)?;
    refuse_dev_keys_off_loopback(&settings, &credentials)?;
    let public = bind("server.listen", settings.listen).await?;
    let service = bind("server.service_listen", settings.service_listen).await?;
    let (public_addr, service_addr) = (public.local_addr()?, service.local_addr()?);

    let mut node = wiring::wire(&settings).await?;
    let intervals = Intervals { poll: settings.poll, cleanup: settings.cleanup_interval };
    let served = CancellationToken::new();
    let background = start_background(&mut node, intervals, served.clone(), &signals).await?;
    let dev_keys = wiring::dev_keys(&settings)?;
    let greeting = Greeting { node: &node, public_addr, service_addr };
    print(&greeting.text(&credentials, &dev_keys))?;
    tracing::info!(public = %public_addr, service = %service_addr, version = env!("CARGO_PKG_VERSION"), "ready");

    let public_state = PublicState {
        application: node.application.clone(),
        clock: node.clock.clone(),
        tokens: Arc::new(credentials.tokens),
        trusted_proxies: settings.trusted_proxies.into(),
    };
    let service_state = ServiceState {
        application: node.application.clone(),
        clock: node.clock.clone(),
        service_keys: Arc::new(credentials.service_keys),
        health: node.health.clone(),
        metrics,
        event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
        shutdown: shutdown.clone(),
    };
    let health = node.health.clone();
    let lifecycle = Lifecycle { stopping: signals.stop, shutdown };
    let announce = async {
        lifecycle.stopping.cancelled().await;
        health.stopping();
        tracing::info!(delay = ?settings.shutdown_delay, "stopping: not ready any more");
        let _ = tokio::time::timeout(settings.shutdown_delay, signals.at_once.cancelled()).await;
        tracing::info!("finishing the requests that have begun");
        lifecycle.shutdown.cancel();
    };
    tokio::join!(
        announce,
        serve("public", public, public_router(public_state), lifecycle.clone()),
        serve("service", service, service_router(service_state), lifecycle.clone()),
    );
    // Nothing is served any more. What the last requests recorded is written after them.
    served.cancel();
    let background = background.await?;
    node.application.leave().await;
    node.close().await;
    match background {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            tracing::error!(%error, "stopped, because background work has failed");
            Ok(ExitCode::from(BACKGROUND_FAILED))
        }
    }
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
    /// SIGINT, or a second signal: do not wait for balancers to notice.
    at_once: CancellationToken,
}

impl Signals {
    /// Signals are heard from now on, until the process ends.
    fn listen() -> Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = Self::default();
        let Self { stop, at_once } = signals.clone();
        tokio::spawn(async move {
            loop {
                let by_a_person = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => true,
                };
                if by_a_person || stop.is_cancelled() {
                    at_once.cancel();
                }
                stop.cancel();
            }
        });
        Ok(signals)
    }
}

/// Whoever reaches a listener that takes a development key could read the key's file, or could not be stopped by it.
fn refuse_dev_keys_off_loopback(settings: &Settings, credentials: &Credentials) -> Result<()> {
    if credentials.dev_token_secret && !settings.listen.ip().is_loopback() {
        bail!(
            "server.listen: {} is not loopback, and there are only development keys; configure auth.jwt.* first",
            settings.listen
        );
    }
    if credentials.dev_service_key && !settings.service_listen.ip().is_loopback() {
        bail!(
            "server.service_listen: {} is not loopback, and there is only a development key; configure auth.service_key_hashes first",
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
