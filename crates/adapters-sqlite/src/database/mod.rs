//! The SQLite file, its lock, its connections, and its schema.

pub(crate) mod file;
pub(crate) mod pool;
pub(crate) mod schema;
