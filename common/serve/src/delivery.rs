//! Whether a client received what it was answered.
//!
//! HTTP does not say. The kernel does, for a Unix socket: it resets a connection whose peer closed
//! with unread data, breaks the pipe of one whose peer had closed before, and leaves a plain end
//! where everything had been read. A client that says anything more has read its answer.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::{Request, Response};

/// What was answered last on a connection, as long as nothing shows that it was received.
#[derive(Debug, Default)]
pub(crate) struct LastAnswer(Mutex<Option<(Arc<Request>, Response)>>);

impl LastAnswer {
    pub(crate) fn set(&self, request: Arc<Request>, response: Response) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((request, response));
    }

    pub(crate) fn take(&self) -> Option<(Arc<Request>, Response)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a connection broke because its client had gone before it had read all it was sent.
pub(crate) fn never_read(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        matches!(cause.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
    })
}

/// A connection that forgets its last answer as soon as its client says more.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) stream: UnixStream,
    pub(crate) last: Arc<LastAnswer>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.last.take();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
