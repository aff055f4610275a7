//! Where values come from: defaults, a file, the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use super::error::{ConfigError, ConfigErrors};
use super::keys::{ISSUER, KEYS, Key, PRESETS};
use super::shown::shown;

/// The file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "sessiond.toml";

/// The origin of values that are not set.
pub(super) const DEFAULT: &str = "default";

/// Values by key, as text, with where they come from.
pub(super) type Section = BTreeMap<&'static str, (String, String)>;

/// The value of every key that has one, as text, with where it comes from; and what is wrong with
/// the sources.
#[derive(Default)]
pub struct Values {
    pub(super) keys: Section,
    /// The tables `[[auth.issuers]]`: each has keys of `auth.jwt.*`.
    pub(super) issuers: Vec<Section>,
    pub(super) errors: Vec<ConfigError>,
    /// Variables that begin like ours and are none.
    pub(super) passed_over: Vec<String>,
}

impl Values {
    /// Reads the file (`path`, or `sessiond.toml` in the working directory if it is there) and the
    /// process's environment.
    ///
    /// # Errors
    /// If the file cannot be read or is no TOML. What else is wrong,
    /// [`super::Settings::from_values`] says.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists());
        Self::from_sources(path.map(Path::to_owned).or_else(default), std::env::vars_os())
    }

    /// Returns the default of every key.
    pub fn defaults() -> Self {
        let keys = KEYS
            .iter()
            .filter_map(|key| Some((key.name, (key.default?.to_owned(), DEFAULT.to_owned()))));
        Self { keys: keys.collect(), ..Self::default() }
    }

    pub(super) fn from_sources(
        path: Option<PathBuf>,
        environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut values = Self::defaults();
        if let Some(path) = path {
            let origin = path.display().to_string();
            let mut table = read_toml(&path).map_err(|error| ConfigErrors(vec![error]))?;
            for (name, issuer) in take_tables(&mut table, "issuers") {
                values.add_issuer(&format!("{name} in {origin}"), issuer);
            }
            if let Some(keys) = take_service_keys(&mut table) {
                table.entry("auth").or_insert_with(|| Value::Table(toml::Table::new()));
                if let Some(Value::Table(auth)) = table.get_mut("auth") {
                    auth.insert("service_keys".to_owned(), keys);
                }
            }
            values.add("", Value::Table(table), &origin);
        }
        values.add_environment(environment);
        values.apply_preset();
        Ok(values)
    }

    /// Returns the value of a key, and where it comes from.
    pub fn get(&self, key: &str) -> Option<(&str, &str)> {
        self.keys.get(key).map(|(value, origin)| (value.as_str(), origin.as_str()))
    }

    /// Returns every key with its value as it may be shown, and where it comes from.
    pub fn shown(&self) -> impl Iterator<Item = (String, String, &str)> {
        let rows = KEYS.iter().map(|key| match self.keys.get(key.name) {
            None => (key.name.to_owned(), "none".to_owned(), DEFAULT),
            Some((value, origin)) => {
                (key.name.to_owned(), shown(value, key.shown), origin.as_str())
            }
        });
        let of_issuers = self.issuers.iter().enumerate().flat_map(|(index, issuer)| {
            let set = KEYS.iter().filter_map(|key| Some((key, issuer.get(key.name)?)));
            set.filter(|(_, (_, origin))| origin != DEFAULT).map(move |(key, (value, origin))| {
                let field = key.name.strip_prefix(ISSUER).unwrap_or(key.name);
                (format!("auth.issuers[{index}].{field}"), shown(value, key.shown), origin.as_str())
            })
        });
        rows.chain(of_issuers)
    }

    /// What a preset says counts where nothing else is set.
    fn apply_preset(&mut self) {
        let name = self.keys.get("sessions.preset").map(|(name, _)| name.trim().to_owned());
        let Some(preset) = PRESETS.iter().find(|preset| Some(preset.name) == name.as_deref())
        else {
            return;
        };
        let preset_values = [
            ("sessions.lifetime", Some(preset.lifetime)),
            ("sessions.idle_timeout", preset.idle_timeout),
        ];
        for (key, value) in preset_values {
            let is_default = self.keys.get(key).is_none_or(|(_, origin)| origin == DEFAULT);
            if let Some(value) = value.filter(|_| is_default) {
                self.keys.insert(key, (value.to_owned(), "sessions.preset".to_owned()));
            }
        }
    }

    /// Takes the variables `SESSIOND_SECTION__KEY`. Others that begin so are not ours: Kubernetes
    /// and Docker make some for every service of that name.
    fn add_environment(
        &mut self,
        environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) {
        let mut of_issuers: BTreeMap<u32, toml::Table> = BTreeMap::new();
        for (name, value) in environment {
            // Another program's variable may be no UTF-8.
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            let Some(rest) = name.strip_prefix("SESSIOND_") else { continue };
            if is_service_link(rest) {
                continue;
            }
            if !rest.contains("__") {
                self.passed_over.push(name);
                continue;
            }
            if value.trim().is_empty() {
                continue;
            }
            let key = rest.to_lowercase().replace("__", ".");
            let issuer = key.strip_prefix("auth.issuers.").and_then(|rest| rest.split_once('.'));
            if let Some((Ok(index), field)) = issuer.map(|(index, field)| (index.parse(), field)) {
                of_issuers.entry(index).or_default().insert(field.to_owned(), Value::String(value));
            } else {
                self.add(&key, Value::String(value), &name);
            }
        }
        for (index, issuer) in of_issuers {
            self.add_issuer(&format!("SESSIOND_AUTH__ISSUERS__{index}__"), issuer);
        }
    }

    fn add_issuer(&mut self, origin: &str, table: toml::Table) {
        let defaults = KEYS.iter().filter(|key| key.name.starts_with(ISSUER));
        let mut issuer: Section = defaults
            .filter_map(|key| Some((key.name, (key.default?.to_owned(), DEFAULT.to_owned()))))
            .collect();
        for (field, value) in table {
            let name = format!("{ISSUER}{field}");
            match KEYS.iter().find(|key| key.name == name) {
                Some(key) => self.take(key, value, origin).into_iter().for_each(|text| {
                    issuer.insert(key.name, (text, origin.to_owned()));
                }),
                None => {
                    let hint = nearest(&name)
                        .and_then(|key| key.strip_prefix(ISSUER))
                        .map(|key| format!("did you mean {key}?"));
                    let name = format!("auth.issuers.{field}");
                    let origin = origin.to_owned();
                    self.errors.push(ConfigError::Unknown { name, origin, hint });
                }
            }
        }
        self.issuers.push(issuer);
    }

    /// Takes the leaves of the tree one by one.
    fn add(&mut self, name: &str, value: Value, origin: &str) {
        if let Value::Table(table) = value {
            for (child, value) in table {
                let name = if name.is_empty() { child } else { format!("{name}.{child}") };
                self.add(&name, value, origin);
            }
            return;
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let name = name.to_owned();
            let origin = origin.to_owned();
            let hint = hint(&name, &origin);
            self.errors.push(ConfigError::Unknown { name, origin, hint });
            return;
        };
        if let Some(text) = self.take(key, value, origin) {
            self.keys.insert(key.name, (text, origin.to_owned()));
        }
    }

    /// Returns a value as text; `None` if it is empty, which is as good as absent, or of a wrong
    /// type.
    fn take(&mut self, key: &Key, value: Value, origin: &str) -> Option<String> {
        let leaf = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Boolean(flag) => Some(flag.to_string()),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
        };
        let text = match value {
            Value::Array(items) => {
                items.into_iter().map(leaf).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            value => leaf(value),
        };
        match text {
            Some(text) => Some(text).filter(|text| !text.trim().is_empty()),
            None => {
                let problem = "must be a text, a number or a list of texts".to_owned();
                self.errors.push(ConfigError::Invalid {
                    key: key.name.to_owned(),
                    origin: origin.to_owned(),
                    problem,
                });
                None
            }
        }
    }
}

/// Reads a file. An error names the position and not the line, in which a secret may stand.
fn read_toml(path: &Path) -> Result<toml::Table, ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Source(format!("{shown}: {error}")))?;
    text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ConfigError::Source(format!(
            "{shown}, line {line}, column {column}: {}",
            plain_message(error.message())
        ))
    })
}

/// Returns what the parser says, unless it quotes.
fn plain_message(message: &str) -> &str {
    let message = message.lines().next().unwrap_or_default();
    if message.contains(['`', '"', '\'']) && !message.starts_with("duplicate key") {
        "this is no TOML"
    } else {
        message
    }
}

/// Takes the tables `[[auth.NAME]]` out of the file, each with its name.
fn take_tables(table: &mut toml::Table, name: &str) -> Vec<(String, toml::Table)> {
    let Some(Value::Table(auth)) = table.get_mut("auth") else { return Vec::new() };
    let Some(Value::Array(items)) = auth.get(name) else { return Vec::new() };
    if !items.iter().all(Value::is_table) {
        return Vec::new();
    }
    let Some(Value::Array(items)) = auth.remove(name) else { return Vec::new() };
    let tables = items
        .into_iter()
        .filter_map(|item| if let Value::Table(table) = item { Some(table) } else { None });
    tables.enumerate().map(|(index, table)| (format!("auth.{name}[{index}]"), table)).collect()
}

/// Takes the tables `[[auth.service_keys]]` out of the file, in the form in which the environment
/// has them. What is missing or of a wrong type is empty there, and is found when the text is read.
fn take_service_keys(table: &mut toml::Table) -> Option<Value> {
    let tables = take_tables(table, "service_keys");
    let text = |table: &toml::Table, name: &str| match table.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+")
        }
        _ => String::new(),
    };
    let keys = tables.iter().map(|(_, table)| {
        let unknown =
            table.keys().find(|name| !["name", "sha256", "scopes"].contains(&name.as_str()));
        let mut key = format!("{}:{}", text(table, "name"), text(table, "sha256"));
        if table.contains_key("scopes") {
            key.push_str(&format!(":{}", text(table, "scopes")));
        }
        if let Some(unknown) = unknown {
            key.push_str(&format!(":unknown field {unknown}"));
        }
        Value::String(key)
    });
    let keys: Vec<_> = keys.collect();
    (!keys.is_empty()).then_some(Value::Array(keys))
}

/// Returns whether this is the end of a variable that Kubernetes or Docker makes for a service,
/// such as `SESSIOND_PORT_8080_TCP_ADDR`.
fn is_service_link(rest: &str) -> bool {
    let mut parts = rest.rsplit('_').peekable();
    if parts.next_if(|part| ["ADDR", "PORT", "PROTO"].contains(part)).is_some()
        && parts.peek().is_none()
    {
        return rest == "PORT";
    }
    let is_of_a_port =
        parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
            && parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next() == Some("PORT");
    is_of_a_port
        || rest == "PORT"
        || rest.ends_with("_PORT")
        || rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
}

/// Returns what was probably meant by a key that there is not.
fn hint(name: &str, origin: &str) -> Option<String> {
    let variable = |key: &str| format!("SESSIOND_{}", key.to_uppercase().replace('.', "__"));
    let from_environment = origin.starts_with("SESSIOND_");
    let key = nearest(name.trim_matches('.'))?;
    let meant = if from_environment { variable(key) } else { key.to_owned() };
    Some(format!("did you mean {meant}?"))
}

/// Returns the key that `name` was probably meant to be: one or two letters off, or with the same
/// last part.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let candidates = KEYS.iter().map(|key| (key.name, strsim::levenshtein(key.name, name)));
    let (key, distance) = candidates.min_by_key(|(_, distance)| *distance)?;
    if distance <= 3 {
        return Some(key);
    }
    KEYS.iter().map(|key| key.name).find(|key| last(key) == last(name))
}

#[cfg(test)]
mod tests {
    use testkit::TemporaryDir;

    use super::*;
    use crate::config::Settings;

    fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Values, ConfigErrors> {
        let dir = TemporaryDir::new();
        let path = file.map(|text| {
            let path = dir.path().join("sessiond.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        Values::from_sources(
            path,
            environment.iter().map(|(name, value)| (name.into(), value.into())),
        )
    }

    /// What is wrong with the sources, or with the values.
    fn message(file: Option<&str>, environment: &[(&str, &str)]) -> String {
        match load(file, environment) {
            Ok(values) => Settings::from_values(&values).err().unwrap().to_string(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn the_environment_outweighs_the_file_and_the_file_the_defaults() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\nservice_listen = \
            \"127.0.0.1:2\"\n[store]\npool_size = 7\n";
        let values =
            load(Some(file), &[("SESSIOND_SERVER__LISTEN", "127.0.0.1:3"), ("HOME", "/")]).unwrap();
        assert_eq!(values.get("server.listen"), Some(("127.0.0.1:3", "SESSIOND_SERVER__LISTEN")));
        let (value, origin) = values.get("server.service_listen").unwrap();
        assert!(value == "127.0.0.1:2" && origin.ends_with("sessiond.toml"), "{origin}");
        assert_eq!(values.get("store.pool_size").unwrap().0, "7");
        assert_eq!(values.get("store.url"), Some(("sqlite://sessiond.db", DEFAULT)));
        assert_eq!(values.get("auth.jwt.issuer"), None);
    }

    #[test]
    fn a_preset_counts_where_nothing_else_is_set() {
        let values = load(
            None,
            &[("SESSIOND_SESSIONS__PRESET", "aal2"), ("SESSIOND_SESSIONS__LIFETIME", "8h")],
        )
        .unwrap();
        assert_eq!(values.get("sessions.lifetime"), Some(("8h", "SESSIOND_SESSIONS__LIFETIME")));
        assert_eq!(values.get("sessions.idle_timeout"), Some(("1h", "sessions.preset")));
        let values = load(None, &[("SESSIOND_SESSIONS__PRESET", "aal1")]).unwrap();
        assert_eq!(values.get("sessions.lifetime"), Some(("30d", "sessions.preset")));
        assert_eq!(values.get("sessions.idle_timeout"), None);
    }

    #[test]
    fn values_are_taken_as_they_are_written() {
        let values = load(None, &[("SESSIOND_AUTH__JWT__HS256_SECRET", "007")]).unwrap();
        assert_eq!(values.get("auth.jwt.hs256_secret").unwrap().0, "007");
        let values = load(Some("[auth]\nservice_key_hashes = [\"aa\", \"bb\"]"), &[]).unwrap();
        assert_eq!(values.get("auth.service_key_hashes").unwrap().0, "aa,bb");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_origin_and_the_likely_one() {
        let error = message(Some("[server]\nlisen = \"x\""), &[]);
        assert!(
            error.contains("unknown configuration key server.lisen")
                && error.contains("did you mean server.listen?"),
            "{error}"
        );
        let error = message(None, &[("SESSIOND_DATABASE__URL", "postgres://u:secret@h/d")]);
        assert!(
            error.contains("database.url (SESSIOND_DATABASE__URL)") && !error.contains("secret"),
            "{error}"
        );
        for name in
            ["SESSIOND__SERVER__LISTEN", "SESSIOND_SERVER__LISEN", "SESSIOND_SERVER__LISTEN__"]
        {
            assert!(
                message(None, &[(name, "x")]).contains("did you mean SESSIOND_SERVER__LISTEN?"),
                "{name}"
            );
        }
    }

    #[test]
    fn variables_of_kubernetes_and_docker_are_passed_over() {
        let links = [
            "SESSIOND_SERVICE_HOST",
            "SESSIOND_SERVICE_PORT",
            "SESSIOND_SERVICE_PORT_HTTP",
            "SESSIOND_PORT",
            "SESSIOND_PORT_8080_TCP",
            "SESSIOND_PORT_8080_TCP_ADDR",
            "SESSIOND_PORT_8080_TCP_PORT",
            "SESSIOND_PORT_8080_TCP_PROTO",
            "SESSIOND_PORT_53_UDP",
            "SESSIOND_REDIS_PORT_6379_TCP_ADDR",
            "SESSIOND_REDIS_SERVICE_HOST",
            "SESSIOND__X_PORT_80_TCP",
            "SESSIOND__X_SERVICE_HOST",
            "SESSIOND__X_PORT",
        ];
        for name in links {
            let values = load(None, &[(name, "tcp://10.0.0.1:8080")]).unwrap();
            assert!(
                Settings::from_values(&values).is_ok() && values.passed_over.is_empty(),
                "{name}"
            );
        }
        let values =
            load(None, &[("SESSIOND_NAME", "/web/sessiond"), ("SESSIOND_LISTEN", "x")]).unwrap();
        assert!(Settings::from_values(&values).is_ok());
        assert_eq!(values.passed_over, ["SESSIOND_NAME", "SESSIOND_LISTEN"]);
    }

    #[test]
    fn broken_file_is_one_line_with_the_place_and_without_the_line() {
        for (text, position) in [
            ("[server\n", "line 1"),
            ("[auth.jwt]\nhs256_secret = \"s3cret-s3cret", "line 2"),
            ("[client]\nservice_key = s3cret\n", "line 2"),
            ("[client]\nservice_key = 's3cret\n'", "line 3"),
            ("x = \"\\s3cret\"", "line 1"),
            ("s3cret", "line 1"),
            ("[a]\nb = 1\nb = \"s3cret\"\n", "line 3"),
        ] {
            let error = message(Some(text), &[]);
            assert!(
                error.contains("sessiond.toml, ") && error.contains(position),
                "{text}: {error}"
            );
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{text}: {error}");
        }
        let absent = Values::load(Some(Path::new("absent.toml"))).err().unwrap().to_string();
        assert!(absent.starts_with("cannot read the configuration: absent.toml"), "{absent}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let file = "[[auth.issuers]]\nissuer = \"https://a/\"\nhs256_secret = \"s3cret\"\n";
        let values = load(
            Some(file),
            &[
                ("SESSIOND_AUTH__JWT__HS256_SECRET", "s3cret"),
                ("SESSIOND_AUTH__JWT__JWKS_URL", "https://issuer/?api_key=s3cret"),
                ("SESSIOND_CLIENT__SERVICE_KEY", "s3cret"),
                (
                    "SESSIOND_STORE__URL",
                    "postgres://user:s3cr@et@host/db?sslpassword=s3cret&sslmode=require",
                ),
                ("SESSIOND_STORE__DIRECT_URL", "postgres://user:s3?cret@host/db"),
                ("SESSIOND_CACHE__URL", "redis://:s3cret@host/1"),
            ],
        )
        .unwrap();
        let shown: Vec<_> =
            values.shown().map(|(name, value, _)| format!("{name} = {value}")).collect();
        assert!(shown.iter().all(|line| !line.contains("s3c")), "{shown:?}");
        let url =
            "store.url = postgres://user:(hidden)@host/db?sslpassword=(hidden)&sslmode=require";
        for expected in
            [url, "auth.issuers[0].issuer = https://a/", "auth.issuers[0].hs256_secret = (hidden)"]
        {
            assert!(shown.iter().any(|line| line == expected), "{expected}: {shown:?}");
        }
    }
}
