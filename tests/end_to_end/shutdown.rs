//! Stopping in order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sessiond_tests::node::{ALICE, Node};

/// How long the node of these tests goes on serving once it is asked to stop.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(1500);
/// Clients that keep their connection, and as many that open one for each request.
const CLIENTS: usize = 4;

/// What a client saw until its balancer stopped sending requests to the node.
#[derive(Default, Debug)]
struct Seen {
    responses: usize,
    /// Requests that got no response, and connections that were refused.
    failures: usize,
    /// Responses that announced the end of the connection.
    last_on_connection: usize,
}

/// Sends one request after the other until `over`; on a connection for as long as it is kept open,
/// if `keeps`.
fn send_requests(host: &str, request: &str, keeps: bool, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Ordering::SeqCst) {
        let Ok(stream) = TcpStream::connect(host) else {
            seen.failures += 1;
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut connection = BufReader::new(stream);
        loop {
            // A failure to write is a failure to read the response.
            let _ = connection.get_mut().write_all(request.as_bytes());
            let Some(head) = read_response(&mut connection) else {
                seen.failures += 1;
                break;
            };
            assert!(head.starts_with("http/1.1 200"), "{head}");
            seen.responses += 1;
            let is_last = head.contains("connection: close");
            seen.last_on_connection += usize::from(is_last);
            if is_last || !keeps || over.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    seen
}

/// The head of the next response, in lower case; `None`: the connection ended before the response
/// did.
fn read_response(connection: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    connection.read_exact(&mut vec![0; length]).ok()?;
    Some(head)
}

/// SIGTERM under load: the node says that it is not ready, and serves on for the delay. A client
/// that keeps its connection learns from a response that it is the last one. No request is lost,
/// and the process ends with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request() {
    let mut node = Node::start(&[("SESSIOND_SERVER__SHUTDOWN_DELAY", "1500ms")]).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    let host = node.public.trim_start_matches("http://").to_owned();
    let request = format!(
        "GET /api/v1/sessions/current HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2 * CLIENTS)
        .map(|n| {
            let host = host.clone();
            let request = request.clone();
            let over = over.clone();
            std::thread::spawn(move || send_requests(&host, &request, n < CLIENTS, &over))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.signal("TERM");
    let started = Instant::now();
    while node.page("/readyz").await.0 != 503 {
        assert!(
            started.elapsed() < SHUTDOWN_DELAY,
            "a balancer cannot see that the node is about to stop"
        );
    }
    assert_eq!(node.page("/livez").await.0, 200);
    // Time for a balancer to notice; then it sends nothing more.
    tokio::time::sleep(SHUTDOWN_DELAY / 2).await;
    over.store(true, Ordering::SeqCst);
    let status = loop {
        if let Some(status) = node.child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(12), "did not stop");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(started.elapsed() >= SHUTDOWN_DELAY, "{:?}", started.elapsed());
    assert!(status.success(), "{status}");
    for client in clients {
        let seen = client.join().unwrap();
        assert!(seen.responses > 10 && seen.last_on_connection > 0, "{seen:?}");
        assert_eq!(seen.failures, 0, "{seen:?}");
    }
    assert!(node.log().contains("stopped"), "{}", node.log());
    // An orderly stop folds the write-ahead log into the file.
    assert!(!node.dir.path().join("sessiond.db-wal").exists());
}

/// A person at a terminal does not wait, and neither does a supervisor that asks twice.
#[tokio::test]
async fn interrupt_or_a_second_signal_skips_the_delay() {
    for signals in [&["INT"][..], &["TERM", "TERM"]] {
        let mut node = Node::start(&[("SESSIOND_SERVER__SHUTDOWN_DELAY", "10m")]).await;
        for signal in signals {
            node.signal(signal);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let started = Instant::now();
        while node.child.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{signals:?} did not stop the node: {}",
                node.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(node.child.wait().unwrap().success());
    }
}

/// Background work that fails is a bug. A node that went on without it would serve nothing from its
/// caches, or lose activity.
#[tokio::test]
async fn node_whose_background_work_fails_is_not_ready_any_more_and_exits_with_70() {
    let mut node = Node::start(&[
        ("FAILPOINTS", "follower-panics=20*off->panic"),
        ("SESSIOND_SERVER__SHUTDOWN_DELAY", "1s"),
    ])
    .await;
    let started = Instant::now();
    while node.page("/readyz").await.0 != 503 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it is ready without polling: {}",
            node.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = loop {
        match node.child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(
                started.elapsed() < Duration::from_secs(30),
                "it does not stop: {}",
                node.log()
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status.code(), Some(70));
    assert!(node.log().contains("the background task follow_revocations ended"), "{}", node.log());
}
