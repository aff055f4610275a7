//! [`SessionRepository`](domain::ports::SessionRepository) on PostgreSQL, 13 or newer, by sea-orm.
//!
//! Columns have PostgreSQL's own types (uuid, timestamptz, inet); every write is one statement; every wait has a bound (the
//! constants of `connection.rs`).
//!
//! To change the schema: a new file in `migrations/`, one line in `migrations/mod.rs`, and [`SCHEMA_VERSION`] one higher.

mod connection;
mod migrations;
mod postgres_session_repository;
mod schema;

pub use connection::OpenError;
pub use postgres_session_repository::PostgresSessionRepository;
pub use schema::{Inspection, Migrated, SCHEMA_VERSION, inspect, migrate};

// sea-orm re-exports sqlx; the direct dependency only selects its TLS provider (docs/decisions/0002-one-crypto-provider.md).
use sqlx as _;
