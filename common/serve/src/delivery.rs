//! Whether a client received what it was answered.
//!
//! HTTP does not say. The kernel does, for a Unix socket: it resets a connection whose peer closed
//! with unread data, breaks the pipe of one whose peer had closed before, and leaves a plain end
//! where everything had been read. A client that says anything more has read its answer.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::{Request, Response};

/// What was answered last on a connection, as long as nothing shows that it was received.
#[derive(Debug, Default)]
pub(crate) struct LastAnswer {
    answered: Mutex<Option<(Arc<Request>, Response)>>,
    /// The kernel said that the client had gone before it had read all it was sent. It is noted
    /// here because hyper takes a reset of an idle connection for its plain end.
    reset: AtomicBool,
}

impl LastAnswer {
    pub(crate) fn set(&self, request: Arc<Request>, response: Response) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some((request, response));
    }

    pub(crate) fn take(&self) -> Option<(Arc<Request>, Response)> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The answer that its client was gone before it had read, once the connection has ended.
    pub(crate) fn never_read(&self) -> Option<(Arc<Request>, Response)> {
        if self.reset.load(Ordering::Acquire) { self.take() } else { None }
    }

    fn note<T>(&self, done: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = done
            && matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            self.reset.store(true, Ordering::Release);
        }
    }
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
        self.last.note(&read);
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.last.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.last.note(&written);
        written
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
