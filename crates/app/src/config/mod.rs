//! Configuration: `sessiond.toml` (or `--config FILE`), then environment variables `SESSIOND_SECTION__KEY`.
//!
//! To add a key: one row in `keys.rs`, one field in `settings.rs`, one row in the table of `docs/operating.md`.

mod keys;
mod settings;
mod values;

pub use keys::{KEYS, Key};
pub use settings::{AuthSettings, CacheSettings, LogFormat, Settings, StoreUrl};
pub use values::{ConfigError, Values};
