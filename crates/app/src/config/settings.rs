use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use application::Policies;
use chrono::TimeDelta;
use domain::{OnLimit, SessionPolicy};
use ipnetwork::IpNetwork;
use secrecy::{ExposeSecret, SecretString};

use super::keys::PRESETS;
use super::values::{ConfigError, Values};

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
    /// `store.url`
    pub store_url: StoreUrl,
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

/// `auth.*`
pub struct AuthSettings {
    /// `auth.jwt.hs256_secret`
    pub hs256_secret: Option<SecretString>,
    /// `auth.jwt.public_key_file`
    pub public_key_file: Option<PathBuf>,
    /// `auth.jwt.jwks_file`
    pub jwks_file: Option<PathBuf>,
    /// `auth.jwt.jwks_url`
    pub jwks_url: Option<String>,
    /// `auth.jwt.issuer`
    pub issuers: Vec<String>,
    /// `auth.jwt.audience`
    pub audiences: Vec<String>,
    /// `auth.jwt.session_claim`
    pub session_claim: String,
    /// `auth.jwt.types`, in lower case
    pub types: Vec<String>,
    /// `auth.service_key_hashes`
    pub service_key_hashes: Vec<[u8; 32]>,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for programs.
    Json,
}

impl AuthSettings {
    /// Whether any key for end users' tokens is configured.
    pub fn has_token_keys(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }
}

impl Settings {
    /// Checks the values and gives them their types; reads the files that hold secrets.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the first key that does not fit.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let reader = Reader(values);
        Ok(Self {
            listen: reader.parse("server.listen", "must be an address and a port, such as 127.0.0.1:8080")?,
            service_listen: reader
                .parse("server.service_listen", "must be an address and a port, such as 127.0.0.1:8081")?,
            shutdown_delay: reader.duration("server.shutdown_delay", "0s", "10m")?,
            trusted_proxies: reader.networks("server.trusted_proxies")?,
            store_url: reader.store_url()?,
            pool_size: reader.bounded("store.pool_size", 1, 1000)?,
            cache: CacheSettings {
                url: reader.secret("cache.url")?.filter(|url| url.expose_secret() != "none"),
                key_prefix: reader.checked(
                    "cache.key_prefix",
                    "must be 1 to 32 printable ASCII characters",
                    |prefix| (1..=32).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic()),
                )?,
                mac_key: reader.mac_key()?,
                near_entries: reader.bounded("cache.near_entries", 0, 100_000_000)?,
            },
            auth: reader.auth()?,
            poll: reader.poll()?,
            policies: reader.policies()?,
            cleanup_interval: Some(reader.duration("cleanup.interval", "0s", "7d")?).filter(|every| !every.is_zero()),
            geoip_file: reader.text("enrich.geoip_file").map(PathBuf::from),
            client_service_key: reader.secret("client.service_key")?,
            log_level: reader.checked("log.level", "must be a level, such as info", |level| {
                !level.is_empty() && tracing_subscriber::EnvFilter::try_new(level).is_ok()
            })?,
            log_format: match reader.text("log.format").as_deref() {
                Some("json") => LogFormat::Json,
                Some("text") => LogFormat::Text,
                _ => return Err(reader.invalid("log.format", "must be text or json")),
            },
        })
    }
}

const LIFETIME: &str = "sessions.lifetime";
const IDLE_TIMEOUT: &str = "sessions.idle_timeout";
const SLIDING: &str = "sessions.sliding";

/// Reads one key after the other.
struct Reader<'a>(&'a Values);

impl Reader<'_> {
    fn invalid(&self, key: &str, problem: impl Display) -> ConfigError {
        let origin = self.0.get(key).map_or("default", |(_, origin)| origin).to_owned();
        ConfigError::Invalid { key: key.to_owned(), origin, problem: problem.to_string() }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|(value, _)| value.trim().to_owned())
    }

    fn list(&self, key: &str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    fn parse<T: FromStr>(&self, key: &str, problem: &str) -> Result<T, ConfigError> {
        self.text(key).and_then(|text| text.parse().ok()).ok_or_else(|| self.invalid(key, problem))
    }

    fn bounded<T: FromStr + PartialOrd + Display>(&self, key: &str, low: T, high: T) -> Result<T, ConfigError> {
        let problem = format!("must be a whole number from {low} to {high}");
        let number: T = self.parse(key, &problem)?;
        if number < low || number > high { Err(self.invalid(key, problem)) } else { Ok(number) }
    }

    fn checked(&self, key: &str, problem: &str, fits: impl Fn(&str) -> bool) -> Result<String, ConfigError> {
        self.text(key).filter(|text| fits(text)).ok_or_else(|| self.invalid(key, problem))
    }

    /// The value of a key, or of the file that its `_file` twin names. A default gives way to a twin.
    fn secret(&self, key: &str) -> Result<Option<SecretString>, ConfigError> {
        let twin = format!("{key}_file");
        let value = self.0.get(key);
        let Some(path) = self.text(&twin) else {
            return Ok(value.map(|(value, _)| value.to_owned().into()));
        };
        if value.is_some_and(|(_, origin)| origin != "default") {
            return Err(self.invalid(&twin, format!("is set together with {key}; set one of the two")));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| self.invalid(&twin, format!("cannot read {path}: {error}")))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()))
    }

    fn store_url(&self) -> Result<StoreUrl, ConfigError> {
        let url = self.secret("store.url")?.unwrap_or_default();
        match url.expose_secret().split_once(':') {
            Some(("sqlite", _)) => Ok(StoreUrl::Sqlite(url.expose_secret().to_owned())),
            Some(("postgres" | "postgresql", _)) => Ok(StoreUrl::Postgres(url)),
            _ => Err(self.invalid("store.url", "must start with sqlite:// or postgres://")),
        }
    }

    fn policy(&self) -> Result<SessionPolicy, ConfigError> {
        const MAX: &str = "sessions.max_per_user";
        let max_per_user = match self.text(MAX) {
            None => None,
            Some(_) => NonZeroU32::new(self.bounded(MAX, 1, 1000)?),
        };
        let on_limit = match self.text("sessions.on_limit").as_deref() {
            Some("evict-oldest") => OnLimit::EvictOldest,
            Some("deny") => OnLimit::Deny,
            _ => return Err(self.invalid("sessions.on_limit", "must be evict-oldest or deny")),
        };
        let policy = SessionPolicy {
            lifetime: self.time_delta(LIFETIME, "1s", "3650d")?,
            idle_timeout: match self.text(IDLE_TIMEOUT).as_deref() {
                None | Some("none") => None,
                Some(_) => Some(self.time_delta(IDLE_TIMEOUT, "1s", "3650d")?),
            },
            sliding: self.parse(SLIDING, "must be true or false")?,
            max_per_user,
            on_limit,
        };
        self.check_preset(&policy)?;
        Ok(policy)
    }

    /// Whoever names a level may be stricter than it asks for, not laxer.
    fn check_preset(&self, policy: &SessionPolicy) -> Result<(), ConfigError> {
        let Some(name) = self.text("sessions.preset") else { return Ok(()) };
        let preset = PRESETS.iter().find(|preset| preset.name == name);
        let preset = preset.ok_or_else(|| self.invalid("sessions.preset", "must be aal1, aal2 or aal3"))?;
        let at_most = |limit: &str| {
            let limit = humantime::parse_duration(limit).ok();
            limit.and_then(|limit| TimeDelta::from_std(limit).ok()).unwrap_or_default()
        };
        let too_long = |key, limit| self.invalid(key, format!("must be at most {limit} with sessions.preset = {name}"));
        if policy.lifetime > at_most(preset.lifetime) {
            return Err(too_long(LIFETIME, preset.lifetime));
        }
        if let Some(limit) = preset.idle_timeout
            && policy.idle_timeout.is_none_or(|timeout| timeout > at_most(limit))
        {
            return Err(too_long(IDLE_TIMEOUT, limit));
        }
        if policy.sliding {
            return Err(
                self.invalid(SLIDING, format!("must be false with sessions.preset = {name}: its lifetime is absolute"))
            );
        }
        Ok(())
    }

    fn policies(&self) -> Result<Policies, ConfigError> {
        Ok(Policies {
            sessions: self.policy()?,
            activity_window: self.time_delta("activity.window", "0s", "1h")?,
            retention: self.time_delta("cleanup.retention", "0s", "3650d")?,
            max_staleness: Duration::from_millis(self.max_staleness_ms()?),
        })
    }

    fn mac_key(&self) -> Result<Option<SecretString>, ConfigError> {
        let key = self.secret("cache.mac_key")?;
        if key.as_ref().is_some_and(|key| key.expose_secret().len() < 32) {
            return Err(
                self.invalid("cache.mac_key_file", "must hold at least 32 bytes; make one with: openssl rand -hex 32")
            );
        }
        Ok(key)
    }

    fn max_staleness_ms(&self) -> Result<u64, ConfigError> {
        self.bounded("coherence.max_staleness_ms", 50, 10_000)
    }

    fn poll(&self) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(self.bounded("coherence.poll_ms", 10, self.max_staleness_ms()? / 2)?))
    }

    fn duration(&self, key: &str, low: &str, high: &str) -> Result<Duration, ConfigError> {
        let problem = || self.invalid(key, format!("must be a duration from {low} to {high}, such as 30d, 12h or 90s"));
        let parse = |text: &str| humantime::parse_duration(text).map_err(|_| problem());
        let duration = parse(&self.text(key).unwrap_or_default())?;
        if duration < parse(low)? || duration > parse(high)? { Err(problem()) } else { Ok(duration) }
    }

    fn time_delta(&self, key: &str, low: &str, high: &str) -> Result<TimeDelta, ConfigError> {
        let duration = self.duration(key, low, high)?;
        // Stores keep microseconds.
        let micros = i64::try_from(duration.as_micros()).map_err(|error| self.invalid(key, error))?;
        Ok(TimeDelta::microseconds(micros))
    }

    fn networks(&self, key: &str) -> Result<Vec<IpNetwork>, ConfigError> {
        let network = |text: &String| {
            text.parse()
                .map_err(|_| self.invalid(key, format!("{text} is no network such as 10.0.0.0/8 or 2001:db8::/32")))
        };
        self.list(key).iter().map(network).collect()
    }

    fn auth(&self) -> Result<AuthSettings, ConfigError> {
        const SECRET: &str = "auth.jwt.hs256_secret";
        let hs256_secret = self.secret(SECRET)?;
        // RFC 7518 section 3.2: a key of the hash's size or larger MUST be used.
        if hs256_secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 32) {
            return Err(self.invalid(
                SECRET,
                "must have at least 32 bytes (RFC 7518 section 3.2); make one with: openssl rand -hex 32",
            ));
        }
        let types: Vec<_> = self.list("auth.jwt.types").iter().map(|name| name.to_lowercase()).collect();
        if types.is_empty() {
            return Err(self.invalid("auth.jwt.types", "must name at least one type, such as at+jwt"));
        }
        Ok(AuthSettings {
            hs256_secret,
            public_key_file: self.text("auth.jwt.public_key_file").map(PathBuf::from),
            jwks_file: self.text("auth.jwt.jwks_file").map(PathBuf::from),
            jwks_url: self.jwks_url()?,
            issuers: self.list("auth.jwt.issuer"),
            audiences: self.list("auth.jwt.audience"),
            session_claim: self.checked(
                "auth.jwt.session_claim",
                "must be the name of a claim, such as sid",
                |claim| !claim.is_empty() && !["sub", "exp", "nbf", "iss", "aud"].contains(&claim),
            )?,
            types,
            service_key_hashes: self.service_key_hashes()?,
        })
    }

    /// Keys fetched over plain HTTP could be anybody's.
    fn jwks_url(&self) -> Result<Option<String>, ConfigError> {
        const KEY: &str = "auth.jwt.jwks_url";
        let Some(text) = self.text(KEY) else { return Ok(None) };
        let url = reqwest::Url::parse(&text).map_err(|_| self.invalid(KEY, "must be a URL"))?;
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match url.scheme() {
            "https" => Ok(Some(text)),
            "http" if loopback => Ok(Some(text)),
            _ => Err(self.invalid(KEY, "must start with https:// (http:// is accepted on loopback only)")),
        }
    }

    fn service_key_hashes(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        const KEY: &str = "auth.service_key_hashes";
        const PROBLEM: &str =
            "must be SHA-256 hashes of 64 hexadecimal digits each; make one with: printf %s \"$KEY\" | sha256sum";
        let decode = |text: &String| {
            let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
            let bytes: Vec<u8> = digits?.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
            if text.len() == 64 { <[u8; 32]>::try_from(bytes).ok() } else { None }
        };
        self.list(KEY).iter().map(|text| decode(text).ok_or_else(|| self.invalid(KEY, PROBLEM))).collect()
    }
}
