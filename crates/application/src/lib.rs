//! The use cases of sessiond: what can be asked ([`queries`]) and what can be changed
//! ([`commands`]).
//!
//! This crate knows the domain and nothing else: no HTTP, no SQL, no Redis, no runtime. What it
//! needs from outside it takes as [`Ports`]; what it offers is [`Application`], one field per
//! handler (`application.rs`).
//!
//! To add a query: its struct in `queries/session_queries.rs`, its handler and error in a file of
//! `queries/handlers/`, one line in `queries/handlers/mod.rs`, one field in `application.rs`.
//! `docs/extending.md` walks through it.
//!
//! To use it as a library, give it ports and call its handlers:
//!
//! ```
//! # use std::sync::Arc;
//! # use adapters_memory::MemorySessionCache;
//! # use testkit::memory::{
//! #     MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed,
//! #     MemorySessionRepository, MemorySessionRetention,
//! # };
//! # use chrono::TimeDelta;
//! # use testkit::{SequentialIds, SequentialTokens, SteppingClock, fixtures};
//! # struct NoDevices;
//! # impl domain::ports::DeviceEnricher for NoDevices {
//! #     fn device(&self, _: &str) -> Option<domain::Device> { None }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use application::commands::CreateSession;
//! use application::commands::handlers::Enrichers;
//! use application::queries::GetSession;
//! use application::{Application, Intervals, Policies, Ports, shutdown};
//! use domain::{OnLimit, OnTokenReuse, SessionPolicy, TokenPolicy, UserId};
//!
//! let database = MemoryDatabase::default();
//! let node = uuid::Uuid::from_u128(1);
//! let ports = Ports {
//!     session_repo: Arc::new(MemorySessionRepository::new(database.clone())),
//!     near_cache: Some(Arc::new(MemorySessionCache::new(10_000, fixtures::clock()))),
//!     shared_cache: None,
//!     revocation_feed: Arc::new(MemoryRevocationFeed::new(
//!         database.clone(),
//!         MemoryNodes::default(),
//!         node,
//!     )),
//!     event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
//!     session_retention: Arc::new(MemorySessionRetention::new(database)),
//!     enrichers: Enrichers { device: Arc::new(NoDevices), location: None },
//!     clock: fixtures::clock(),
//!     monotonic_clock: Arc::new(SteppingClock::default()),
//!     ids: Arc::new(SequentialIds::default()),
//!     tokens: Arc::new(SequentialTokens::default()),
//! };
//! let policies = Policies {
//!     sessions: SessionPolicy {
//!         lifetime: TimeDelta::days(30),
//!         idle_timeout: None,
//!         sliding: false,
//!         max_per_user: None,
//!         on_limit: OnLimit::EvictOldest,
//!     },
//!     tokens: TokenPolicy {
//!         rotation_grace: TimeDelta::seconds(10),
//!         on_reuse: OnTokenReuse::Report,
//!     },
//!     activity_window: TimeDelta::seconds(60),
//!     retention: TimeDelta::days(30),
//!     max_staleness: std::time::Duration::from_millis(500),
//! };
//! let (application, mut background) = Application::new(ports, policies);
//!
//! // Nothing is served from a cache before the first poll of the revocation log. From then on,
//! // background work polls, writes activity, and cleans up, on the runtime that spawns its tasks.
//! background.poll().await?;
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let intervals = Intervals { poll: std::time::Duration::from_millis(100), cleanup: None };
//! let shutdown = shutdown(async { drop(stopped.await) });
//! let running = tokio::spawn(background.run(intervals, shutdown, tokio::spawn));
//!
//! let user_id: UserId = "00000000-0000-4000-8000-00000000000a".parse()?;
//! let session = application.create_session.handle(CreateSession::of(user_id)).await?.session;
//!
//! let query = GetSession { session_id: session.id, user_id };
//! let result = application.get_session.handle(query).await?;
//! assert!(!result.is_revoked && !result.is_current);
//! assert_eq!(application.get_session.find(query).await?.layer, domain::ports::Layer::Near);
//!
//! drop(stop);
//! running.await??;
//! application.leave().await;
//! # Ok(())
//! # }
//! ```

mod activity;
mod application;
mod background_tasks;
pub mod coherence;
pub mod commands;
pub mod queries;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod two_nodes;

pub use activity::{ActivityBuffer, ActivityWriter};
pub use application::{Application, Policies, Ports};
pub use background_tasks::{
    BackgroundTasks, Intervals, Shutdown, TaskEnded, clean_up_until_done, shutdown,
};
