//! The use cases of sessiond: what can be asked ([`queries`]) and what can be changed ([`commands`]).
//!
//! This crate knows the domain and nothing else: no HTTP, no SQL, no Redis, no runtime. What it needs from outside it takes
//! as [`Ports`]; what it offers is [`Application`], one field a handler. The whole application is on this screen.
//!
//! To add a query: its struct in `queries/session_queries.rs`, its handler and error in a file of `queries/handlers/`, one
//! line in `queries/handlers/mod.rs`, one field below. `docs/extending.md` walks through it.
//!
//! To use it as a library, give it ports and call its handlers:
//!
//! ```
//! # use std::sync::Arc;
//! # use adapters_memory::{
//! #     MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionCache,
//! #     MemorySessionRepository, MemorySessionRetention,
//! # };
//! # use chrono::TimeDelta;
//! # use testkit::{SequentialIds, SteppingClock, fixtures};
//! # struct NoDevices;
//! # impl domain::ports::DeviceEnricher for NoDevices {
//! #     fn device(&self, _: &str) -> Option<domain::Device> { None }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use application::commands::CreateSession;
//! use application::commands::handlers::Enrichers;
//! use application::queries::GetSession;
//! use application::{Application, Policies, Ports};
//! use domain::{OnLimit, SessionPolicy, UserId};
//!
//! let (database, node) = (MemoryDatabase::default(), uuid::Uuid::from_u128(1));
//! let ports = Ports {
//!     session_repo: Arc::new(MemorySessionRepository::new(database.clone())),
//!     near_cache: Some(Arc::new(MemorySessionCache::new(10_000, fixtures::clock()))),
//!     shared_cache: None,
//!     revocation_feed: Arc::new(MemoryRevocationFeed::new(database.clone(), MemoryNodes::default(), node)),
//!     event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
//!     session_retention: Arc::new(MemorySessionRetention::new(database)),
//!     enrichers: Enrichers { device: Arc::new(NoDevices), location: None },
//!     clock: fixtures::clock(),
//!     monotonic_clock: Arc::new(SteppingClock::default()),
//!     ids: Arc::new(SequentialIds::default()),
//! };
//! let policies = Policies {
//!     sessions: SessionPolicy {
//!         lifetime: TimeDelta::days(30),
//!         idle_timeout: None,
//!         sliding: false,
//!         max_per_user: None,
//!         on_limit: OnLimit::EvictOldest,
//!     },
//!     activity_window: TimeDelta::seconds(60),
//!     retention: TimeDelta::days(30),
//!     delta: std::time::Duration::from_millis(500),
//! };
//! let application = Application::new(ports, policies);
//!
//! let user_id: UserId = "00000000-0000-4000-8000-00000000000a".parse()?;
//! let session = application.create_session.handle(CreateSession::of(user_id)).await?.session;
//!
//! let result = application.get_session.handle(GetSession { session_id: session.id, user_id }).await?;
//! assert!(!result.is_revoked && !result.is_current);
//! # Ok(())
//! # }
//! ```

mod activity_buffer;
mod coherent_session_cache;
pub mod commands;
mod denied_reads;
pub mod queries;
mod revocation_guard;
mod session_ends;
mod single_flight_reader;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod two_nodes;

use std::sync::Arc;
use std::time::Duration;

pub use activity_buffer::ActivityBuffer;
use chrono::TimeDelta;
pub use coherent_session_cache::CoherentSessionCache;
use commands::handlers::{
    CleanUpHandler, CreateSessionHandler, EditSessionHandler, Enrichers, RecordActivityHandler,
    RevokeAllUserSessionsHandler, RevokeEverybodyHandler, RevokeSessionHandler, RevokeSessionsHandler,
};
use domain::ports::{
    Clock, EventOutbox, IdGenerator, MonotonicClock, RevocationFeed, SessionCache, SessionRepository, SessionRetention,
};
use domain::{Session, SessionPolicy};
use queries::handlers::{GetSessionHandler, InspectSessionHandler, ListEventsHandler, ListUserSessionsHandler};
pub use revocation_guard::RevocationGuard;
pub use session_ends::{Acknowledge, Revoked, SessionEnds};
pub use single_flight_reader::SingleFlightReader;

/// What the application needs from outside. `app::wiring` is where the adapters are chosen.
#[derive(Clone)]
pub struct Ports {
    /// The truth about sessions.
    pub session_repo: Arc<dyn SessionRepository>,
    /// What remembers them in this process.
    pub near_cache: Option<Arc<dyn SessionCache>>,
    /// What remembers them for several processes.
    pub shared_cache: Option<Arc<dyn SessionCache>>,
    /// The changes that end them.
    pub revocation_feed: Arc<dyn RevocationFeed>,
    /// What happened to them.
    pub event_outbox: Arc<dyn EventOutbox>,
    /// What clears them away.
    pub session_retention: Arc<dyn SessionRetention>,
    /// What fills in what the backend does not say of a sign-in.
    pub enrichers: Enrichers,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The monotonic clock.
    pub monotonic_clock: Arc<dyn MonotonicClock>,
    /// New identifiers.
    pub ids: Arc<dyn IdGenerator>,
}

/// The rules that the application goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Those that a new session is made under.
    pub sessions: SessionPolicy,
    /// How long the use of a session is kept before it is written, at most.
    pub activity_window: TimeDelta,
    /// How long ended sessions, and events, are kept.
    pub retention: TimeDelta,
    /// How long after a look at the changes this node answers what it remembers.
    pub delta: Duration,
}

/// Every use case, ready to be called by whatever interface: HTTP, a command line, a library user.
pub struct Application {
    /// One session, for its owner: cache, then database, then populate.
    pub get_session: GetSessionHandler,
    /// One session, for an operator.
    pub inspect_session: InspectSessionHandler,
    /// A user's sessions, newest first.
    pub list_user_sessions: ListUserSessionsHandler,
    /// What happened to sessions.
    pub list_events: ListEventsHandler,
    /// A sign-in.
    pub create_session: CreateSessionHandler,
    /// A name, metadata.
    pub edit_session: EditSessionHandler,
    /// The use of a session.
    pub record_activity: RecordActivityHandler,
    /// The end of one session.
    pub revoke_session: RevokeSessionHandler,
    /// The end of several.
    pub revoke_sessions: RevokeSessionsHandler,
    /// The end of all of a user's.
    pub revoke_all_user_sessions: RevokeAllUserSessionsHandler,
    /// The end of everybody's.
    pub revoke_everybody: RevokeEverybodyHandler,
    /// What is over is cleared away.
    pub clean_up: CleanUpHandler,
    /// What makes the end of a session final. Somebody has to let it [follow](RevocationGuard::follow) the changes, or nothing that
    /// is remembered is answered.
    pub guard: Arc<RevocationGuard>,
    activity: Arc<ActivityBuffer>,
}

impl Application {
    /// Puts the handlers together.
    pub fn new(ports: Ports, policies: Policies) -> Self {
        let Ports { session_repo: repo, event_outbox, session_retention, enrichers, clock, ids, .. } = ports;
        let activity = Arc::new(ActivityBuffer::new(policies.activity_window));
        let guard =
            Arc::new(RevocationGuard::new(ports.revocation_feed, ports.monotonic_clock.clone(), policies.delta));
        let cache: Arc<dyn SessionCache> =
            Arc::new(CoherentSessionCache::new(ports.near_cache, ports.shared_cache, guard.clone()));
        let ends = Arc::new(SessionEnds::new(cache.clone(), activity.clone(), guard.clone(), clock.clone()));
        let reader = SingleFlightReader::new(repo.clone(), guard.clone());
        let (repo, clock) = (|| repo.clone(), || clock.clone());
        Self {
            get_session: GetSessionHandler::new(Arc::new(reader), cache.clone(), ports.monotonic_clock.clone()),
            inspect_session: InspectSessionHandler::new(repo()),
            list_user_sessions: ListUserSessionsHandler::new(repo(), clock(), activity.clone()),
            list_events: ListEventsHandler::new(event_outbox),
            create_session: CreateSessionHandler::new(repo(), ends.clone(), enrichers, clock(), ids, policies.sessions),
            edit_session: EditSessionHandler::new(repo(), cache),
            record_activity: RecordActivityHandler::new(repo(), clock(), activity.clone(), guard.clone()),
            revoke_session: RevokeSessionHandler::new(repo(), ends.clone(), clock()),
            revoke_sessions: RevokeSessionsHandler::new(repo(), ends.clone(), clock()),
            revoke_all_user_sessions: RevokeAllUserSessionsHandler::new(repo(), ends.clone(), clock()),
            revoke_everybody: RevokeEverybodyHandler::new(repo(), ends, clock()),
            clean_up: CleanUpHandler::new(session_retention, clock(), policies.retention),
            guard,
            activity,
        }
    }

    /// The session with the use that only this node knows of yet. Ask this before the verdict on what a cache or the database
    /// answered: they may be behind by [`Policies::activity_window`].
    pub fn refreshed(&self, session: Arc<Session>) -> Arc<Session> {
        self.activity.refresh(session)
    }
}
