//! Clients that are slow, silent, or send too much.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sessiond_tests::node::Node;

/// Sends `bytes`, and returns what came back until the connection was closed, and how long that
/// took.
fn exchange(node: &Node, bytes: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(node.public.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    // A server that has seen enough may close before it has read all.
    let _ = stream.write_all(bytes);
    let started = Instant::now();
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        response.extend_from_slice(&buffer[..read]);
    }
    (String::from_utf8_lossy(&response).into_owned(), started.elapsed())
}

/// The time-outs have tests with paused time in `crates/app/src/http/server/`; this one shows
/// that they are wired in.
#[tokio::test]
async fn a_silent_connection_is_closed_after_five_seconds() {
    let node = Node::start(&[]).await;
    let (response, took) = exchange(&node, b"");
    assert_eq!(response, "");
    assert!((Duration::from_secs(4)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let node = Node::start(&[]).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: 1\r\n".repeat(1000));
    for head in [long, many] {
        let (response, _) = exchange(&node, head.as_bytes());
        assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    }
    let (response, _) = exchange(&node, b"nonsense\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
}
