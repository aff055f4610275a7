//! A TCP proxy that delays, cuts, refuses or garbles what passes through it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is wrong with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Everything that is sent arrives so much later, in both directions.
    Delay(Duration),
    /// What the server sends arrives so much later.
    DelayResponses(Duration),
    /// Nothing arrives; what was sent arrives once that is over, as with packets that are lost and
    /// sent again.
    Stall,
    /// Connections are closed, and new ones too.
    Refuse,
    /// What the server sends arrives with one byte of each piece changed.
    Garble,
    /// What the server sends is cut off in the middle, and the connection is closed.
    Truncate,
}

/// A TCP proxy on the loopback interface that injects the fault which is set. It ends
/// when it is dropped, and its connections with it.
pub struct FaultProxy {
    port: u16,
    fault: watch::Sender<Fault>,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: AtomicU16,
    harmed: AtomicU64,
}

impl FaultProxy {
    /// Creates a proxy to this port of the loopback interface, on a free one.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let shared =
            Arc::new(Shared { upstream: AtomicU16::new(upstream), harmed: AtomicU64::new(0) });
        let (fault, faults) = watch::channel(Fault::None);
        tokio::spawn(accept(listener, faults, shared.clone()));
        Self { port, fault, shared }
    }

    /// Returns where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this is wrong.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// New connections go to this port.
    pub fn redirect(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::Relaxed);
    }

    /// Returns how many pieces of data and connections were harmed so far.
    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn harm(&self) {
        self.harmed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, mut faults: watch::Receiver<Fault>, shared: Arc<Shared>) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed(&mut faults) => return,
        };
        let Ok((client, _)) = client else { continue };
        let faults = faults.clone();
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut waiting = faults.clone();
            if *waiting.borrow() == Fault::Stall {
                shared.harm();
            }
            let unless_stalled =
                waiting.wait_for(|fault| *fault != Fault::Stall).await.map(|fault| *fault);
            let Ok(fault) = unless_stalled else { return };
            if fault == Fault::Refuse {
                return shared.harm();
            }
            let upstream = (Ipv4Addr::LOCALHOST, shared.upstream.load(Ordering::Relaxed));
            let Ok(server) = TcpStream::connect(upstream).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            // If one direction is over, so is the other.
            tokio::select! {
                () = pump(from_client, to_server, false, faults.clone(), &shared) => {}
                () = pump(from_server, to_client, true, faults.clone(), &shared) => {}
            }
        });
    }
}

/// Once the proxy is dropped.
async fn closed(faults: &mut watch::Receiver<Fault>) {
    while faults.changed().await.is_ok() {}
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    from_server: bool,
    mut faults: watch::Receiver<Fault>,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            refused = faults.wait_for(|fault| *fault == Fault::Refuse) => {
                if refused.is_ok() {
                    shared.harm();
                }
                0
            }
        };
        if count == 0 {
            return;
        }
        let fault = *faults.borrow_and_update();
        let mut end = count;
        match fault {
            Fault::Delay(by) => {
                shared.harm();
                tokio::time::sleep(by).await;
            }
            Fault::DelayResponses(by) if from_server => {
                shared.harm();
                tokio::time::sleep(by).await;
            }
            Fault::Stall => {
                shared.harm();
                if faults.wait_for(|fault| *fault != Fault::Stall).await.is_err() {
                    return;
                }
            }
            Fault::Refuse => return shared.harm(),
            Fault::Garble if from_server => {
                shared.harm();
                buffer[count / 2] ^= 0x55;
            }
            Fault::Truncate if from_server => {
                shared.harm();
                end = count / 2;
            }
            Fault::None | Fault::DelayResponses(_) | Fault::Garble | Fault::Truncate => {}
        }
        if to.write_all(&buffer[..end]).await.is_err() || end < count {
            return;
        }
    }
}
