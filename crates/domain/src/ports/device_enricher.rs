//! Recognises a device by its user agent.

use crate::device::Device;

/// Recognises a device by its user agent.
///
/// MUST neither block nor fail: an enricher that does not know, or is not ready, returns `None`.
pub trait DeviceEnricher: Send + Sync {
    /// Returns the device, if the user agent is of any that is known.
    fn device(&self, user_agent: &str) -> Option<Device>;
}
