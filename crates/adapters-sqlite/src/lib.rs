//! The ports of a store on one SQLite file, by sea-orm: the embedded default.
//!
//! The file belongs to one process, which holds an operating-system lock on `<file>.lock`. One
//! connection writes, several read (WAL); a commit is on the disk before it is acknowledged
//! (`synchronous = FULL`).
//!
//! To change the schema: a new file in `migrations/`, one line in `migrations/mod.rs`, and
//! [`SCHEMA_VERSION`] one higher.

mod database;
mod event_outbox;
mod migrations;
mod node_directory;
mod revocation_feed;
mod sessions;

pub use database::file::{DatabaseFile, OpenError};
pub use database::pool::SqliteDatabase;
pub use database::schema::{Migrated, SCHEMA_VERSION, inspect, migrate};
pub use event_outbox::SqliteEventOutbox;
pub use node_directory::SqliteNodeDirectory;
pub use revocation_feed::SqliteRevocationFeed;
pub use sessions::repository::SqliteSessionRepository;
pub use sessions::retention::SqliteSessionRetention;
