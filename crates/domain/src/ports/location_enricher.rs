//! Finds the place of an address.

use std::net::IpAddr;

/// Returns the place of an address.
///
/// MUST neither block nor fail: an enricher that does not know, or is not ready, returns `None`.
pub trait LocationEnricher: Send + Sync {
    /// Returns the place in words, such as "Berlin, DE".
    fn location(&self, address: IpAddr) -> Option<String>;
}
