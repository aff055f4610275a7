//! nginx, Caddy and HAProxy in front of an application, as `examples/gateways/forward-auth`
//! configures them: they ask sessiond about each request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sessiond_tests::node::{ALICE, Node, run};
use sessiond_tests::repository::read;
use testkit::TemporaryDir;
use testkit::servers::free_port;

use crate::proxies::Proxy;

/// The sample of RFC 6455 section 1.3.
const SOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const NAMES: [&str; 3] = ["nginx", "caddy", "haproxy"];

/// An application that says which identity headers it was sent, serves events, and echoes a socket.
fn application() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || while serve(&stream).is_some() {});
        }
    });
    port
}

/// Serves one request; `None`: the connection is closed.
fn serve(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let header = |name: &str| {
        let values = head.iter().filter_map(|line| line.split_once(": "));
        values.filter(|(found, _)| *found == name).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let mut stream = stream;
    if !header("upgrade").is_empty() {
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {SOCKET_ACCEPT}\r\n\r\n"
        );
        stream.write_all(response.as_bytes()).ok()?;
        let mut echoed = [0; 5];
        reader.read_exact(&mut echoed).ok()?;
        stream.write_all(&echoed).ok()?;
        return None;
    }
    if head[0].contains("/events") {
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
            )
            .ok()?;
        for n in 0..3 {
            stream.write_all(format!("data: {n}\n\n").as_bytes()).ok()?;
            std::thread::sleep(Duration::from_millis(300));
        }
        return None;
    }
    let body = json!({ "user": header("x-user-id"), "session": header("x-session-id") });
    let body = body.to_string();
    let length = body.len();
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    );
    stream.write_all(response.as_bytes()).ok()
}

/// Starts the proxy; the directory holds its script for as long.
fn example(name: &str, node: &Node, application: u16) -> (Proxy, TemporaryDir) {
    let port = free_port();
    let file = match name {
        "nginx" => "nginx.conf",
        "caddy" => "Caddyfile",
        _ => "haproxy.cfg",
    };
    let adapted = |file: &str| {
        read(format!("examples/gateways/forward-auth/{file}"))
            .replace("127.0.0.1:8090", &format!("127.0.0.1:{port}"))
            .replace("127.0.0.1:8081", node.service.trim_start_matches("http://"))
            .replace("127.0.0.1:3000", &format!("127.0.0.1:{application}"))
    };
    let dir = TemporaryDir::new();
    let script = dir.path().join("sessiond.lua");
    std::fs::write(&script, adapted("sessiond.lua")).unwrap();
    let config = adapted(file).replace("sessiond.lua\n", &format!("{}\n", script.display()));
    (Proxy::start(name, &config, port), dir)
}

async fn call(node: &Node, url: String, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = node.http.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guarded_application_receives_who_calls_and_nothing_passes_after_the_revocation() {
    let mut node = Node::start(&[]).await;
    let application = application();
    let proxies = NAMES.map(|name| (name, example(name, &node, application)));
    for (name, (proxy, _)) in &proxies {
        let body = json!({ "user_id": ALICE, "issue_token": true });
        let (_, created) = node.service(Method::POST, "sessions", body).await;
        let session = created["id"].as_str().unwrap();
        let cookie = format!("__Host-session={}", created["token"].as_str().unwrap());
        let page = || format!("{}/page", proxy.url);
        let what = || format!("{name}: {}", proxy.process.log());

        let (status, _) = call(&node, page(), &[]).await;
        assert_eq!(status, 401, "{}", what());
        let invented = [("x-user-id", "mallory"), ("X-Session-Id", "1")];
        let (status, _) = call(&node, page(), &invented).await;
        assert_eq!(status, 401, "{}", what());
        let headers = [&invented[..], &[("cookie", &*cookie)]].concat();
        let (status, seen) = call(&node, page(), &headers).await;
        let expected = json!({ "user": [ALICE], "session": [session] });
        assert_eq!((status, &seen), (200, &expected), "{}", what());

        events_pass(&node, &format!("{}/events", proxy.url), &cookie, name).await;
        let proxied = proxy.url.clone();
        let cookie_of_socket = cookie.clone();
        let socket = tokio::task::spawn_blocking(move || socket(&proxied, &cookie_of_socket));
        assert_eq!(socket.await.unwrap(), "hello", "{}", what());

        // A form of another site.
        let post = |site: &'static str| {
            let request = node.http.post(page()).header("cookie", &cookie);
            request.header("sec-fetch-site", site).send()
        };
        assert_eq!(post("cross-site").await.unwrap().status(), 403, "{}", what());
        assert_eq!(post("same-origin").await.unwrap().status(), 200, "{}", what());

        node.revoke(session).await;
        let (status, _) = call(&node, page(), &[("cookie", &cookie)]).await;
        assert_eq!(status, 401, "{}", what());
    }
    // An outage of sessiond is not a sign-out.
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    for (name, (proxy, _)) in &proxies {
        let cookie = [("cookie", "__Host-session=x")];
        let (status, _) = call(&node, format!("{}/page", proxy.url), &cookie).await;
        assert!([502, 503].contains(&status), "{name}: {status}");
    }
}

async fn events_pass(node: &Node, url: &str, cookie: &str, name: &str) {
    let mut stream = node.http.get(url).header("cookie", cookie).send().await.unwrap();
    let started = Instant::now();
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: 0"), "{name}: {first:?}");
    assert!(started.elapsed() < Duration::from_millis(300), "{name} holds events back");
    while stream.chunk().await.unwrap().is_some() {}
}

/// Opens a socket, and returns what it echoes.
fn socket(proxy: &str, cookie: &str) -> String {
    let address = proxy.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SOCKET_KEY}\r\n\
         Cookie: {cookie}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if !line.starts_with("HTTP/1.1 101") {
        return line;
    }
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    stream.write_all(b"hello").unwrap();
    let mut echoed = [0; 5];
    reader.read_exact(&mut echoed).unwrap();
    String::from_utf8_lossy(&echoed).into_owned()
}

/// A client library for OAuth, as Debian has it.
const AUTHLIB: &str = "
import os, sys
from authlib.integrations.requests_client import OAuth2Session
client = OAuth2Session('gateway', os.environ['KEY'])
print(client.introspect_token(sys.argv[1], token=os.environ['TOKEN']).text)
";

#[tokio::test(flavor = "multi_thread")]
async fn an_oauth_library_introspects_a_session_token() {
    let node = Node::start(&[]).await;
    let body = json!({ "user_id": ALICE, "issue_token": true });
    let (_, created) = node.service(Method::POST, "sessions", body).await;
    let url = format!("{}/service/v1/introspect", node.service);
    let introspect = || {
        let mut python = std::process::Command::new("/usr/bin/python3");
        python.args(["-c", AUTHLIB, &url]).env("KEY", node.service_key());
        // It refuses http otherwise.
        python.env("AUTHLIB_INSECURE_TRANSPORT", "1");
        let output = run(python.env("TOKEN", created["token"].as_str().unwrap()));
        let install = "Debian: apt-get install python3-authlib python3-requests";
        assert!(output.status.success(), "{install}: {output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let active = introspect();
    assert_eq!((&active["active"], &active["sub"]), (&json!(true), &json!(ALICE)));
    node.revoke(created["id"].as_str().unwrap()).await;
    assert_eq!(introspect(), json!({ "active": false }));
}
