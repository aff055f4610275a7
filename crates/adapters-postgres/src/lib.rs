//! The ports of a store on PostgreSQL, 13 or newer, by sea-orm: sessions, their events, their
//! retention.
//!
//! Columns have PostgreSQL's own types (uuid, timestamptz, inet); every write is one statement;
//! every wait has a bound (the constants of `database/connection.rs`).
//!
//! To change the schema: a new file in `migrations/`, one line in `migrations/mod.rs`, and
//! [`SCHEMA_VERSION`] one higher.

mod dashtam_sessions;
mod database;
mod event_outbox;
mod migrations;
mod node_directory;
mod revocation_feed;
mod sessions;

pub use dashtam_sessions::DashtamSessions;
pub use database::connection::OpenError;
pub use database::pool::{Options, PostgresDatabase};
pub use database::schema::{
    Inspection, Migrated, OpenTransaction, SCHEMA_VERSION, inspect, migrate,
};
pub use event_outbox::PostgresEventOutbox;
pub use node_directory::PostgresNodeDirectory;
pub use revocation_feed::PostgresRevocationFeed;
pub use sessions::repository::PostgresSessionRepository;
pub use sessions::retention::PostgresSessionRetention;

// sea-orm re-exports sqlx; the direct dependency only selects its TLS provider
// (docs/decisions/0002-one-crypto-provider.md).
use sqlx as _;
