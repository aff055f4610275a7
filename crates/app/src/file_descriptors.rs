//! How many files and sockets this process may have open, and who gets how many.

use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::config::Settings;
use crate::http::ConnectionSettings;

/// Connections of the public listener where nothing else is configured, at most.
const MAX_PUBLIC: u64 = 10_000;
/// Connections of the service listener, at most: backends keep a few each.
const MAX_SERVICE: u64 = 2_000;
/// Descriptors for everything but connections of clients and of the database: files, logs, Redis,
/// an issuer's keys, and connections that have just been closed.
const RESERVE: u64 = 128;

/// How the file descriptors of this process are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileDescriptors {
    public: usize,
    service: usize,
}

impl FileDescriptors {
    /// Raises the limit as far as this process may, and divides what there is: idle end users must
    /// not take what the service listener, the database and health checks need.
    pub(crate) fn raise(settings: &Settings) -> Self {
        let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot raise the limit of open files");
            1024
        });
        let divided =
            Self::divide(limit, settings.pool_size.into(), settings.max_connections.map(u64::from));
        let wanted = settings.max_connections.map_or(divided.public, |wanted| wanted as usize);
        if divided.public < wanted {
            tracing::warn!(
                limit,
                wanted,
                possible = divided.public,
                "server.max_connections is beyond the limit of open files"
            );
        }
        tracing::info!(
            limit,
            public = divided.public,
            service = divided.service,
            "connections by the limit of open files"
        );
        divided
    }

    /// Divides `limit` descriptors.
    pub(crate) fn divide(limit: u64, pool_size: u64, max_public: Option<u64>) -> Self {
        let clients = limit.saturating_sub(RESERVE + 2 * pool_size).max(32);
        let service = (clients / 4).clamp(16, MAX_SERVICE);
        let public = max_public.unwrap_or(MAX_PUBLIC).min(clients - service).max(16);
        Self { public: public as usize, service: service as usize }
    }

    /// Returns the bounds of the public listener.
    pub(crate) fn public(&self, settings: &Settings) -> ConnectionSettings {
        let half = (self.public / 2).max(1);
        let max_per_address =
            settings.limits.connections_per_address.map_or(half, |max| max as usize);
        connection_settings(self.public, max_per_address, settings)
    }

    /// Returns the bounds of the service listener, all of whose callers may come from one address.
    pub(crate) fn service(&self, settings: &Settings) -> ConnectionSettings {
        connection_settings(self.service, self.service, settings)
    }
}

fn connection_settings(
    max: usize,
    max_per_address: usize,
    settings: &Settings,
) -> ConnectionSettings {
    let trusted_proxies: Arc<[IpNetwork]> = settings.trusted_proxies.clone().into();
    let idle_timeout: Duration = settings.idle_timeout;
    ConnectionSettings { max, max_per_address, idle_timeout, trusted_proxies }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_listener_and_database_have_theirs_under_every_limit() {
        for (limit, max_public, expected) in [
            (1024, None, (648, 216)),
            (1_048_576, None, (10_000, 2_000)),
            (1_048_576, Some(50_000), (50_000, 2_000)),
            (1024, Some(50_000), (648, 216)),
            (1024, Some(100), (100, 216)),
            (64, None, (16, 16)),
        ] {
            let divided = FileDescriptors::divide(limit, 16, max_public);
            assert_eq!((divided.public, divided.service), expected, "{limit} {max_public:?}");
        }
    }
}
