//! `sessiond demo`: made-up users on a database of its own.

use std::path::PathBuf;

use reqwest::redirect::Policy;
use serde_json::Value;
use testkit::TemporaryDir;

use sessiond_tests::node::{Node, run, sessiond};

/// Signs in on a device of the demo, as a browser does; the cookie.
async fn sign_in(demo: &Node, device: u32) -> (u16, String) {
    let browser = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let response = browser.get(format!("{}/demo/{device}", demo.public)).send().await.unwrap();
    let header = |name: &str| {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
    if response.status() == 303 {
        assert_eq!(header("location"), "/devices");
    }
    (response.status().as_u16(), cookie)
}

async fn devices(demo: &Node, cookie: &str) -> Vec<Value> {
    let url = format!("{}/api/v1/sessions?active_only=true", demo.public);
    let request = reqwest::Client::new().get(url).header("cookie", cookie);
    let list: Value = request.send().await.unwrap().json().await.unwrap();
    list["sessions"].as_array().unwrap().clone()
}

fn folders(demo: &Node) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(demo.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

#[tokio::test]
async fn demo_has_traffic_and_leaves_nothing_behind() {
    let mut demo = Node::start_demo(1).await;
    let (status, cookie) = sign_in(&demo, 1).await;
    assert_eq!(status, 303);
    let listed = devices(&demo, &cookie).await;
    assert!(listed.len() >= 6, "{listed:?}");
    assert_eq!(listed.iter().filter(|session| session["is_current"] == true).count(), 1);
    assert_eq!(sign_in(&demo, 3).await.0, 404);

    // On the other device, which was signed out: it signs in again.
    let (_, phone) = sign_in(&demo, 2).await;
    let phones = devices(&demo, &phone).await;
    let own = phones.iter().find(|session| session["is_current"] == true).unwrap();
    let url = format!("{}/api/v1/sessions/{}", demo.public, own["id"].as_str().unwrap());
    let request = reqwest::Client::new().delete(url).header("cookie", &cookie);
    let response = request.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(sign_in(&demo, 2).await.0, 303);

    // Something happens by itself.
    let key = std::fs::read_to_string(folders(&demo)[0].join("sessiond-dev-service-key")).unwrap();
    let newest = async |after: u64| {
        let url = format!("{}/service/v1/events?limit=1000&after={after}", demo.service);
        demo.get(&url, key.trim()).await.body["next_after"].as_u64().unwrap()
    };
    let before = newest(0).await;
    let started = std::time::Instant::now();
    while newest(before).await < before + 3 {
        assert!(started.elapsed().as_secs() < 60, "there is no traffic");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    demo.stop();
    assert_eq!(folders(&demo), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn seed_makes_the_same_users_and_devices() {
    let shown = async |seed: u64| {
        let mut demo = Node::start_demo(seed).await;
        let (_, cookie) = sign_in(&demo, 1).await;
        let mut devices = devices(&demo, &cookie).await;
        demo.stop();
        // The last six: those of the history, not of the traffic.
        let devices = devices.split_off(devices.len() - 6);
        devices
            .iter()
            .map(|device| {
                let field = |name: &str| device[name].as_str().unwrap_or_default().to_owned();
                [field("user_id"), field("device_info"), field("name"), field("location")]
            })
            .collect::<Vec<_>>()
    };
    let (one, again, other) = tokio::join!(shown(1), shown(1), shown(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn demo_listens_on_loopback_only() {
    let dir = TemporaryDir::new();
    let mut command = sessiond(dir.path(), &[]);
    let refused = run(command.args(["demo", "--listen", "0.0.0.0:0"]));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("loopback only"), "{message}");
}
