//! The service around the application: configuration, wiring, HTTP, command line.
//!
//! This is the only crate that knows everybody, and [`wiring`] is the only file in it that names concrete adapters. To embed
//! sessiond by configuration, call [`wiring::wire`] and use [`application::Application`] directly.

pub mod auth;
pub mod cli;
pub mod config;
mod descriptors;
pub mod http;
mod loopback;
pub mod system;
mod telemetry;
pub mod wiring;
