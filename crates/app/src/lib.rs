//! The service around the application: configuration, composition, HTTP, command line.
//!
//! This is the only crate that knows the adapters, and [`composition`] is the only room in it that
//! names them. To embed sessiond by configuration, call
//! [`composition::node::Node::connect`] and use [`application::Application`] directly.

pub mod auth;
pub mod cli;
pub mod composition;
pub mod config;
mod file_descriptors;
pub mod http;
mod loopback;
pub mod system;
mod telemetry;
