//! The connections to one PostgreSQL database, its schema, and what its errors mean.

pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod pool;
pub(crate) mod schema;
