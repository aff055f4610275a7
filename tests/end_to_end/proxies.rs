//! nginx, Caddy and HAProxy in front of a node: as they come, and as `examples/gateways` configures
//! them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sessiond_tests::node::{ALICE, Node};
use sessiond_tests::repository::read;
use testkit::TemporaryDir;
use testkit::servers::{Supervised, free_port};

/// A proxy that is running.
pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) process: Supervised,
}

const NAMES: [&str; 3] = ["nginx", "caddy", "haproxy"];

/// The addresses that the examples have.
const PUBLIC: &str = "127.0.0.1:8080";
const SERVICE_PORT: &str = "8081";
const PROXY: &str = "127.0.0.1:8090";

impl Proxy {
    pub(crate) fn start(name: &str, config: &str, port: u16) -> Self {
        let dir = TemporaryDir::new().keep();
        let file = dir.join("proxy.conf").display().to_string();
        let shown = dir.display().to_string();
        let text = match name {
            // Where Debian's nginx may not write.
            "nginx" => {
                let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let paths: String =
                    paths.map(|path| format!("{path}_temp_path {shown}/{path};")).concat();
                let head = format!("pid {shown}/pid; daemon off; error_log stderr;\n");
                head + &config.replace("http {\n", &format!("http {{\naccess_log off; {paths}\n"))
            }
            "caddy" => format!("{{\n\tadmin off\n\tauto_https off\n}}\n{config}"),
            _ => config.to_owned(),
        };
        std::fs::write(&file, text).unwrap();
        let home = format!("HOME={shown}");
        let command: &[&str] = match name {
            "nginx" => &["/usr/sbin/nginx", "-p", &shown, "-c", &file],
            "caddy" => &["env", &home, "caddy", "run", "--config", &file, "--adapter", "caddyfile"],
            _ => &["/usr/sbin/haproxy", "-db", "-f", &file],
        };
        let process = Supervised::start(dir, None, "TERM", command);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(15),
                "{name} did not start (Debian: apt-get install {name}): {}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { url: format!("http://127.0.0.1:{port}"), process }
    }

    /// With nothing but what it takes to pass requests on to this address.
    fn plain(name: &str, upstream: &str) -> Self {
        let port = free_port();
        let config = match name {
            "nginx" => format!(
                "events {{}}\nhttp {{\nserver {{ listen 127.0.0.1:{port}; location / {{ \
                    proxy_pass http://{upstream}; }} }} }}\n"
            ),
            "caddy" => format!("http://127.0.0.1:{port} {{\n\treverse_proxy {upstream}\n}}\n"),
            _ => format!(
                "defaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server \
                    30s\n\
                 frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s \
                 {upstream}\n"
            ),
        };
        Self::start(name, &config, port)
    }

    /// As the example has it, in front of the public listener of this node.
    fn example(name: &str, node: &Node, seconds: u32) -> Self {
        let port = free_port();
        let file = match name {
            "nginx" => "nginx.conf",
            "caddy" => "Caddyfile",
            _ => "haproxy.cfg",
        };
        let service_port = node.service.rsplit(':').next().unwrap();
        let config = read(format!("examples/gateways/{file}"));
        assert!(config.contains(PUBLIC) && config.contains(PROXY), "{file}");
        let config = config
            .replace(PROXY, &format!("127.0.0.1:{port}"))
            .replace(PUBLIC, node.public.trim_start_matches("http://"))
            .replace(&format!("port {SERVICE_PORT}"), &format!("port {service_port}"))
            .replace("60s;", &format!("{seconds}s;"))
            .replace("keepalive 60s", &format!("keepalive {seconds}s"));
        Self::start(name, &config, port)
    }
}

/// A proxy that holds events back until a buffer is full shows an operator nothing for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_through_one_by_one_with_each_proxys_defaults() {
    let node = Node::start(&[]).await;
    for name in NAMES {
        let proxy = Proxy::plain(name, node.service.trim_start_matches("http://"));
        let url = format!("{}/service/v1/events/stream", proxy.url);
        let request =
            node.http.get(url).bearer_auth(node.service_key()).timeout(Duration::from_secs(30));
        let mut stream = request.send().await.unwrap();
        assert_eq!(stream.status(), 200, "{name}: {}", proxy.process.log());
        for n in 0..3 {
            let session = node.create(ALICE).await;
            let created = Instant::now();
            let mut text = String::new();
            while !text.contains(&session) {
                let chunk = tokio::time::timeout(Duration::from_secs(3), stream.chunk()).await;
                let chunk = chunk
                    .unwrap_or_else(|_| panic!("{name} holds event {n} back"))
                    .unwrap()
                    .unwrap();
                text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            assert!(created.elapsed() < Duration::from_secs(2), "{name}: {:?}", created.elapsed());
        }
    }
}

/// With the shown configuration sessions have the client's address, and a client cannot invent one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_the_clients_with_the_shown_configuration() {
    for trusted in ["127.0.0.0/8", "::ffff:127.0.0.0/104"] {
        let node = Node::start(&[("SESSIOND_SERVER__TRUSTED_PROXIES", trusted)]).await;
        for name in NAMES {
            let proxy = Proxy::example(name, &node, 60);
            let session = node.create(ALICE).await;
            let token = node.mint(ALICE, &session);
            let get = async |forwarded: &str| {
                let request = node
                    .http
                    .get(format!("{}/api/v1/sessions/current", proxy.url))
                    .bearer_auth(&token);
                let response = request.header("x-forwarded-for", forwarded).send().await.unwrap();
                assert_eq!(response.status(), 200, "{name}: {}", proxy.process.log());
                response.json::<Value>().await.unwrap()["last_ip_address"].clone()
            };
            // All of this machine is trusted here, so the nearest address that is not is what the
            // client says; but Caddy trusts no client's header, and begins with the peer.
            let expected = if name == "caddy" { "127.0.0.1" } else { "203.0.113.9" };
            let started = Instant::now();
            while get("203.0.113.9").await != expected {
                assert!(started.elapsed() < Duration::from_secs(3), "{name} {trusted}");
            }
        }
    }
    // An untrusted one is ignored.
    let node = Node::start(&[]).await;
    let proxy = Proxy::example("nginx", &node, 60);
    let session = node.create(ALICE).await;
    let get = async || {
        let request = node.http.get(format!("{}/api/v1/sessions/current", proxy.url));
        let request = request
            .bearer_auth(node.mint(ALICE, &session))
            .header("x-forwarded-for", "203.0.113.9");
        request.send().await.unwrap().json::<Value>().await.unwrap()["last_ip_address"].clone()
    };
    // The first one is served with what was known before it.
    assert_eq!((get().await, get().await), (json!("192.0.2.7"), json!("127.0.0.1")));
}

/// Requests that come just when an idle connection behind the proxy ends: the proxy ends it first,
/// so that none is lost. The times of the examples, in proportion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_to_a_connection_that_has_just_been_closed() {
    let node = Node::start(&[("SESSIOND_SERVER__IDLE_TIMEOUT", "5s")]).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    let proxies = NAMES.map(|name| Proxy::example(name, &node, 3));
    let mut clients = Vec::new();
    for proxy in &proxies {
        clients.extend((0..24).map(|n| {
            let url = proxy.url.clone();
            let token = token.clone();
            let http = node.http.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    let rename =
                        http.patch(format!("{url}/api/v1/sessions/current")).bearer_auth(&token);
                    let response = rename
                        .json(&json!({ "name": format!("device {n}") }))
                        .send()
                        .await
                        .unwrap();
                    // A busy node's own 503 is a response; a proxy's has no problem in it.
                    let status = response.status();
                    let is_problem = response
                        .headers()
                        .get("content-type")
                        .is_some_and(|is| is == "application/problem+json");
                    assert!(status == 200 || (status == 503 && is_problem), "{url}: {status}");
                    // Around the time at which one of the two closes.
                    let gap = if n % 2 == 0 { 3_000 } else { 5_000 };
                    tokio::time::sleep(Duration::from_millis(gap - 60 + 5 * n)).await;
                }
            })
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}
