//! Any configuration file: it is accepted or refused, line by line, and no value is
//! shown.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sessiond::config::{Settings, Values};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::temp_dir().join(format!("sessiond-fuzz-{}.toml", std::process::id()))
});

/// What no message may hold.
const SECRET: &str = "correct-horse-battery-staple";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The input may have the secret anywhere.
    let text = text.replace("SECRET", SECRET);
    // Files that a configuration names are not this target's affair.
    if text.contains("_file") {
        return;
    }
    std::fs::write(&*FILE, &text).unwrap();
    let message = match Values::load(Some(&FILE)) {
        Err(errors) => errors.to_string(),
        Ok(values) => {
            let shown: Vec<_> = values
                .shown()
                .filter(|(name, ..)| name.contains("secret") || name.ends_with("service_key"))
                .collect();
            assert!(shown.iter().all(|(_, value, _)| !value.contains(SECRET)));
            Settings::from_values(&values)
                .err()
                .map(|errors| errors.to_string())
                .unwrap_or_default()
        }
    };
    // The name of an unknown key is reported, and may be anything.
    let is_shown = message
        .lines()
        .any(|line| line.contains(SECRET) && !line.contains("unknown configuration key"));
    assert!(!is_shown, "{message}");
});
