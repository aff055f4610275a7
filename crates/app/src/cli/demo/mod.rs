//! `sessiond demo`: a node with made-up users, to look at the pages and to try the calls.

mod population;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use application::Application;
use application::commands::handlers::RotateTokenError;
use application::commands::{CreateSession, RotateToken};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use domain::ports::Clock;
use domain::{SessionId, UserId};
use fastrand::Rng;
use tempfile::TempDir;

use self::population::Population;
use super::serve;
use crate::auth::session_token;
use crate::composition::{credentials, maintenance};
use crate::config::{Settings, StoreUrl, Values};
use crate::http::set_cookie;
use crate::system::{SystemClock, random_bytes};

/// Locations of the addresses that are set aside for documentation.
const PLACES: &[u8] = include_bytes!("../../../../adapters-maxmind/tests/places.mmdb");

/// Devices of the user that a browser can sign in on.
const SIGN_INS: usize = 2;

#[derive(Args)]
pub(super) struct DemoCommand {
    /// Open the devices page and the console in a browser
    #[arg(long)]
    open: bool,
    /// Make the same users, devices and history each time [default: others each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Address of the public listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of the service listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    service_listen: SocketAddr,
}

/// What a demo adds to a node.
pub(super) struct Demo {
    opens_browser: bool,
    rng: Rng,
    population: Population,
    key_file: PathBuf,
    /// Removed when the demo ends, with the database and the keys in it.
    _dir: TempDir,
}

/// Serves made-up sessions from a database of its own until SIGTERM or SIGINT, and removes that
/// then. It does not use the configuration.
///
/// # Errors
/// If an address is not loopback, or is in use.
pub(super) async fn run(command: DemoCommand) -> Result<ExitCode> {
    let DemoCommand { open, seed, listen, service_listen } = command;
    if !listen.ip().is_loopback() || !service_listen.ip().is_loopback() {
        bail!("a demo listens on loopback only: every caller is signed in");
    }
    let dir = tempfile::Builder::new().prefix("sessiond-demo-").tempdir();
    let dir = dir.context("cannot make a folder for the demo")?;
    let places = dir.path().join("places.mmdb");
    std::fs::write(&places, PLACES).context("cannot write the demo's GeoIP file")?;
    let settings = Settings {
        listen,
        service_listen,
        store_url: StoreUrl::Sqlite(format!("sqlite://{}/sessiond.db", dir.path().display())),
        geoip_file: Some(places),
        ..Settings::from_values(&Values::defaults())?
    };
    let mut rng = Rng::with_seed(seed.unwrap_or_else(|| u64::from_le_bytes(random_bytes())));
    let population = Population::new(&mut rng, SystemClock.now());
    maintenance::import(&settings, &population.sessions).await?;
    let key_file = credentials::dev_keys(&settings)?.service_key_path();
    let demo = Demo { opens_browser: open, rng, population, key_file, _dir: dir };
    serve::run(settings, None, Some(demo)).await
}

impl Demo {
    /// Returns what to look at, for the greeting.
    pub(super) fn text(&self, public: SocketAddr, service: SocketAddr) -> String {
        let owner = self.population.owner;
        format!(
            "
A demo, with {} made-up sessions in a folder that is removed when it ends (Ctrl-C).

  http://{public}/demo/1   signs this browser in, and shows the devices of the user
                                {owner}
  http://{public}/demo/2   the same on another device: open it in a private window,
                                and sign it out from the first
  http://{service}/console  the operators' page: search, revoke, watch
  http://{service}/docs     every call, to try out
                                both ask for the key in {}

",
            self.population.sessions.len(),
            self.key_file.display()
        )
    }

    /// Opens both pages, if that was asked for. Without a browser it is a warning.
    pub(super) fn open(&self, public: SocketAddr, service: SocketAddr) {
        if !self.opens_browser {
            return;
        }
        for page in [format!("http://{service}/console"), format!("http://{public}/demo/1")] {
            if let Err(error) = open::that_detached(page) {
                tracing::warn!(%error, "cannot open a browser");
            }
        }
    }

    /// Returns the routes that sign a browser in, for the public listener.
    pub(super) fn routes(&self, application: Arc<Application>, cookie_name: &str) -> Router {
        let devices = self.population.sessions[..SIGN_INS].iter().map(|session| session.id);
        let state = DemoState {
            application,
            cookie_name: cookie_name.into(),
            owner: self.population.owner,
            devices: devices.collect(),
        };
        Router::new().route("/demo/{device}", get(sign_in)).with_state(state)
    }

    /// Returns what keeps something going: sign-ins, activity, revocations.
    pub(super) fn traffic(
        &self,
        application: Arc<Application>,
    ) -> impl Future<Output = ()> + use<> {
        traffic::run(application, self.rng.clone(), &self.population)
    }
}

#[derive(Clone)]
struct DemoState {
    application: Arc<Application>,
    cookie_name: Arc<str>,
    owner: UserId,
    devices: Arc<[SessionId]>,
}

/// Signs a browser in on one of the user's devices, and leads to the devices page. If that device
/// was signed out, it signs in again.
async fn sign_in(State(demo): State<DemoState>, Path(device): Path<usize>) -> Response {
    let Some(&session_id) = device.checked_sub(1).and_then(|index| demo.devices.get(index)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let rotate = RotateToken { session_id, presented: None };
    let issued = match demo.application.rotate_token.handle(rotate).await {
        Ok(issued) => Some(issued),
        Err(RotateTokenError::SessionEnded | RotateTokenError::SessionNotFound) => {
            let command = CreateSession { issue_token: true, ..CreateSession::of(demo.owner) };
            let created = demo.application.create_session.handle(command).await;
            created.ok().and_then(|created| created.token)
        }
        Err(_) => None,
    };
    let Some(issued) = issued else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let token = session_token::format(issued.session, &issued.secret);
    let cookie = set_cookie(&demo.cookie_name, &token, issued.expires_at, SystemClock.now());
    let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, "/devices".to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}
