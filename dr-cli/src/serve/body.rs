//! The body of an answer: some bytes, or what comes piece by piece from a thread that may wait for a store.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HyperBody, Frame, SizeHint};
use tokio::sync::mpsc::{self, Receiver};

/// So many pieces wait for whoever is slow to take them.
const WAITING_MAX: usize = 2;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// Bytes at hand; none once they were sent.
    Whole(Option<Bytes>),
    /// Pieces that are still being made. An error cuts the connection: nobody takes a part for the whole.
    Pieces(Receiver<io::Result<Bytes>>),
}

impl Body {
    /// No bytes.
    pub(super) fn empty() -> Body {
        Body::Whole(None)
    }

    /// Some text.
    pub(super) fn text(text: impl Into<Bytes>) -> Body {
        Body::Whole(Some(text.into()))
    }

    /// Makes pieces one after the other, none before there is room for it, until there are no more or one fails.
    pub(super) fn pieces(mut make: impl FnMut() -> Option<io::Result<Bytes>> + Send + 'static) -> Body {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            loop {
                let Ok(room) = sender.reserve().await else { return };
                let made = tokio::task::spawn_blocking(move || {
                    let piece = make();
                    (make, piece)
                });
                let Ok((again, Some(piece))) = made.await else { return };
                make = again;
                let is_last = piece.is_err();
                room.send(piece);
                if is_last {
                    return;
                }
            }
        });
        Body::Pieces(receiver)
    }
}

impl HyperBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}
