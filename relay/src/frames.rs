//! JSON frames on a QUIC stream: a big-endian u32 length, then that many bytes, at most [`MAX_FRAME_BYTES`].
//!
//! Both directions may be cancelled between any two awaits without harm: what was begun stays in the sender or the
//! receiver and is finished by the next call.

use std::{any::type_name, marker::PhantomData};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use isthmus_protocol::node::MAX_FRAME_BYTES;
use quinn::{RecvStream, SendStream};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::RelayError, reason::CloseReason};

const LENGTH_BYTES: usize = 4;

/// The sending half of a stream of `T`. Dropping it ends the stream in good order.
#[derive(Debug)]
pub struct FrameSender<T> {
    stream: SendStream,
    /// Written by `send` or `queue`, not yet taken by the stream.
    pending: BytesMut,
    message: PhantomData<fn(&T)>,
}

/// The receiving half of a stream of `T`. Dropping it tells the other side to stop.
#[derive(Debug)]
pub struct FrameReceiver<T> {
    stream: RecvStream,
    /// Received and not yet a whole frame: below [`MAX_FRAME_BYTES`] and one chunk.
    received: BytesMut,
    message: PhantomData<fn() -> T>,
}

impl<T: Serialize> FrameSender<T> {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, pending: BytesMut::new(), message: PhantomData }
    }

    /// Sends one message, waiting while the other side takes no more (its flow control window is the queue).
    pub async fn send(&mut self, message: &T) -> Result<(), RelayError> {
        self.flush().await?;
        self.queue(message)?;
        self.flush().await
    }

    /// Puts a message behind those that wait for the next [`flush`](Self::flush).
    pub fn queue(&mut self, message: &T) -> Result<(), RelayError> {
        encode(message, &mut self.pending)
    }

    /// How much waits.
    pub fn queued_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Sends what waits, waiting while the other side takes no more.
    pub async fn flush(&mut self) -> Result<(), RelayError> {
        while self.pending.has_remaining() {
            let written = self.stream.write(&self.pending).await?;
            self.pending.advance(written);
        }
        Ok(())
    }

    /// Ends the stream once everything sent has been taken.
    pub async fn finish(mut self) {
        // A stream that is already stopped or lost is as finished as it can be.
        let _ = self.flush().await;
        let _ = self.stream.finish();
        let _ = self.stream.stopped().await;
    }

    /// The same stream for messages of another type: after its opening.
    pub(crate) fn then<U: Serialize>(self) -> FrameSender<U> {
        FrameSender { stream: self.stream, pending: self.pending, message: PhantomData }
    }

    /// Ends the stream at once and says why.
    pub(crate) fn abort(mut self, reason: CloseReason) {
        let _ = self.stream.reset(reason.code());
    }
}

impl<T: DeserializeOwned> FrameReceiver<T> {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, received: BytesMut::new(), message: PhantomData }
    }

    /// The next message; none once the other side has finished.
    pub async fn receive(&mut self) -> Result<Option<T>, RelayError> {
        let received = self.receive_with_text().await?;
        Ok(received.map(|(message, _)| message))
    }

    /// The next message and the JSON that it was, for whoever passes it on: `T` may be less than what stands there.
    pub async fn receive_with_text(&mut self) -> Result<Option<(T, Bytes)>, RelayError> {
        loop {
            if let Some(received) = decode(&mut self.received)? {
                return Ok(Some(received));
            }
            match self.stream.read_chunk(MAX_FRAME_BYTES, true).await? {
                Some(chunk) => self.received.put(chunk.bytes),
                None if self.received.is_empty() => return Ok(None),
                None => return Err(RelayError::Truncated),
            }
        }
    }

    /// The same stream for messages of another type: after its opening.
    #[must_use]
    pub fn then<U: DeserializeOwned>(self) -> FrameReceiver<U> {
        FrameReceiver { stream: self.stream, received: self.received, message: PhantomData }
    }

    /// Takes no more, and says why.
    pub(crate) fn abort(mut self, reason: CloseReason) {
        let _ = self.stream.stop(reason.code());
    }
}

fn encode<T: Serialize>(message: &T, out: &mut BytesMut) -> Result<(), RelayError> {
    let start = out.len();
    out.put_u32(0);
    serde_json::to_writer((&mut *out).writer(), message).map_err(|error| malformed::<T>(&error))?;
    let bytes = out.len() - start - LENGTH_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES);
    let Some(length) = length else {
        out.truncate(start);
        return Err(RelayError::FrameTooLarge { bytes });
    };
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Takes one whole frame off the front of `received`, if one is there: the message and its JSON.
fn decode<T: DeserializeOwned>(received: &mut BytesMut) -> Result<Option<(T, Bytes)>, RelayError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(RelayError::FrameTooLarge { bytes });
    }
    if received.len() < LENGTH_BYTES + bytes {
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    let frame = received.split_to(bytes).freeze();
    let message = serde_json::from_slice(&frame).map_err(|error| malformed::<T>(&error))?;
    Ok(Some((message, frame)))
}

fn malformed<T>(error: &serde_json::Error) -> RelayError {
    RelayError::Malformed { expected: type_name::<T>(), column: error.column() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_out_whole_however_the_stream_is_cut(
            messages in prop::collection::vec(".{0,200}", 1..20),
            chunk_bytes in 1usize..50,
        ) {
            let mut wire = BytesMut::new();
            for message in &messages {
                encode(message, &mut wire).expect("short enough");
            }
            let (mut received, mut got) = (BytesMut::new(), Vec::<String>::new());
            for chunk in wire.chunks(chunk_bytes) {
                received.extend_from_slice(chunk);
                while let Some((message, text)) = decode::<String>(&mut received).expect("own frames") {
                    prop_assert_eq!(serde_json::from_slice::<String>(&text).ok(), Some(message.clone()));
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<String>(&mut BytesMut::from(&bytes[..]));
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_on_both_sides_and_leaves_nothing_behind() {
        let mut out = BytesMut::new();
        let large = "x".repeat(MAX_FRAME_BYTES);
        assert!(matches!(encode(&large, &mut out), Err(RelayError::FrameTooLarge { .. })));
        assert!(out.is_empty());
        let mut announced = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(decode::<String>(&mut announced), Err(RelayError::FrameTooLarge { .. })));
    }

    #[test]
    fn an_error_does_not_repeat_what_was_sent() {
        let mut wire = BytesMut::new();
        encode(&"ana@example.org", &mut wire).expect("short enough");
        let error = decode::<u32>(&mut wire).expect_err("a string is not a number");
        assert!(!error.to_string().contains("ana"), "{error}");
    }
}
