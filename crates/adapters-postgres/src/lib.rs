//! The ports of a store on PostgreSQL, 13 or newer, by sea-orm: sessions, their events, their retention.
//!
//! Columns have PostgreSQL's own types (uuid, timestamptz, inet); every write is one statement; every wait has a bound (the
//! constants of `connection.rs`).
//!
//! To change the schema: a new file in `migrations/`, one line in `migrations/mod.rs`, and [`SCHEMA_VERSION`] one higher.

mod batched_reads;
mod connection;
mod dashtam_sessions;
mod error;
mod migrations;
mod postgres_database;
mod postgres_event_outbox;
mod postgres_revocation_feed;
mod postgres_session_repository;
mod postgres_session_retention;
mod schema;
mod session_row;

pub use connection::OpenError;
pub use dashtam_sessions::DashtamSessions;
pub use postgres_database::{Options, PostgresDatabase};
pub use postgres_event_outbox::PostgresEventOutbox;
pub use postgres_revocation_feed::PostgresRevocationFeed;
pub use postgres_session_repository::PostgresSessionRepository;
pub use postgres_session_retention::PostgresSessionRetention;
pub use schema::{Inspection, Migrated, OpenTransaction, SCHEMA_VERSION, inspect, migrate};

// sea-orm re-exports sqlx; the direct dependency only selects its TLS provider (docs/decisions/0002-one-crypto-provider.md).
use sqlx as _;
