use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long the head of a request may take to arrive, from its first byte, or from the connection for the first request.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may rest between two requests.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer may take to accept a part of an answer.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a request is being answered on a connection; shared by the stream and the service.
#[derive(Clone, Default)]
pub(super) struct Deadlines(Arc<AtomicBool>);

impl Deadlines {
    /// The head of a request is complete: its body and its answer have time-outs of their own.
    pub(super) fn head_arrived(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The answer is ready to be written.
    pub(super) fn answered(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_answering(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of an answer that is a stream: the request is being answered until it ends, or its reader goes away.
pub(super) struct Answering {
    body: Body,
    deadlines: Deadlines,
}

impl Answering {
    /// The answer, which tells the deadlines when it is whole.
    pub(super) fn watch(response: Response, deadlines: Deadlines) -> Response {
        if response.body().size_hint().exact().is_some() {
            deadlines.answered();
            return response;
        }
        response.map(|body| Body::new(Self { body, deadlines }))
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.deadlines.answered();
    }
}

/// A stream that ends with an error when its peer is too slow (slowloris) or silent for too long. A TCP stream in
/// production; tests use one in memory, so that they can pause the time.
pub(super) struct TimedStream<S> {
    stream: S,
    deadlines: Deadlines,
    /// What the peer is waited for; `None`: nothing.
    waiting_for: Option<Waiting>,
    /// Until when.
    deadline: Instant,
    /// Never set to later than `deadline`, and often to earlier: setting a timer costs more than asking it once more.
    alarm: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The rest of a head.
    Head,
    /// Another request.
    Request,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, deadlines: Deadlines) -> Self {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        let (waiting_for, alarm) = (Some(Waiting::Head), Box::pin(sleep_until(deadline)));
        Self { stream, deadlines, waiting_for, deadline, alarm, writing: None }
    }

    fn wait_for(&mut self, what: Waiting) {
        if self.waiting_for != Some(what) {
            self.waiting_for = Some(what);
            self.deadline = Instant::now() + if what == Waiting::Head { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
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

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            if !self.deadlines.is_answering() {
                // The peer accepts an answer: it is idle from the last part of it on.
                self.waiting_for = None;
                self.wait_for(Waiting::Request);
            }
            return written;
        }
        ready!(self.writing.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.deadlines.is_answering() {
            self.waiting_for = None;
            return read;
        }
        // Bytes that have come are bytes of a head; whether it is complete, the service will say.
        if read.is_ready() {
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
