//! Configuration: `sessiond.toml` (or `--config FILE`), then environment variables
//! `SESSIOND_SECTION__KEY`.
//!
//! To add a key: one row in `keys.rs`, one field in `settings.rs`, one row in the table of
//! `docs/operating.md`.

mod error;
mod keys;
mod settings;
mod shown;
mod values;

pub use error::{ConfigError, ConfigErrors};
pub use keys::{KEYS, Key};
pub use settings::{
    AuthSettings, CacheSettings, IssuerSettings, LimitSettings, LogFormat, Scopes,
    ServiceKeySettings, Settings, StoreUrl, SubjectMapping,
};
pub use values::Values;
