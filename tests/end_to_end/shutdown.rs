//! Stopping in order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sessiond_tests::node::{ALICE, Node};

/// SIGTERM under load: whatever was sent on an open connection is answered, and the process ends with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_answer() {
    for signal in ["TERM", "INT"] {
        let mut node = Node::start(&[]).await;
        let session = node.create(ALICE).await;
        let token = node.mint(ALICE, &session);
        let host = node.public.trim_start_matches("http://").to_owned();
        let request =
            format!("GET /api/v1/sessions/current HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (host, request, stopping, answered) =
                    (host.clone(), request.clone(), stopping.clone(), answered.clone());
                std::thread::spawn(move || {
                    while !stopping.load(Ordering::SeqCst) {
                        // Whether a connection is taken is open once it stops; what is sent on one that is taken is not.
                        let Ok(mut stream) = TcpStream::connect(&host) else { return };
                        if stream.write_all(request.as_bytes()).is_err() {
                            return;
                        }
                        let mut bytes = [0; 12];
                        match stream.read_exact(&mut bytes) {
                            Ok(()) => assert_eq!(&bytes, b"HTTP/1.1 200"),
                            // Still in the operating system's queue when the listener was closed.
                            Err(_) => return,
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        node.signal(signal);
        let started = Instant::now();
        let status = loop {
            if let Some(status) = node.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(12), "did not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        stopping.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap();
        }
        assert!(status.success(), "{status}");
        assert!(answered.load(Ordering::SeqCst) > 10);
        assert!(node.log().contains("stopped"), "{}", node.log());
        // An orderly stop folds the write-ahead log into the file.
        assert!(!node.dir.path().join("sessiond.db-wal").exists());
    }
}
