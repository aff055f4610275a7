//! The pages of a real node in headless Chromium. The tests themselves are `*.test.mjs`.

use std::process::Command;

use sessiond_tests::node::Node;
use sessiond_tests::npm::{self, run};
use sessiond_tests::repository::root;
use testkit::TemporaryDir;
use testkit::servers::free_port;

/// The pictures of the documents are made again if this names `docs/images`.
const SCREENSHOTS: &str = "SCREENSHOTS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_work_in_a_browser() {
    let packages = npm::install("npm-browser", &["tests/browser"]).join("tests/browser");
    let app_port = free_port();
    let origin = format!("http://127.0.0.1:{app_port}");
    let places = root().join("crates/adapters-maxmind/tests/places.mmdb");
    let node = Node::start(&[
        ("SESSIOND_SERVER__CORS_ORIGINS", &origin),
        ("SESSIOND_ENRICH__GEOIP_FILE", &places.display().to_string()),
        // One browser is all users of these tests.
        ("SESSIOND_LIMITS__CONNECTIONS_PER_ADDRESS", "1000"),
    ])
    .await;
    let support = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
    let reader = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let keys = format!("support:{support}:read+write+operate,reader:{reader}:read");
    let console = Node::start(&[("SESSIOND_AUTH__SERVICE_KEYS", &keys)]).await;
    let demo = Node::start_demo(1).await;
    let demo_key = std::fs::read_dir(demo.dir.path()).unwrap().find_map(|entry| {
        std::fs::read_to_string(entry.unwrap().path().join("sessiond-dev-service-key")).ok()
    });

    let dir = TemporaryDir::new();
    let screenshots = std::env::var(SCREENSHOTS)
        .map_or_else(|_| dir.path().join("screenshots"), |folder| root().join(folder));
    let mut tests = Command::new("npm");
    tests.arg("test").current_dir(packages).env("PUBLIC_URL", &node.public);
    tests.env("SERVICE_URL", &node.service).env("SERVICE_KEY", node.service_key());
    tests.env("APP_PORT", app_port.to_string()).env("DEMO_URL", &demo.public);
    tests.env("CONSOLE_URL", &console.service).env("DEMO_SERVICE_URL", &demo.service);
    tests.env("DEMO_KEY", demo_key.unwrap().trim());
    tests.env("ACCOUNT_PAGE", root().join("examples/apps/devices"));
    tests.env(SCREENSHOTS, screenshots);
    run(&mut tests);
}
