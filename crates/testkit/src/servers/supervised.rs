//! Processes that end with the test process that started them.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Runs the server, prints its pid, waits until its own standard input ends (this process dropped
/// it, or died), then stops the server and removes its directory. A shell, because a test process
/// that was killed cannot clean up after itself.
///
/// The signal is repeated, because a server that is still starting may not have installed its
/// handler, and a stopped one (SIGSTOP) has to be continued first.
const SUPERVISOR: &str = r#"
dir=$1; stop=$2; shift 2
trap '' INT TERM HUP
"$@" >"$dir/server.log" 2>&1 </dev/null &
pid=$!
echo "$pid"
cat >/dev/null
tries=0
while kill -0 "$pid" 2>/dev/null; do
  tries=$((tries + 1))
  pkill -CONT -P "$pid" 2>/dev/null
  kill -CONT "$pid" 2>/dev/null
  if [ "$tries" -gt 100 ]; then stop=KILL; fi
  kill "-$stop" "$pid" 2>/dev/null
  sleep 0.05
done
rm -rf "$dir"
"#;

/// A server process with a directory of its own, under a supervisor that outlives this process for
/// as long as it takes to stop the one and remove the other.
pub struct Supervised {
    supervisor: Child,
    pid: u32,
    dir: PathBuf,
}

impl Supervised {
    /// Starts `command` in the background. `stop_signal` is the one that makes this server stop
    /// fast and in order.
    pub fn start(
        dir: PathBuf,
        owner: Option<(u32, u32)>,
        stop_signal: &str,
        command: &[&str],
    ) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", SUPERVISOR, "supervisor"]).arg(&dir).arg(stop_signal).args(command);
        // A group of its own: Ctrl-C in the terminal must not end it before it has cleaned up.
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/").process_group(0);
        if let Some((uid, gid)) = owner {
            shell.uid(uid).gid(gid);
        }
        let mut supervisor = shell.spawn().expect("a shell to supervise the server");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.as_mut().expect("a piped standard output"))
            .read_line(&mut line)
            .expect("the server's process id");
        let pid = line.trim().parse().expect("a process id");
        Self { supervisor, pid, dir }
    }

    /// Returns the process id of the server.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns what the server said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// Sends the server a signal, such as `STOP`, `CONT` or `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Sends a process a signal.
pub(super) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .expect("kill(1)");
    assert!(status.success(), "no process {pid} to send {name} to");
}

/// Returns a TCP port of the loopback interface that was free just before.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
