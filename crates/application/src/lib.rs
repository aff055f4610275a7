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
//! # use adapters_memory::{MemorySessionCache, MemorySessionRepository};
//! # use testkit::{SequentialIds, fixtures};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use application::commands::CreateSession;
//! use application::queries::GetSession;
//! use application::{Application, Ports};
//! use domain::{OnLimit, SessionPolicy, UserId};
//!
//! let ports = Ports {
//!     session_repo: Arc::new(MemorySessionRepository::default()),
//!     session_cache: Arc::new(MemorySessionCache::new(10_000, fixtures::clock())),
//!     clock: fixtures::clock(),
//!     ids: Arc::new(SequentialIds::default()),
//! };
//! let lifetime = chrono::TimeDelta::days(30);
//! let policy = SessionPolicy { lifetime, max_per_user: None, on_limit: OnLimit::EvictOldest };
//! let application = Application::new(ports, policy);
//!
//! let user_id: UserId = "00000000-0000-4000-8000-00000000000a".parse()?;
//! let sign_in =
//!     CreateSession { user_id, ip_address: None, user_agent: None, expires_at: None, max_sessions: None };
//! let session = application.create_session.handle(sign_in).await?.session;
//!
//! let result = application.get_session.handle(GetSession { session_id: session.id, user_id }).await?;
//! assert!(!result.is_revoked && !result.is_current);
//! # Ok(())
//! # }
//! ```

pub mod commands;
pub mod queries;

use std::sync::Arc;

use commands::handlers::{
    CreateSessionHandler, RevokeAllUserSessionsHandler, RevokeSessionHandler, RevokeSessionsHandler,
};
use domain::SessionPolicy;
use domain::ports::{Clock, IdGenerator, SessionCache, SessionRepository};
use queries::handlers::{GetSessionHandler, InspectSessionHandler, ListUserSessionsHandler};

/// What the application needs from outside. `app::wiring` is where the adapters are chosen.
#[derive(Clone)]
pub struct Ports {
    /// The truth about sessions.
    pub session_repo: Arc<dyn SessionRepository>,
    /// What remembers them.
    pub session_cache: Arc<dyn SessionCache>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// New identifiers.
    pub ids: Arc<dyn IdGenerator>,
}

/// Every use case, ready to be called by whatever interface: HTTP, a command line, a library user.
pub struct Application {
    /// One session, for its owner: cache, then database, then populate.
    pub get_session: GetSessionHandler,
    /// One session, for an operator.
    pub inspect_session: InspectSessionHandler,
    /// A user's sessions, newest first.
    pub list_user_sessions: ListUserSessionsHandler,
    /// A sign-in.
    pub create_session: CreateSessionHandler,
    /// The end of one session.
    pub revoke_session: RevokeSessionHandler,
    /// The end of several.
    pub revoke_sessions: RevokeSessionsHandler,
    /// The end of all of a user's.
    pub revoke_all_user_sessions: RevokeAllUserSessionsHandler,
}

impl Application {
    /// Puts the handlers together.
    pub fn new(ports: Ports, policy: SessionPolicy) -> Self {
        let Ports { session_repo, session_cache, clock, ids } = ports;
        Self {
            get_session: GetSessionHandler::new(session_repo.clone(), session_cache.clone()),
            inspect_session: InspectSessionHandler::new(session_repo.clone()),
            list_user_sessions: ListUserSessionsHandler::new(session_repo.clone(), clock.clone()),
            create_session: CreateSessionHandler::new(
                session_repo.clone(),
                session_cache.clone(),
                clock.clone(),
                ids,
                policy,
            ),
            revoke_session: RevokeSessionHandler::new(session_repo.clone(), session_cache.clone(), clock.clone()),
            revoke_sessions: RevokeSessionsHandler::new(session_repo.clone(), session_cache.clone(), clock.clone()),
            revoke_all_user_sessions: RevokeAllUserSessionsHandler::new(session_repo, session_cache, clock),
        }
    }
}
