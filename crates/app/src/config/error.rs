//! What is wrong with the configuration.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong. One line, naming the key and what to do; never a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error("cannot read the configuration: {0}")]
    Source(String),
    /// There is no such key.
    #[error(
        "unknown configuration key {name} ({origin}){}",
        .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
    )]
    Unknown {
        /// The key as it was written.
        name: String,
        /// Where it was written.
        origin: String,
        /// What was probably meant.
        hint: Option<String>,
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

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            self.0.iter().map(|error| error.to_string().replace(['\r', '\n'], " ")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}
