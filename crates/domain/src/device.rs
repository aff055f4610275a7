//! The device that a session is on.

use std::sync::Arc;

/// A device, as its user agent describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The browser or program, such as "Chrome".
    pub browser: Option<Arc<str>>,
    /// The operating system, such as "macOS".
    pub system: Option<Arc<str>>,
    /// What sort of device it is.
    pub kind: DeviceKind,
}

/// What sort of device a user agent speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A desk or a lap.
    Desktop,
    /// A phone.
    Mobile,
    /// A tablet.
    Tablet,
    /// A television, or a box beside one.
    Tv,
    /// A crawler or another program that declares itself as one.
    Bot,
    /// Unknown.
    Other,
}

impl DeviceKind {
    const ALL: [Self; 6] =
        [Self::Desktop, Self::Mobile, Self::Tablet, Self::Tv, Self::Bot, Self::Other];

    /// Returns the word users see in the field `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
            Self::Bot => "bot",
            Self::Other => "other",
        }
    }

    /// Returns the kind that goes by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl Device {
    /// Returns the device in words, such as "Chrome on macOS"; `None` if nothing is known.
    pub fn describe(&self) -> Option<Arc<str>> {
        match (&self.browser, &self.system) {
            // An application on its system's own browser may go by the system's name.
            (Some(browser), Some(system)) if browser == system => Some(system.clone()),
            (Some(browser), Some(system)) => Some(format!("{browser} on {system}").into()),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in DeviceKind::ALL {
            assert_eq!(DeviceKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(DeviceKind::from_word("toaster"), None);
    }

    #[test]
    fn a_device_is_described_by_what_is_known() {
        let device = |browser: Option<&str>, system: Option<&str>| Device {
            browser: browser.map(Into::into),
            system: system.map(Into::into),
            kind: DeviceKind::Other,
        };
        let describe = |browser, system| device(browser, system).describe();
        assert_eq!(describe(Some("Chrome"), Some("macOS")).as_deref(), Some("Chrome on macOS"));
        assert_eq!(describe(Some("Android"), Some("Android")).as_deref(), Some("Android"));
        assert_eq!(describe(Some("curl"), None).as_deref(), Some("curl"));
        assert_eq!(describe(None, Some("Android")).as_deref(), Some("Android"));
        assert_eq!(describe(None, None), None);
    }
}
