//! The table of sessions: reads, which are batched, changes, and cleaning up.

mod batched_reads;
pub(crate) mod repository;
pub(crate) mod retention;
mod row;
mod search;
