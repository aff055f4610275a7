//! The composition root: the only room that names concrete adapters.
//!
//! - [`node`]: an application on the adapters that the configuration names.
//! - `store`, `cache`: the adapters of the database and of the shared cache.
//! - `connections`: which adapters have connections to close.
//! - [`interfaces`]: the HTTP interfaces in front of a node.
//! - [`credentials`]: the keys that callers are verified with.
//! - [`maintenance`]: work on the store without a node.
//! - [`inspection`]: what `sessiond doctor` asks.
//!
//! To add a store: a variant of `StoreUrl` in `config/settings.rs`, and the arms that the compiler
//! then asks for here: `store`, `maintenance`, `inspection`, `credentials`. To add a shared cache:
//! `cache`, `connections`, `inspection`, and the field of [`node::Node`] that is reloaded.

mod cache;
mod connections;
pub mod credentials;
pub mod inspection;
pub mod interfaces;
pub mod maintenance;
pub mod node;
mod store;
