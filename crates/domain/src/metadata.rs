//! What an application stores with a session.

use serde_json::{Map, Value};

/// The largest metadata, in bytes of compact JSON.
pub const METADATA_MAX_BYTES: usize = 2048;

/// What the application's backend keeps with a session: a JSON object that sessiond does not look
/// into.
pub type Metadata = Map<String, Value>;

/// Returns the metadata as compact JSON; what [`METADATA_MAX_BYTES`] is about.
pub fn metadata_text(metadata: &Metadata) -> String {
    // `Display` of a value is compact, and cannot fail.
    Value::Object(metadata.clone()).to_string()
}
