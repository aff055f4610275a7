//! The configuration, checked.

mod auth;
mod policies;

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use application::Policies;
use chrono::TimeDelta;
use ipnetwork::{IpNetwork, Ipv4Network};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::error::{ConfigError, ConfigErrors};
use super::keys::ISSUER;
use super::values::{DEFAULT, Section, Values};

pub use self::auth::{AuthSettings, IssuerSettings, Scopes, ServiceKeySettings, SubjectMapping};

/// The configuration, checked.
pub struct Settings {
    /// `server.listen`
    pub listen: SocketAddr,
    /// `server.service_listen`
    pub service_listen: SocketAddr,
    /// `server.shutdown_delay`
    pub shutdown_delay: Duration,
    /// `server.trusted_proxies`
    pub trusted_proxies: Vec<IpNetwork>,
    /// `server.cors_origins`
    pub cors_origins: Vec<String>,
    /// `server.max_connections`; `None`: as the limit of open files allows.
    pub max_connections: Option<u32>,
    /// `server.idle_timeout`
    pub idle_timeout: Duration,
    /// `limits.*`
    pub limits: LimitSettings,
    /// `store.url`
    pub store_url: StoreUrl,
    /// `store.direct_url`
    pub direct_url: Option<SecretString>,
    /// `store.prepared`
    pub prepared: bool,
    /// `store.migrate`
    pub migrate: bool,
    /// `store.pool_size`
    pub pool_size: u32,
    /// `cache.*`
    pub cache: CacheSettings,
    /// `auth.*`
    pub auth: AuthSettings,
    /// `coherence.poll_ms`
    pub poll: Duration,
    /// `sessions.*`, `activity.*`, `cleanup.retention`, `coherence.max_staleness_ms`
    pub policies: Policies,
    /// `cleanup.interval`; `None`: never.
    pub cleanup_interval: Option<Duration>,
    /// `enrich.geoip_file`
    pub geoip_file: Option<PathBuf>,
    /// `client.service_key`
    pub client_service_key: Option<SecretString>,
    /// Variables that begin like ours and are none: worth a warning.
    pub passed_over: Vec<String>,
    /// `log.level`
    pub log_level: String,
    /// `log.format`
    pub log_format: LogFormat,
}

/// Which database, and where. The URL may hold a password.
#[derive(Clone)]
pub enum StoreUrl {
    /// One file of this process's own.
    Sqlite(String),
    /// A server.
    Postgres(SecretString),
}

/// `cache.*`
pub struct CacheSettings {
    /// `cache.url`; `None`: there is no shared cache.
    pub url: Option<SecretString>,
    /// `cache.key_prefix`
    pub key_prefix: String,
    /// `cache.mac_key_file`
    pub mac_key: Option<SecretString>,
    /// `cache.near_entries`
    pub near_entries: usize,
}

/// `limits.*`. 0 is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests a second of one user.
    pub user_rate: u32,
    /// Requests of one user at once, after a pause.
    pub user_burst: u32,
    /// Failed authentications a second of one address.
    pub peer_failure_rate: u32,
    /// Failed authentications of one address at once, after a pause.
    pub peer_failure_burst: u32,
    /// Requests that one listener works on at a time.
    pub in_flight: u32,
    /// Connections of one address to the public listener; `None`: half of all.
    pub connections_per_address: Option<u32>,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for programs.
    Json,
}

impl Settings {
    /// Checks the values and gives them their types; reads the files that hold secrets.
    ///
    /// # Errors
    /// [`ConfigErrors`] names every key that does not fit, and what was wrong with the sources.
    pub fn from_values(values: &Values) -> Result<Self, ConfigErrors> {
        let errors = RefCell::new(values.errors.clone());
        let reader = Reader { section: &values.keys, label: None, errors: &errors };
        let settings = reader.settings(values);
        let errors = errors.into_inner();
        match settings {
            Some(settings) if errors.is_empty() => Ok(settings),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

/// Reads one key after the other. What is wrong is written down, and `None` returned: all errors
/// are shown at once.
struct Reader<'a> {
    section: &'a Section,
    /// The table that is read, where it is not the whole configuration.
    label: Option<String>,
    errors: &'a RefCell<Vec<ConfigError>>,
}

impl Reader<'_> {
    fn settings(&self, values: &Values) -> Option<Settings> {
        const ADDRESS: &str = "must be an address and a port, such as 127.0.0.1:8080";
        // Each is read, also after an error in one before.
        let listen = self.parse("server.listen", ADDRESS);
        let service_listen = self.parse("server.service_listen", ADDRESS);
        let shutdown_delay = self.duration("server.shutdown_delay", "0s", "10m");
        let idle_timeout = self.duration("server.idle_timeout", "5s", "1h");
        let trusted_proxies = self.networks("server.trusted_proxies");
        let cors_origins = self.origins("server.cors_origins");
        let max_connections = self.optional("server.max_connections", 16, 1_000_000);
        let limits = self.limits();
        let store_url = self.store_url();
        let direct_url = self.secret("store.direct_url");
        let pool_size = self.bounded("store.pool_size", 1, 1000);
        let prepared = self.flag("store.prepared");
        let migrate = self.flag("store.migrate");
        let cache = self.cache();
        let auth = self.auth(values);
        let poll = self.poll();
        let policies = self.policies();
        let cleanup_interval = self.duration("cleanup.interval", "0s", "7d");
        let client_service_key = self.secret("client.service_key");
        let log_level = self.checked("log.level", "must be a level, such as info", |level| {
            tracing_subscriber::EnvFilter::try_new(level).is_ok()
        });
        let log_format =
            self.one_of("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        if matches!(store_url, Some(StoreUrl::Sqlite(_)))
            && direct_url.as_ref().is_some_and(Option::is_some)
        {
            self.fail::<()>(
                "store.direct_url",
                "is for PostgreSQL behind a pooler, and store.url is a SQLite file",
            );
        }
        Some(Settings {
            listen: listen?,
            service_listen: service_listen?,
            shutdown_delay: shutdown_delay?,
            trusted_proxies: trusted_proxies?,
            cors_origins: cors_origins?,
            max_connections: max_connections?,
            idle_timeout: idle_timeout?,
            limits: limits?,
            store_url: store_url?,
            direct_url: direct_url?,
            prepared: prepared?,
            migrate: migrate?,
            pool_size: pool_size?,
            cache: cache?,
            auth: auth?,
            poll: poll?,
            policies: policies?,
            cleanup_interval: Some(cleanup_interval?).filter(|every| !every.is_zero()),
            geoip_file: self.text("enrich.geoip_file").map(PathBuf::from),
            client_service_key: client_service_key?,
            passed_over: values.passed_over.clone(),
            log_level: log_level?,
            log_format: log_format?,
        })
    }

    /// Writes down what is wrong with a key.
    fn fail<T>(&self, key: &str, problem: impl Display) -> Option<T> {
        let origin =
            self.section.get(key).map_or(DEFAULT, |(_, origin)| origin.as_str()).to_owned();
        let key = match (&self.label, key.strip_prefix(ISSUER)) {
            (Some(label), Some(field)) => format!("{label}.{field}"),
            _ => key.to_owned(),
        };
        self.errors.borrow_mut().push(ConfigError::Invalid {
            key,
            origin,
            problem: problem.to_string(),
        });
        None
    }

    fn text(&self, key: &str) -> Option<String> {
        self.section.get(key).map(|(value, _)| value.trim().to_owned())
    }

    fn is_set(&self, key: &str) -> bool {
        self.section.get(key).is_some_and(|(_, origin)| origin != DEFAULT)
    }

    fn list(&self, key: &str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    fn parse<T: FromStr>(&self, key: &str, problem: &str) -> Option<T> {
        self.text(key).and_then(|text| text.parse().ok()).or_else(|| self.fail(key, problem))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.parse(key, "must be true or false")
    }

    fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key).unwrap_or_default();
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
        chosen.or_else(|| self.fail(key, format!("must be {}", names())))
    }

    fn bounded<T: FromStr + PartialOrd + Display>(&self, key: &str, low: T, high: T) -> Option<T> {
        let problem = format!("must be a whole number from {low} to {high}");
        let number: T = self.parse(key, &problem)?;
        if number < low || number > high { self.fail(key, problem) } else { Some(number) }
    }

    /// The same for a key that may be absent.
    fn optional(&self, key: &str, low: u32, high: u32) -> Option<Option<u32>> {
        if self.text(key).is_none() { Some(None) } else { self.bounded(key, low, high).map(Some) }
    }

    fn checked(&self, key: &str, problem: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.text(key).filter(|text| fits(text)).or_else(|| self.fail(key, problem))
    }

    /// Returns the value of a key, or of the file that its `_file` twin names. A default gives way
    /// to a twin.
    fn secret(&self, key: &str) -> Option<Option<SecretString>> {
        let twin = format!("{key}_file");
        let Some(path) = self.text(&twin) else {
            return Some(self.text(key).map(SecretString::from));
        };
        if self.is_set(key) {
            return self.fail(&twin, format!("is set together with {key}; set one of the two"));
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return self.fail(&twin, format!("cannot read {path}: {error}")),
        };
        // Editors put a byte order mark in front, and a line break behind.
        let text = text
            .trim_matches(|character: char| character.is_whitespace() || character == '\u{FEFF}');
        if text.is_empty() {
            return self.fail(&twin, format!("{path} is empty"));
        }
        Some(Some(text.to_owned().into()))
    }

    fn store_url(&self) -> Option<StoreUrl> {
        let url = self.secret("store.url")?.unwrap_or_default();
        match url.expose_secret().split_once(':') {
            Some(("sqlite", _)) => Some(StoreUrl::Sqlite(url.expose_secret().to_owned())),
            Some(("postgres" | "postgresql", _)) => Some(StoreUrl::Postgres(url)),
            _ => self.fail("store.url", "must start with sqlite:// or postgres://"),
        }
    }

    fn cache(&self) -> Option<CacheSettings> {
        let url = self.secret("cache.url");
        let key_prefix = self.checked(
            "cache.key_prefix",
            "must be 1 to 32 printable ASCII characters",
            |prefix| {
                (1..=32).contains(&prefix.len())
                    && prefix.bytes().all(|byte| byte.is_ascii_graphic())
            },
        );
        let mac_key = self.mac_key();
        let near_entries = self.bounded("cache.near_entries", 0, 100_000_000);
        Some(CacheSettings {
            url: url?.filter(|url| url.expose_secret() != "none"),
            key_prefix: key_prefix?,
            mac_key: mac_key?,
            near_entries: near_entries?,
        })
    }

    fn limits(&self) -> Option<LimitSettings> {
        const MAX: u32 = 1_000_000;
        let user_rate = self.bounded("limits.user_rate", 0, MAX);
        let user_burst = self.bounded("limits.user_burst", 1, MAX);
        let peer_failure_rate = self.bounded("limits.peer_failure_rate", 0, MAX);
        let peer_failure_burst = self.bounded("limits.peer_failure_burst", 1, MAX);
        let in_flight = self.bounded("limits.in_flight", 0, MAX);
        let connections_per_address = self.optional("limits.connections_per_address", 1, MAX);
        Some(LimitSettings {
            user_rate: user_rate?,
            user_burst: user_burst?,
            peer_failure_rate: peer_failure_rate?,
            peer_failure_burst: peer_failure_burst?,
            in_flight: in_flight?,
            connections_per_address: connections_per_address?,
        })
    }

    fn mac_key(&self) -> Option<Option<SecretString>> {
        let key = self.secret("cache.mac_key")?;
        if key.as_ref().is_some_and(|key| key.expose_secret().len() < 32) {
            const PROBLEM: &str =
                "must hold at least 32 bytes; make one with: openssl rand -hex 32";
            return self.fail("cache.mac_key_file", PROBLEM);
        }
        Some(key)
    }

    fn duration(&self, key: &str, low: &str, high: &str) -> Option<Duration> {
        let parse = |text: &str| humantime::parse_duration(text).ok();
        let bounds = parse(low).zip(parse(high));
        let duration = parse(&self.text(key).unwrap_or_default());
        let fits =
            |duration: &Duration| bounds.is_some_and(|(low, high)| (low..=high).contains(duration));
        duration.filter(fits).or_else(|| {
            self.fail(
                key,
                format!("must be a duration from {low} to {high}, such as 30d, 12h or 90s"),
            )
        })
    }

    fn time_delta(&self, key: &str, low: &str, high: &str) -> Option<TimeDelta> {
        let duration = self.duration(key, low, high)?;
        // Stores keep microseconds.
        i64::try_from(duration.as_micros()).ok().map(TimeDelta::microseconds)
    }

    /// Networks as peers are seen: an IPv4 network in IPv6 spelling is IPv4.
    /// Reads origins as browsers write them (RFC 6454 section 6.2): `*` is none, and cookies would
    /// not be sent to it.
    fn origins(&self, key: &str) -> Option<Vec<String>> {
        let origin = |text: &String| {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let is_origin = url.is_some_and(|url| url.origin().ascii_serialization() == *text);
            if is_origin {
                return Some(text.clone());
            }
            self.fail(key, "must be origins such as https://app.example.com, comma separated")
        };
        self.list(key).iter().map(origin).collect()
    }

    fn networks(&self, key: &str) -> Option<Vec<IpNetwork>> {
        let network = |text: &String| {
            let network = text.parse::<IpNetwork>().ok().and_then(canonical);
            network.or_else(|| {
                self.fail(
                    key,
                    "must be networks such as 10.0.0.0/8 or 2001:db8::/32, comma separated",
                )
            })
        };
        self.list(key).iter().map(network).collect()
    }
}

fn canonical(network: IpNetwork) -> Option<IpNetwork> {
    let IpNetwork::V6(v6) = network else { return Some(network) };
    match v6.ip().to_ipv4_mapped() {
        None => Some(network),
        // A shorter prefix would trust every IPv4 address, and more.
        Some(v4) => Ipv4Network::new(v4, v6.prefix().checked_sub(96)?).ok().map(IpNetwork::V4),
    }
}

#[cfg(test)]
mod tests;
