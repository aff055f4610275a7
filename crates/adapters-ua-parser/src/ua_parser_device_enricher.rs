use domain::ports::DeviceEnricher;
use domain::{Device, DeviceKind};
use thiserror::Error;
use ua_parser::{Regexes, device, os, user_agent};

/// The parsers of uap-core, as JSON.
const DATA: &str = include_str!("../data/regexes.json");

/// The longest name of a browser or system that is kept, in characters.
const NAME_MAX_CHARS: usize = 64;

/// Why the data cannot be used.
#[derive(Debug, Error)]
#[error("the data about user agents cannot be used: {0}")]
pub struct DataError(String);

/// [`DeviceEnricher`] on regular expressions that take linear time, so a user agent of bounded length takes bounded time.
pub struct UaParserDeviceEnricher {
    browsers: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
    bots: device::Extractor<'static>,
}

impl UaParserDeviceEnricher {
    /// Compiles the data, which takes some tens of milliseconds and about 10 MB.
    ///
    /// # Errors
    /// [`DataError`] if the data does not fit the library: a mistake in the build.
    pub fn new() -> Result<Self, DataError> {
        fn error(error: impl std::fmt::Debug) -> DataError {
            DataError(format!("{error:?}"))
        }
        let data: Regexes<'static> = serde_json::from_str(DATA).map_err(error)?;
        let browsers =
            data.user_agent_parsers.into_iter().try_fold(user_agent::Builder::new(), user_agent::Builder::push);
        let systems = data.os_parsers.into_iter().try_fold(os::Builder::new(), os::Builder::push);
        let bots = data.device_parsers.into_iter().try_fold(device::Builder::new(), device::Builder::push);
        Ok(Self {
            browsers: browsers.map_err(error)?.build().map_err(error)?,
            systems: systems.map_err(error)?.build().map_err(error)?,
            bots: bots.map_err(error)?.build().map_err(error)?,
        })
    }
}

impl DeviceEnricher for UaParserDeviceEnricher {
    fn device(&self, user_agent: &str) -> Option<Device> {
        let browser = self.browsers.extract(user_agent).map(|found| browser_name(&found.family));
        let system = self.systems.extract(user_agent).map(|found| system_name(&found.os));
        let is_bot = self.bots.extract(user_agent).is_some();
        if browser.is_none() && system.is_none() && !is_bot {
            return None;
        }
        let kind = if is_bot { DeviceKind::Bot } else { kind(user_agent, system.as_deref()) };
        Some(Device { browser: browser.map(Into::into), system: system.map(Into::into), kind })
    }
}

/// What people call it: the data tells the builds for phones apart.
fn browser_name(family: &str) -> String {
    kept(match family {
        "Chrome Mobile" | "Chrome Mobile iOS" => "Chrome",
        "Mobile Safari" | "Mobile Safari UI/WKWebView" => "Safari",
        "Firefox Mobile" | "Firefox iOS" => "Firefox",
        "Edge Mobile" => "Edge",
        "Opera Mobile" => "Opera",
        other => other,
    })
}

fn system_name(system: &str) -> String {
    kept(match system {
        "Mac OS X" | "Mac OS" => "macOS",
        "Chrome OS" => "ChromeOS",
        other => other,
    })
}

fn kept(name: &str) -> String {
    name.chars().take(NAME_MAX_CHARS).collect()
}

/// The sort of device, by the words that browsers use for it.
fn kind(user_agent: &str, system: Option<&str>) -> DeviceKind {
    let says = |words: &[&str]| words.iter().any(|word| user_agent.contains(word));
    let is_browser = user_agent.starts_with("Mozilla/") || user_agent.starts_with("Opera/");
    if says(&["SMART-TV", "SmartTV", "Smart TV", " TV ", "GoogleTV", "Android TV", "AppleTV", "BRAVIA", "CrKey", "AFT"])
    {
        return DeviceKind::Tv;
    }
    match system {
        Some("tvOS" | "ATV OS X" | "Roku" | "webOS") => DeviceKind::Tv,
        Some("iOS" | "iPadOS") if says(&["iPad"]) => DeviceKind::Tablet,
        Some("iOS") => DeviceKind::Mobile,
        // Chrome's rule: a browser on a phone says "Mobile", on a tablet it does not.
        Some("Android") if is_browser && !says(&["Mobile"]) => DeviceKind::Tablet,
        Some("Android" | "Windows Phone" | "BlackBerry OS" | "KaiOS" | "Tizen" | "HarmonyOS") => DeviceKind::Mobile,
        Some(_) if is_browser && says(&["Mobile"]) => DeviceKind::Mobile,
        Some(_) if is_browser => DeviceKind::Desktop,
        _ => DeviceKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_user_agents_are_told_as_people_would() {
        let enricher = UaParserDeviceEnricher::new().unwrap();
        let told = |user_agent: &str| {
            let device = enricher.device(user_agent).unwrap();
            (device.describe().unwrap_or_default(), device.kind)
        };
        const MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        for (user_agent, words, kind) in [
            (MAC, "Chrome on macOS", DeviceKind::Desktop),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
                "Chrome on Android",
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) 85.0.4183.93/6.5 TV Safari/537.36",
                "Safari on Tizen",
                DeviceKind::Tv,
            ),
            ("MyApp/1.0 CFNetwork/1410.0.3 Darwin/22.6.0", "MyApp on iOS", DeviceKind::Mobile),
            ("Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7 Build/TQ1A)", "Android", DeviceKind::Mobile),
            ("curl/8.0", "curl", DeviceKind::Other),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", DeviceKind::Bot),
        ] {
            assert_eq!(told(user_agent), (words.into(), kind), "{user_agent}");
        }
    }

    #[test]
    fn what_nobody_knows_is_nothing_and_names_are_bounded() {
        let enricher = UaParserDeviceEnricher::new().unwrap();
        for user_agent in ["", "x", "\u{1F4F1}", "('; --"] {
            assert_eq!(enricher.device(user_agent), None, "{user_agent}");
        }
        let long = format!("{}/1.0 CFNetwork/1410.0.3 Darwin/22.6.0", "A".repeat(400));
        let name = enricher.device(&long).and_then(|device| device.browser);
        assert!(name.is_none_or(|name| name.chars().count() <= NAME_MAX_CHARS));
    }
}
