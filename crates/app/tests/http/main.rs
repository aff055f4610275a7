//! The real routers over in-memory ports: what users of the HTTP interface can rely on.

mod public;
mod service;
mod setting;
