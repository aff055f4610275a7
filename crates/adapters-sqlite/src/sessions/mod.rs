//! The table of sessions: reads, changes, and cleaning up.

pub(crate) mod repository;
pub(crate) mod retention;
mod row;
mod search;
