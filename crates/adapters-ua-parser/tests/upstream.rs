//! The test files of uap-core, run against this parser. What it says otherwise is listed in
//! `uap-core/disagreements.txt`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use adapters_ua_parser::UaParserDeviceEnricher;
use domain::ports::DeviceEnricher;
use domain::{Device, DeviceKind};

/// Examples of each kind of disagreement.
const EXAMPLES: usize = 8;

/// What upstream says of each user agent: its family, then the user agent.
fn cases(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uap-core").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let case = |line: &str| {
        line.split_once('\t').map(|(family, agent)| (family.to_owned(), agent.to_owned()))
    };
    text.lines().map(|line| case(line).unwrap()).collect()
}

/// Disagreements by what upstream and this parser say.
#[derive(Default)]
struct Disagreements(BTreeMap<(String, String), Vec<String>>);

impl Disagreements {
    fn add(&mut self, upstream: &str, own: &str, user_agent: &str) {
        self.0
            .entry((upstream.to_owned(), own.to_owned()))
            .or_default()
            .push(user_agent.to_owned());
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn write(&self, text: &mut String) {
        for ((upstream, own), agents) in &self.0 {
            writeln!(text, "{upstream} -> {own}: {}", agents.len()).unwrap();
            for agent in agents.iter().take(EXAMPLES) {
                writeln!(text, "    {agent}").unwrap();
            }
        }
    }
}

#[test]
fn disagreements_with_upstream_are_those_that_are_listed() {
    let enricher = UaParserDeviceEnricher::new().unwrap();
    // The domain cuts what is longer.
    let device = |agent: &str| enricher.device(domain::truncated_user_agent(agent));
    let is_bot = |agent: &str| device(agent).is_some_and(|device| device.kind == DeviceKind::Bot);
    let mut text =
        String::from("What this parser says otherwise than the test files of uap-core.\n");

    let mut people = Disagreements::default();
    let mut crawlers = Disagreements::default();
    let devices = cases("devices.tsv");
    for (family, agent) in &devices {
        match (family == "Spider", is_bot(agent)) {
            (false, true) => people.add("a device", "bot", agent),
            (true, false) => crawlers.add("Spider", "no bot", agent),
            _ => {}
        }
    }
    writeln!(text, "\n# Devices: {} of {}\n", people.count() + crawlers.count(), devices.len())
        .unwrap();
    people.write(&mut text);
    crawlers.write(&mut text);

    let name = |device: &Option<Device>, part: fn(&Device) -> Option<&str>| {
        device.as_ref().and_then(part).unwrap_or("Other").to_owned()
    };
    for (title, file, part) in [
        (
            "Browsers",
            "browsers.tsv",
            (|device: &Device| device.browser.as_deref()) as fn(&Device) -> Option<&str>,
        ),
        ("Systems", "systems.tsv", |device: &Device| device.system.as_deref()),
    ] {
        let mut other = Disagreements::default();
        let cases = cases(file);
        for (family, agent) in &cases {
            let own = name(&device(agent), part);
            if own != *family {
                other.add(family, &own, agent);
            }
        }
        writeln!(text, "\n# {title}: {} of {}\n", other.count(), cases.len()).unwrap();
        other.write(&mut text);
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uap-core/disagreements.txt");
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    if listed != text {
        let new = std::env::temp_dir().join("disagreements.txt");
        std::fs::write(&new, &text).unwrap();
        panic!("compare {} with the new {}", path.display(), new.display());
    }
    // Where upstream takes a crawler's own name, or a weblog's, for that of a device.
    let named =
        |agent: &String| ["Spider", "spider", "WordPress"].iter().any(|name| agent.contains(name));
    assert!(people.0.values().flatten().all(named), "people's devices are never bots");
}
