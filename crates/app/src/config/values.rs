use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Source, Value, ValueKind};
use thiserror::Error;

use super::keys::{KEYS, Key, PRESETS, Shown};

/// The file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "sessiond.toml";

/// What is wrong with the configuration. One line each, naming the key and what to do; never a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error("cannot read the configuration: {0}")]
    Source(String),
    /// Nobody knows this key.
    #[error("unknown configuration key {name} ({origin}){}", .nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    Unknown {
        /// The key as it was written.
        name: String,
        /// Where it was written.
        origin: String,
        /// A key that is spelt alike.
        nearest: Option<&'static str>,
    },
    /// The value does not fit.
    #[error("{key} ({origin}): {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// Where the value comes from.
        origin: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// The value of every key that has one, as text, with where it comes from.
pub struct Values(BTreeMap<&'static str, (String, String)>);

impl Values {
    /// Reads the file (`path`, or `sessiond.toml` in the working directory if it is there) and the process's environment.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists());
        Self::from_sources(path.map(Path::to_owned).or_else(default), std::env::vars_os())
    }

    fn from_sources(
        path: Option<PathBuf>,
        environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Self, ConfigError> {
        let source_error =
            |error: config::ConfigError| ConfigError::Source(error.to_string().replace(['\r', '\n'], " "));
        // Somebody else's variable may be no UTF-8.
        let environment: HashMap<String, String> = environment
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let environment = Environment::with_prefix("SESSIOND")
            .prefix_separator("_")
            .separator("__")
            .source(Some(environment.into_iter().filter(|(name, _)| name.starts_with("SESSIOND_")).collect()));

        let mut builder = Config::builder();
        if let Some(path) = path {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let config = builder.add_source(environment).build().map_err(source_error)?;

        let mut values: BTreeMap<_, _> =
            KEYS.iter().filter_map(|key| Some((key.name, (key.default?.to_owned(), "default".to_owned())))).collect();
        for (name, value) in config.collect().map_err(source_error)? {
            add(&mut values, name, value)?;
        }
        apply_preset(&mut values);
        Ok(Self(values))
    }

    /// The value of a key, and where it comes from.
    pub fn get(&self, key: &str) -> Option<(&str, &str)> {
        self.0.get(key).map(|(value, origin)| (value.as_str(), origin.as_str()))
    }

    /// Every key with its value as it may be shown, and where it comes from.
    pub fn shown(&self) -> impl Iterator<Item = (&'static Key, String, &str)> {
        KEYS.iter().map(|key| match self.get(key.name) {
            None => (key, "none".to_owned(), "default"),
            Some((value, origin)) => (key, shown(value, key.shown), origin),
        })
    }
}

/// What a preset says counts where nobody says anything else.
fn apply_preset(values: &mut BTreeMap<&'static str, (String, String)>) {
    let name = values.get("sessions.preset").map(|(name, _)| name.trim().to_owned());
    let Some(preset) = PRESETS.iter().find(|preset| Some(preset.name) == name.as_deref()) else { return };
    let preset_values = [("sessions.lifetime", Some(preset.lifetime)), ("sessions.idle_timeout", preset.idle_timeout)];
    for (key, value) in preset_values {
        let is_default = values.get(key).is_none_or(|(_, origin)| origin == "default");
        if let Some(value) = value.filter(|_| is_default) {
            values.insert(key, (value.to_owned(), "sessions.preset".to_owned()));
        }
    }
}

/// Takes the leaves of the tree one by one.
fn add(values: &mut BTreeMap<&'static str, (String, String)>, name: String, value: Value) -> Result<(), ConfigError> {
    if let ValueKind::Table(table) = value.kind {
        return table.into_iter().try_for_each(|(child, value)| add(values, format!("{name}.{child}"), value));
    }
    let from_environment = value.origin() == Some("the environment");
    let variable = format!("SESSIOND_{}", name.to_uppercase().replace('.', "__"));
    let origin = if from_environment { variable } else { value.origin().unwrap_or("configuration file").to_owned() };
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        return Err(ConfigError::Unknown { nearest: nearest(&name), name, origin });
    };
    let invalid =
        |problem: &str| ConfigError::Invalid { key: name.clone(), origin: origin.clone(), problem: problem.to_owned() };
    let text = match value.kind {
        ValueKind::Array(items) => {
            let items: Result<Vec<_>, _> = items.into_iter().map(Value::into_string).collect();
            items.map_err(|_| invalid("must be a list of texts"))?.join(",")
        }
        kind => {
            Value::new(None, kind).into_string().map_err(|_| invalid("must be a text, a number or a list of texts"))?
        }
    };
    values.insert(key.name, (text, origin));
    Ok(())
}

/// The key that `name` was probably meant to be: the same last part, or one or two letters off.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let candidates = KEYS.iter().map(|key| (key.name, distance(key.name, name)));
    let (key, distance) = candidates.min_by_key(|(_, distance)| *distance)?;
    if distance <= 3 {
        return Some(key);
    }
    KEYS.iter().map(|key| key.name).find(|key| last(key) == last(name))
}

/// The Levenshtein distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn shown(value: &str, shown: Shown) -> String {
    match shown {
        Shown::Whole => value.to_owned(),
        Shown::Never => "(hidden)".to_owned(),
        Shown::WithoutPassword => without_password(value),
    }
}

/// A URL with its password, and whatever parameter could be one, hidden.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:(hidden)@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let parameters =
        query.into_iter().flat_map(|query| query.split('&')).map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if name.to_lowercase().contains("pass") => format!("{name}=(hidden)"),
            _ => parameter.to_owned(),
        });
    let query = parameters.collect::<Vec<_>>().join("&");
    format!("{scheme}://{rest}{}{query}", if query.is_empty() { "" } else { "?" })
}

#[cfg(test)]
mod tests {
    use testkit::TemporaryDir;

    use super::*;

    fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Values, ConfigError> {
        let dir = TemporaryDir::new();
        let path = file.map(|text| {
            let path = dir.path().join("sessiond.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        Values::from_sources(path, environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_environment_outweighs_the_file_and_the_file_the_defaults() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\nservice_listen = \"127.0.0.1:2\"\n[store]\npool_size = 7\n";
        let values = load(Some(file), &[("SESSIOND_SERVER__LISTEN", "127.0.0.1:3"), ("HOME", "/")]).unwrap();
        assert_eq!(values.get("server.listen"), Some(("127.0.0.1:3", "SESSIOND_SERVER__LISTEN")));
        let (value, origin) = values.get("server.service_listen").unwrap();
        assert!(value == "127.0.0.1:2" && origin.ends_with("sessiond.toml"), "{origin}");
        assert_eq!(values.get("store.pool_size").unwrap().0, "7");
        assert_eq!(values.get("store.url"), Some(("sqlite://sessiond.db", "default")));
        assert_eq!(values.get("auth.jwt.issuer"), None);
    }

    #[test]
    fn a_preset_counts_where_nobody_says_anything_else() {
        let values =
            load(None, &[("SESSIOND_SESSIONS__PRESET", "aal2"), ("SESSIOND_SESSIONS__LIFETIME", "8h")]).unwrap();
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
        let message = |result: Result<Values, ConfigError>| result.err().unwrap().to_string();
        let error = message(load(Some("[server]\nlisen = \"x\""), &[]));
        assert!(
            error.contains("unknown configuration key server.lisen") && error.contains("did you mean server.listen?"),
            "{error}"
        );
        let error = message(load(None, &[("SESSIOND_DATABASE__URL", "postgres://u:secret@h/d")]));
        assert!(error.contains("database.url (SESSIOND_DATABASE__URL)") && !error.contains("secret"), "{error}");
        assert!(message(load(None, &[("SESSIOND_SURPRISE", "1")])).contains("unknown configuration key surprise"));
    }

    #[test]
    fn a_broken_or_absent_file_is_one_line() {
        for error in
            [load(Some("[server\n"), &[]).err().unwrap(), Values::load(Some(Path::new("absent.toml"))).err().unwrap()]
        {
            assert!(
                error.to_string().starts_with("cannot read the configuration") && !error.to_string().contains('\n')
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let values = load(
            None,
            &[
                ("SESSIOND_AUTH__JWT__HS256_SECRET", "s3cret"),
                ("SESSIOND_CLIENT__SERVICE_KEY", "s3cret"),
                ("SESSIOND_STORE__URL", "postgres://user:s3cr@et@host/db?sslpassword=s3cret&sslmode=require"),
                ("SESSIOND_CACHE__URL", "redis://:s3cret@host/1"),
            ],
        )
        .unwrap();
        let shown: Vec<_> = values.shown().map(|(key, value, _)| format!("{} = {value}", key.name)).collect();
        assert!(shown.iter().all(|line| !line.contains("s3c")), "{shown:?}");
        let url = "store.url = postgres://user:(hidden)@host/db?sslpassword=(hidden)&sslmode=require";
        assert!(shown.iter().any(|line| line == url), "{shown:?}");
    }
}
