//! The composition root: the only room that names concrete adapters.
//!
//! - [`node`]: an application on the adapters that the configuration names.
//! - `store`, `cache`: the adapters of the database and of the shared cache.
//! - [`interfaces`]: the HTTP interfaces in front of a node.
//! - [`credentials`]: the keys that callers are verified with.
//! - [`maintenance`]: work on the store without a node.
//! - [`inspection`]: what `sessiond doctor` asks.
//!
//! To add an adapter: one variant in `config/settings.rs`, one arm in `store.rs` or `cache.rs`.

mod cache;
mod connections;
pub mod credentials;
pub mod inspection;
pub mod interfaces;
pub mod maintenance;
pub mod node;
mod store;
