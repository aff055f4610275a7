//! The client of sessiond for Rust: calls of an application's backend, and a layer that guards its
//! pages.
//!
//! - [`Client`] has a method for each call of the service listener. A call that fails is either
//!   [refused](Error::Refused), or sessiond is [unavailable](Error::Unavailable): nothing is known.
//!   Time-outs, retries and idempotency keys are built in ([`Settings`]).
//! - [`RequireSession`] is a tower layer. A request without a live session does not get through it.
//!
//! What it does is what the clients of all languages do: `clients/README.md` in the repository of
//! sessiond, and the conformance suite beside it. It runs on a Tokio runtime.
//!
//! ```no_run
//! use sessiond_client::{Client, CreateSession};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8081", std::env::var("SESSIOND_KEY")?)?;
//! let sign_in = CreateSession {
//!     user_id: Some("00000000-0000-4000-8000-00000000000a".parse()?),
//!     issue_token: true,
//!     ..CreateSession::default()
//! };
//! let created = client.create_session(&sign_in).await?;
//! client.revoke_session(created.session.id, Some("signed out")).await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod require_session;
mod transport;
mod types;

pub use client::Client;
pub use error::{Error, FieldError, Problem, Result, Unavailable};
pub use require_session::{GuardedService, RequireSession, clear_cookie};
pub use secrecy::{ExposeSecret, SecretString};
pub use transport::{InvalidSettings, Settings};
pub use types::{
    Change, CreateSession, CreatedSession, Device, EditSession, Event, EventPage, InspectedSession,
    ListEvents, ListSessions, Metadata, RotatedToken, Session, SessionList, SessionStatus,
    TokenStatus, Verification,
};
