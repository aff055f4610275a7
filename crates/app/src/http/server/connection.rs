//! The time-outs of one connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::admission::Activity;

/// How long the head of a request may take to arrive, from its first byte, or from the connection
/// for the first request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to accept a part of a response.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a response that is a stream: the request is in progress until it ends, or its
/// reader goes away.
pub(crate) struct TrackedResponse {
    body: Body,
    activity: Activity,
}

impl TrackedResponse {
    /// Returns the body of a response, which notifies the connection when it is complete.
    pub(crate) fn watch(response: Response, activity: Activity) -> Response {
        if response.body().size_hint().exact().is_some() {
            activity.responded();
            return response;
        }
        response.map(|body| Body::new(Self { body, activity }))
    }
}

impl HttpBody for TrackedResponse {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Drop for TrackedResponse {
    fn drop(&mut self) {
        self.activity.responded();
    }
}

/// A stream that ends with an error when its peer is too slow (slowloris) or silent for too long. A
/// TCP stream in production; tests use one in memory, so that they can pause the time.
pub(crate) struct TimedStream<S> {
    stream: S,
    activity: Activity,
    idle_timeout: Duration,
    lines: Lines,
    /// What the peer is waited for; `None`: nothing.
    waiting_for: Option<Waiting>,
    /// Until when.
    deadline: Instant,
    /// Never set to later than `deadline`, and often to earlier: setting a timer costs more than
    /// asking it once more.
    alarm: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The remaining bytes of a head.
    Head,
    /// Another request.
    Request,
}

/// Watches how the lines of a head end. The parser takes LF alone for the end of a line, where a
/// proxy in front may not: the two could then differ on where a request ends.
#[derive(Default)]
struct Lines {
    /// Bytes of the present line.
    length: usize,
    last: u8,
    is_head_over: bool,
}

impl Lines {
    /// Takes the next bytes; returns whether a line of the head ends with LF alone.
    fn have_bare_line_feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.is_head_over {
                return false;
            }
            if *byte == b'\n' {
                if self.last != b'\r' {
                    return true;
                }
                // An empty line ends the head.
                self.is_head_over = self.length == 1;
                self.length = 0;
            } else {
                self.length += 1;
            }
            self.last = *byte;
        }
        false
    }
}

impl<S> TimedStream<S> {
    pub(crate) fn new(stream: S, activity: Activity, idle_timeout: Duration) -> Self {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        let waiting_for = Some(Waiting::Head);
        let alarm = Box::pin(sleep_until(deadline));
        let lines = Lines::default();
        Self { stream, activity, idle_timeout, lines, waiting_for, deadline, alarm, writing: None }
    }

    fn wait_for(&mut self, what: Waiting) {
        if self.waiting_for != Some(what) {
            self.waiting_for = Some(what);
            self.deadline = Instant::now()
                + if what == Waiting::Head { HEAD_TIMEOUT } else { self.idle_timeout };
        }
    }

    /// Ready at the deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alarm.deadline() > self.deadline {
            self.alarm.as_mut().reset(self.deadline);
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.deadline);
        }
    }

    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            if !self.activity.is_responding() {
                // The peer accepts a response: it is idle from the last part of it on.
                self.waiting_for = None;
                self.wait_for(Waiting::Request);
            }
            return written;
        }
        ready!(
            self.writing.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT))).as_mut().poll(cx)
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.activity.is_responding() {
            self.waiting_for = None;
            return read;
        }
        // Bytes that have come are bytes of a head; whether it is complete, the service will say.
        if read.is_ready() {
            if self.waiting_for != Some(Waiting::Head) {
                self.lines = Lines::default();
            }
            if self.lines.have_bare_line_feed(&buffer.filled()[filled..]) {
                self.activity.found_bare_line_feed();
            }
            self.wait_for(Waiting::Head);
            return read;
        }
        if self.waiting_for.is_none() {
            self.wait_for(Waiting::Request);
        }
        ready!(self.poll_deadline(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_line_feed_is_found_in_a_head_however_it_arrives_and_not_in_a_body() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\nwith\n", false),
            ("GET / HTTP/1.1\nHost: x\n\n", true),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", true),
            ("\nGET / HTTP/1.1\r\n", true),
        ] {
            for size in [1, 3, text.len()] {
                let mut lines = Lines::default();
                let found =
                    text.as_bytes().chunks(size).any(|part| lines.have_bare_line_feed(part));
                assert_eq!(found, expected, "{text:?} in parts of {size}");
            }
        }
    }
}
