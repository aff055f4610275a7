//! [`DeviceEnricher`] on the data of uap-core.

use domain::ports::DeviceEnricher;
use domain::{Device, DeviceKind};
use thiserror::Error;
use ua_parser::{Regexes, device, os, user_agent};

/// The parsers of uap-core, as JSON.
const DATA: &str = include_str!("../data/regexes.json");

/// The longest name of a browser or system that is kept, in characters.
const NAME_MAX_CHARS: usize = 64;

/// How far into a user agent the words of crawlers count, in characters: upstream's bound, which
/// the engine drops.
const CRAWLER_WORDS_WITHIN: usize = 100;

/// Systems that crawlers run on, or say that they do.
const COMPUTERS: [&str; 12] = [
    "Windows", "Mac OS X", "macOS", "Linux", "Ubuntu", "Debian", "Fedora", "FreeBSD", "OpenBSD",
    "NetBSD", "Solaris", "Other",
];

/// What devices of people's say of themselves where no system is known.
const DEVICE_WORDS: [&str; 9] =
    ["Mobile", "MIDP", "Phone", "Android", "Tablet", "TV", "Silk/", "Opera Mini", " Device/"];

/// Why the data cannot be used.
#[derive(Debug, Error)]
#[error("the data about user agents cannot be used: {0}")]
pub struct DataError(String);

/// [`DeviceEnricher`] on regular expressions that take linear time, so a user agent of bounded
/// length takes bounded time.
pub struct UaParserDeviceEnricher {
    browsers: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
    /// Crawlers by their own names.
    crawlers: device::Extractor<'static>,
    /// Words that crawlers have in their names, and now and then people's devices too.
    crawler_words: device::Extractor<'static>,
}

impl UaParserDeviceEnricher {
    /// Compiles the data, which takes some tens of milliseconds and about 10 MB.
    ///
    /// # Errors
    /// [`DataError`] if the data does not fit the library: an error of the build.
    pub fn new() -> Result<Self, DataError> {
        fn error(error: impl std::fmt::Debug) -> DataError {
            DataError(format!("{error:?}"))
        }
        let data: Regexes<'static> = serde_json::from_str(DATA).map_err(error)?;
        let browsers = data
            .user_agent_parsers
            .into_iter()
            .try_fold(user_agent::Builder::new(), user_agent::Builder::push);
        let systems = data.os_parsers.into_iter().try_fold(os::Builder::new(), os::Builder::push);
        let mut crawlers = data.device_parsers;
        // Upstream's last rule of all, after thousands for devices.
        let crawler_words =
            crawlers.pop().into_iter().try_fold(device::Builder::new(), device::Builder::push);
        let crawlers = crawlers.into_iter().try_fold(device::Builder::new(), device::Builder::push);
        Ok(Self {
            browsers: browsers.map_err(error)?.build().map_err(error)?,
            systems: systems.map_err(error)?.build().map_err(error)?,
            crawlers: crawlers.map_err(error)?.build().map_err(error)?,
            crawler_words: crawler_words.map_err(error)?.build().map_err(error)?,
        })
    }
}

impl UaParserDeviceEnricher {
    /// Returns whether a crawler or a program says that it is one. The words decide only where
    /// nothing speaks for a device of people's.
    fn is_bot(&self, user_agent: &str, system: Option<&str>) -> bool {
        if self.crawlers.extract(user_agent).is_some() {
            return true;
        }
        let end = user_agent
            .char_indices()
            .nth(CRAWLER_WORDS_WITHIN)
            .map_or(user_agent.len(), |(end, _)| end);
        self.crawler_words.extract(&user_agent[..end]).is_some()
            && !is_of_people(user_agent, system)
    }
}

/// Returns whether a user agent is that of a phone, tablet, television or console, and does not say
/// where its robot is described.
fn is_of_people(user_agent: &str, system: Option<&str>) -> bool {
    let names_a_page = user_agent.contains("://") || user_agent.contains("+http");
    let is_a_device = system.is_some_and(|system| !COMPUTERS.contains(&system))
        || says(user_agent, &DEVICE_WORDS);
    is_a_device && !names_a_page
}

fn says(user_agent: &str, words: &[&str]) -> bool {
    words.iter().any(|word| user_agent.contains(word))
}

impl DeviceEnricher for UaParserDeviceEnricher {
    fn device(&self, user_agent: &str) -> Option<Device> {
        let browser = self.browsers.extract(user_agent).map(|found| browser_name(&found.family));
        let system = self.systems.extract(user_agent).map(|found| system_name(&found.os));
        let is_bot = self.is_bot(user_agent, system.as_deref());
        // What the data does not know yet, or what says that it is something else.
        let (browser, system) = match (browser, system) {
            (browser, _) if says(user_agent, &["OpenHarmony"]) => {
                (browser, Some("HarmonyOS".to_owned()))
            }
            // A view of the web within an app on an iPad, which says that it is a Mac.
            (_, Some(system)) if system == "macOS" && says(user_agent, &["Mobile/"]) => {
                (Some("Safari".to_owned()), Some("iPadOS".to_owned()))
            }
            found => found,
        };
        if browser.is_none() && system.is_none() && !is_bot {
            return None;
        }
        let kind = if is_bot { DeviceKind::Bot } else { kind(user_agent, system.as_deref()) };
        Some(Device { browser: browser.map(Into::into), system: system.map(Into::into), kind })
    }
}

/// Returns what people call it: the data has names of its own for the builds for phones.
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

/// Returns the sort of device, by the words that browsers use for it.
fn kind(user_agent: &str, system: Option<&str>) -> DeviceKind {
    let says = |words: &[&str]| says(user_agent, words);
    let is_browser = user_agent.starts_with("Mozilla/") || user_agent.starts_with("Opera/");
    if says(&TELEVISION_WORDS) || is_fire_tv(user_agent, system) {
        return DeviceKind::Tv;
    }
    match system {
        Some("tvOS" | "ATV OS X" | "Roku" | "webOS") => DeviceKind::Tv,
        Some("iOS" | "iPadOS") if says(&["iPad"]) => DeviceKind::Tablet,
        Some("iPadOS") => DeviceKind::Tablet,
        Some("iOS") => DeviceKind::Mobile,
        Some("HarmonyOS") if says(&["Tablet"]) => DeviceKind::Tablet,
        Some("HarmonyOS") if says(&["(PC;", "2in1"]) => DeviceKind::Desktop,
        // Amazon's browser is on its own devices only, and says "Linux" where a page for computers
        // is wanted.
        Some("Android" | "Linux" | "Fire OS")
            if says(&["Silk/"]) && !has_word(user_agent, "Mobile") =>
        {
            DeviceKind::Tablet
        }
        // Chrome's rule: a browser on a phone says "Mobile", on a tablet it does not.
        Some("Android") if is_browser && !has_word(user_agent, "Mobile") => DeviceKind::Tablet,
        Some("Android" | "Windows Phone" | "BlackBerry OS" | "KaiOS" | "Tizen" | "HarmonyOS") => {
            DeviceKind::Mobile
        }
        Some("Windows" | "macOS") if is_browser => DeviceKind::Desktop,
        Some(_) if is_browser && has_word(user_agent, "Mobile") => DeviceKind::Mobile,
        Some(_) if is_browser => DeviceKind::Desktop,
        _ => DeviceKind::Other,
    }
}

const TELEVISION_WORDS: [&str; 15] = [
    "SMART-TV",
    "SmartTV",
    "Smart TV",
    " TV ",
    "GoogleTV",
    "Google TV",
    "Android TV",
    "AndroidTV",
    "AppleTV",
    "BRAVIA",
    "CrKey",
    "Chromecast",
    "HbbTV",
    "MIBOX",
    "MiTV",
];

/// Amazon's televisions have models such as AFTMM.
fn is_fire_tv(user_agent: &str, system: Option<&str>) -> bool {
    let is_model = |word: &str| {
        word.strip_prefix("AFT").is_some_and(|model| {
            !model.is_empty()
                && model.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        })
    };
    matches!(system, Some("Android" | "Linux" | "Fire OS")) && words(user_agent).any(is_model)
}

fn has_word(user_agent: &str, wanted: &str) -> bool {
    words(user_agent).any(|word| word == wanted)
}

fn words(user_agent: &str) -> impl Iterator<Item = &str> {
    user_agent
        .split(|character: char| !character.is_alphanumeric() && !matches!(character, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_user_agents_are_named_as_people_name_them() {
        let enricher = UaParserDeviceEnricher::new().unwrap();
        let parsed = |user_agent: &str| {
            let device = enricher.device(user_agent).unwrap();
            (device.describe().unwrap_or_default(), device.kind)
        };
        const MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 \
            (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        for (user_agent, words, kind) in [
            (MAC, "Chrome on macOS", DeviceKind::Desktop),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                    Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 \
                    (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
                    Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) \
                    Chrome/139.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) \
                    Chrome/139.0.0.0 Safari/537.36",
                "Chrome on Android",
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) \
                    85.0.4183.93/6.5 TV Safari/537.36",
                "Safari on Tizen",
                DeviceKind::Tv,
            ),
            ("MyApp/1.0 CFNetwork/1410.0.3 Darwin/22.6.0", "MyApp on iOS", DeviceKind::Mobile),
            (
                "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7 Build/TQ1A)",
                "Android",
                DeviceKind::Mobile,
            ),
            ("curl/8.0", "curl", DeviceKind::Other),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "Googlebot",
                DeviceKind::Bot,
            ),
        ] {
            assert_eq!(parsed(user_agent), (words.into(), kind), "{user_agent}");
        }
    }

    #[test]
    fn devices_of_people_are_never_bots_and_crawlers_are() {
        let enricher = UaParserDeviceEnricher::new().unwrap();
        let kind = |user_agent: &str| enricher.device(user_agent).map(|device| device.kind);
        let chrome = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0";
        let silk = "AppleWebKit/537.36 (KHTML, like Gecko) Silk/112.5.1 like \
            Chrome/112.0.5615.213 Safari/537.36";
        let webkit = "AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148";
        let late = format!(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36 {} robot",
            "x".repeat(300)
        );
        for (user_agent, expected) in [
            (format!("Mozilla/5.0 (Linux; Android 11; KFTRWI) {silk}"), DeviceKind::Tablet),
            (format!("Mozilla/5.0 (X11; Linux x86_64) {silk}"), DeviceKind::Tablet),
            (format!("Mozilla/5.0 (Linux; Android 9; AFTMM) {silk}"), DeviceKind::Tv),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 7.1.2; AFTN Build/NS6265; wv) {chrome} Mobile \
                Safari/537.36"
                ),
                DeviceKind::Tv,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 12; CUBOT X50) {chrome} Mobile \
                Safari/537.36"
                ),
                DeviceKind::Mobile,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 10; Zeal 4G) {chrome} Mobile \
                Safari/537.36"
                ),
                DeviceKind::Mobile,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 13; Spider Pro) {chrome} Mobile \
                Safari/537.36"
                ),
                DeviceKind::Mobile,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 8.1; Vortex HD65) {chrome} Mobile \
                Safari/537.36"
                ),
                DeviceKind::Mobile,
            ),
            (
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {webkit} \
                DaumApps/3.7.0 DaumDevice/mobile"
                ),
                DeviceKind::Mobile,
            ),
            (
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {webkit} \
                YahooMobile/1.0"
                ),
                DeviceKind::Mobile,
            ),
            (late, DeviceKind::Desktop),
            ("CRAFT/5.1 (Windows NT 10.0)".to_owned(), DeviceKind::Other),
            (
                format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36 \
                Mobile-Desk/1"
                ),
                DeviceKind::Desktop,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 10; Chromecast Build/QTS1) {chrome} \
                Safari/537.36"
                ),
                DeviceKind::Tv,
            ),
            (
                "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) \
                Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 \
                Mobile"
                    .to_owned(),
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (Tablet; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) \
                Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1"
                    .to_owned(),
                DeviceKind::Tablet,
            ),
            (
                format!(
                    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) \
                {webkit}"
                ),
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (compatible; bingbot/2.0; \
                +http://www.bing.com/bingbot.htm)"
                    .to_owned(),
                DeviceKind::Bot,
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {chrome} Mobile \
                Safari/537.36 (compatible; Googlebot/2.1; \
                +http://www.google.com/bot.html)"
                ),
                DeviceKind::Bot,
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; \
                +https://openai.com/gptbot)"
                    .to_owned(),
                DeviceKind::Bot,
            ),
            (
                "facebookexternalhit/1.1 \
                (+http://www.facebook.com/externalhit_uatext.php)"
                    .to_owned(),
                DeviceKind::Bot,
            ),
            ("Scrapy/2.11 (+https://scrapy.org)".to_owned(), DeviceKind::Bot),
        ] {
            assert_eq!(kind(&user_agent), Some(expected), "{user_agent}");
        }
    }

    #[test]
    fn unknown_user_agent_is_none_and_names_are_bounded() {
        let enricher = UaParserDeviceEnricher::new().unwrap();
        for user_agent in ["", "x", "\u{1F4F1}", "('; --"] {
            assert_eq!(enricher.device(user_agent), None, "{user_agent}");
        }
        let long = format!("{}/1.0 CFNetwork/1410.0.3 Darwin/22.6.0", "A".repeat(400));
        let name = enricher.device(&long).and_then(|device| device.browser);
        assert!(name.is_none_or(|name| name.chars().count() <= NAME_MAX_CHARS));
    }
}
