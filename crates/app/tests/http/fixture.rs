//! The routers of both listeners over in-memory ports, and requests to them.

use std::sync::Arc;
use std::time::Duration;

use adapters_memory::MemorySessionCache;
use adapters_sqlite::SqliteNodeDirectory;
use application::commands::handlers::Enrichers;
use application::{Application, BackgroundTasks, Policies, Ports};
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use chrono::TimeDelta;
use domain::ports::{Clock, DeviceEnricher, IdGenerator, SessionRepository};
use domain::{
    Device, DeviceKind, OnLimit, OnTokenReuse, Session, SessionId, SessionPolicy, TokenPolicy,
    UserId,
};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use sessiond::auth::session_token::RandomTokens;
use sessiond::auth::{Issuer, Scopes, ServiceKey, ServiceKeys, Subject, TokenRules, TokenVerifier};
use sessiond::config::LimitSettings;
use sessiond::http::gateway::{GatewayState, router as gateway_router};
use sessiond::http::openapi;
use sessiond::http::public::{PublicState, Watches, router as public_router};
use sessiond::http::service::{
    Health, NodeIdentity, Nodes, ServiceState, router as service_router,
};
use sessiond::http::{Limits, PeerAddress};
use testkit::memory::{
    MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
    MemorySessionRetention,
};
use testkit::{FixedClock, SequentialIds, SteppingClock, fixtures};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const SERVICE_KEY: &str = "a service key";
/// May only read.
pub(crate) const READ_KEY: &str = "a key for reading";
/// May read and write, and not operate; its name is `billing`.
pub(crate) const WRITE_KEY: &str = "a key for writing";

/// Knows one program.
struct Curl;

impl DeviceEnricher for Curl {
    fn device(&self, user_agent: &str) -> Option<Device> {
        let kind = DeviceKind::Other;
        user_agent.starts_with("curl/").then(|| Device {
            browser: Some("curl".into()),
            system: None,
            kind,
        })
    }
}

/// Both routers over the same in-memory ports, at the fixtures' time.
pub(crate) struct Fixture {
    public: Router,
    service: Router,
    pub(crate) repository: Arc<MemorySessionRepository>,
    database: MemoryDatabase,
    pub(crate) application: Arc<Application>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) health: Arc<Health>,
    pub(crate) nodes: Arc<Nodes>,
    monotonic_clock: Arc<SteppingClock>,
    background_tasks: Mutex<BackgroundTasks>,
}

/// A response, read whole.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the code of a problem document, after checking that it is one.
    pub(crate) fn problem(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{body}");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(body["status"], self.status.as_u16());
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("urn:sessiond:problem:{code}"));
        assert!(!body.to_string().contains("s3cret"), "{body}");
        (self.status.as_u16(), code)
    }

    /// The one field that the problem document complains about.
    pub(crate) fn bad_field(&self) -> String {
        let body = self.json();
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(1), "{body}");
        assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
        body["errors"][0]["field"].as_str().unwrap().to_owned()
    }
}

const MAX_STALENESS: Duration = Duration::from_millis(500);

/// An origin whose pages may call the public listener.
pub(crate) const ORIGIN: &str = "https://app.example.com";

/// No limits.
pub(crate) const UNLIMITED: LimitSettings = LimitSettings {
    user_rate: 0,
    user_burst: 1,
    peer_failure_rate: 0,
    peer_failure_burst: 1,
    in_flight: 0,
    connections_per_address: None,
};

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_limits(UNLIMITED)
    }

    pub(crate) fn with_limits(limits: LimitSettings) -> Self {
        Self::with(limits, &[])
    }

    /// A node that pages of these origins may call.
    pub(crate) fn with_origins(origins: &[&str]) -> Self {
        Self::with(UNLIMITED, origins)
    }

    fn with(limits: LimitSettings, origins: &[&str]) -> Self {
        let clock = Arc::new(FixedClock::at(fixtures::now()));
        let monotonic_clock = Arc::new(SteppingClock::default());
        let database = MemoryDatabase::default();
        let repository = Arc::new(MemorySessionRepository::new(database.clone()));
        let ports = Ports {
            session_repo: repository.clone(),
            near_cache: Some(Arc::new(MemorySessionCache::new(100, clock.clone()))),
            shared_cache: None,
            revocation_feed: Arc::new(MemoryRevocationFeed::new(
                database.clone(),
                MemoryNodes::default(),
                SequentialIds::default().next_id(),
            )),
            monotonic_clock: monotonic_clock.clone(),
            event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
            session_retention: Arc::new(MemorySessionRetention::new(database.clone())),
            enrichers: Enrichers { device: Arc::new(Curl), location: None },
            clock: clock.clone(),
            ids: Arc::new(SequentialIds::default()),
            tokens: Arc::new(RandomTokens),
        };
        let sessions = SessionPolicy {
            lifetime: TimeDelta::days(30),
            idle_timeout: None,
            sliding: false,
            max_per_user: None,
            on_limit: OnLimit::EvictOldest,
        };
        let activity_window = TimeDelta::seconds(60);
        let max_staleness = MAX_STALENESS;
        let policies = Policies {
            sessions,
            tokens: TokenPolicy {
                rotation_grace: TimeDelta::seconds(10),
                on_reuse: OnTokenReuse::Report,
            },
            activity_window,
            retention: TimeDelta::days(30),
            max_staleness,
        };
        let (application, mut background_tasks) = Application::new(ports, policies);
        // The clock stands still, so one poll is enough; in memory it is done at once.
        background_tasks.poll().now_or_never().unwrap().unwrap();
        let application = Arc::new(application);
        let shutdown = CancellationToken::new();
        let rules = TokenRules {
            issuer: None,
            audiences: Vec::new(),
            subject: Subject::Uuid,
            session_claim: "sid".into(),
            types: vec!["at+jwt".into(), "jwt".into()],
        };
        let tokens = Arc::new(ArcSwap::from_pointee(TokenVerifier::new(
            vec![Issuer::new(rules).with_secret(SECRET)],
            clock.clone(),
        )));
        let keys = [
            ServiceKey::of(SERVICE_KEY),
            ServiceKey {
                name: Some("reader".into()),
                scopes: Scopes { read: true, write: false, operate: false },
                ..ServiceKey::of(READ_KEY)
            },
            ServiceKey {
                name: Some("billing".into()),
                scopes: Scopes { read: true, write: true, operate: false },
                ..ServiceKey::of(WRITE_KEY)
            },
        ];
        let limits = Arc::new(Limits::new(&limits));
        let health =
            Arc::new(Health::new(repository.clone(), None, application.revocation_state.clone()));
        let as_clock: Arc<dyn Clock> = clock.clone();
        let identity = NodeIdentity {
            node: Uuid::from_u128(7),
            host: "a-host".to_owned(),
            started_at: fixtures::now(),
        };
        let nodes = Arc::new(Nodes::new(
            Arc::new(SqliteNodeDirectory::default()),
            identity,
            health.clone(),
            application.revocation_state.clone(),
        ));
        let end_users = PublicState {
            application: application.clone(),
            clock: as_clock.clone(),
            tokens: tokens.clone(),
            limits: limits.clone(),
            cookie_name: "__Host-session".into(),
            cors_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            trusted_proxies: Arc::new([]),
            watches: Arc::new(Watches::new(application.clone(), shutdown.clone())),
        };
        Self {
            public: public_router(end_users.clone()),
            service: service_router(ServiceState {
                application: application.clone(),
                clock: as_clock,
                service_keys: Arc::new(ArcSwap::from_pointee(ServiceKeys::new(keys.to_vec()))),
                tokens,
                cookie_name: "__Host-session".into(),
                limits,
                trusted_proxies: Arc::new([]),
                health: health.clone(),
                nodes: nodes.clone(),
                metrics: PrometheusBuilder::new().build_recorder().handle(),
                event_streams: Arc::new(Semaphore::new(2)),
                shutdown: shutdown.clone(),
            })
            .merge(gateway_router(GatewayState(end_users)))
            .merge(openapi::router()),
            repository,
            database,
            application,
            shutdown,
            clock,
            health,
            nodes,
            monotonic_clock,
            background_tasks: Mutex::new(background_tasks),
        }
    }

    /// Polls the revocation log, as a node does all the time.
    pub(crate) async fn poll(&self) {
        self.monotonic_clock.advance(MAX_STALENESS);
        self.background_tasks.lock().await.poll().await.unwrap();
    }

    pub(crate) fn public_router(&self) -> Router {
        self.public.clone()
    }

    pub(crate) fn take_database_down(&self) {
        self.database.take_down();
    }

    pub(crate) async fn store(&self, session: &Session) {
        self.repository.insert(session, None).await.unwrap();
    }

    /// A GET on the public listener with this `Authorization` header.
    pub(crate) async fn get(&self, path: &str, authorization: Option<&str>) -> Reply {
        let mut request = Request::get(path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        send(&self.public, request.body(Body::empty()).unwrap()).await
    }

    /// A GET on the public listener from this address.
    pub(crate) async fn get_from(&self, peer: &str, path: &str, authorization: &str) -> Reply {
        let mut request =
            Request::get(path).header("authorization", authorization).body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddress(peer.parse().unwrap()));
        send(&self.public, request).await
    }

    /// A GET on the public listener as the owner of this session, in it.
    pub(crate) async fn get_in(&self, session: &Session, path: &str) -> Reply {
        self.get(path, Some(&bearer(session.user_id, session.id))).await
    }

    /// A DELETE on the public listener as the owner of this session, in it, with this JSON text as
    /// the body.
    pub(crate) async fn delete_in(&self, session: &Session, path: &str, body: &str) -> Reply {
        let request = Request::delete(path)
            .header("authorization", bearer(session.user_id, session.id))
            .header("content-type", "application/json");
        self.public(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A DELETE on the service listener with the service key.
    pub(crate) async fn service_delete(&self, path: &str, body: &str) -> Reply {
        let request = Request::delete(path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json");
        self.service(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A PATCH on the public listener as the owner of this session, in it, with this JSON text.
    pub(crate) async fn patch_in(&self, session: &Session, path: &str, body: &str) -> Reply {
        let request = Request::patch(path)
            .header("authorization", bearer(session.user_id, session.id))
            .header("content-type", "application/json");
        self.public(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A PATCH on the service listener with the service key.
    pub(crate) async fn service_patch(&self, path: &str, body: &str) -> Reply {
        let request = Request::patch(path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json");
        self.service(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A request to the public listener.
    pub(crate) async fn public(&self, request: Request<Body>) -> Reply {
        send(&self.public, request).await
    }

    /// A request to the service listener.
    pub(crate) async fn service(&self, request: Request<Body>) -> Reply {
        send(&self.service, request).await
    }

    /// A response of the public listener that is not read to its end.
    pub(crate) async fn public_stream(&self, request: Request<Body>) -> Response {
        self.public.clone().oneshot(request).await.unwrap()
    }

    /// A response of the service listener that is not read to its end.
    pub(crate) async fn service_stream(&self, request: Request<Body>) -> Response {
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// A GET on the service listener with the service key.
    pub(crate) async fn service_get(&self, path: &str) -> Reply {
        let request = Request::get(path).header("authorization", format!("Bearer {SERVICE_KEY}"));
        self.service(request.body(Body::empty()).unwrap()).await
    }

    /// A POST of JSON text to the service listener with the service key.
    pub(crate) async fn service_post(&self, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json");
        self.service(request.body(body.into()).unwrap()).await
    }
}

async fn send(router: &Router, request: Request<Body>) -> Reply {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 8 << 20).await.unwrap().to_vec();
    Reply { status: parts.status, headers: parts.headers, bytes }
}

/// The `Authorization` header of a user in a session.
pub(crate) fn bearer(user: UserId, session: SessionId) -> String {
    bearer_of(&json!({
        "sub": user.to_string(),
        "sid": session.to_string(),
        "exp": fixtures::now().timestamp() + 3600
    }))
}

/// The `Authorization` header with these claims.
pub(crate) fn bearer_of(claims: &Value) -> String {
    let token =
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).unwrap();
    format!("Bearer {token}")
}
