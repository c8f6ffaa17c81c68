//! One session's stream: what its door says goes to the shard, what the shard says goes to its door.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the pace of news")]

use std::time::{Duration, Instant};

use isthmus_protocol::{
    ParticipantId,
    signal::{ClientMessage, ServerMessage},
};
use isthmus_relay::{FrameReceiver, FrameSender, RelayError};
use tokio::{sync::mpsc, time::sleep_until};

use crate::shard::{Command, Inbox};

/// News of others goes out at most this often: where many join at once everyone is told of everyone, and each telling wakes a
/// door and a client.
const NEWS_EVERY: Duration = Duration::from_millis(200);
/// More than this, in bytes, does not wait.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Carries a session until either side ends it. What was said last is on its way then; the stream is still open.
pub(crate) async fn carry(
    shard: &Inbox,
    (participant, attachment): (&ParticipantId, u64),
    mut messages: mpsc::Receiver<ServerMessage>,
    sender: &mut FrameSender<ServerMessage>,
    mut receiver: FrameReceiver<ClientMessage>,
) {
    let (mut pace, mut newest) = (Pace::default(), Newest::default());
    loop {
        let due = pace.due;
        let news_is_due = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { break };
                let is_last = matches!(message, ServerMessage::Ended { .. } | ServerMessage::Error { fatal: true, .. });
                let now = Instant::now();
                let goes = pace.queued(&message, now);
                if newest.take(message, sender).is_err() {
                    break;
                }
                if !goes && sender.queued_bytes() < MAX_HELD_BYTES {
                    continue;
                }
                pace.flushed(now);
                if newest.flush(sender).await.is_err() || is_last {
                    break;
                }
            }
            () = news_is_due => {
                pace.flushed(Instant::now());
                if newest.flush(sender).await.is_err() {
                    break;
                }
            }
            incoming = receiver.receive() => {
                // The stream ended, or broke: either way the session is detached and may be taken up again.
                let Ok(Some(message)) = incoming else { break };
                let command = Command::Message { participant: participant.clone(), attachment, message };
                if shard.command(command).await.is_err() {
                    break;
                }
            }
        }
    }
}

/// What says all there is to be said of a thing: while it waits, a newer one takes its place. It goes behind the rest.
#[derive(Debug, Default)]
struct Newest {
    speakers: Option<ServerMessage>,
    bandwidth: Option<ServerMessage>,
}

impl Newest {
    fn take(&mut self, message: ServerMessage, sender: &mut FrameSender<ServerMessage>) -> Result<(), RelayError> {
        match message {
            ServerMessage::Speakers { .. } => self.speakers = Some(message),
            ServerMessage::Bandwidth { .. } => self.bandwidth = Some(message),
            // What is said last ends the session; nothing comes behind it.
            ServerMessage::Ended { .. } => {
                *self = Self::default();
                return sender.queue(&message);
            }
            _ => return sender.queue(&message),
        }
        Ok(())
    }

    async fn flush(&mut self, sender: &mut FrameSender<ServerMessage>) -> Result<(), RelayError> {
        for message in [self.speakers.take(), self.bandwidth.take()].into_iter().flatten() {
            sender.queue(&message)?;
        }
        sender.flush().await
    }
}

/// When what is queued goes out. What concerns the client itself goes at once, and with it what waited; so everything stays in
/// order.
#[derive(Debug, Default)]
struct Pace {
    /// When news went out last.
    last: Option<Instant>,
    /// When the news that waits is to go.
    due: Option<Instant>,
    holds_news: bool,
}

impl Pace {
    /// A message was queued at `now`. Whether everything is to go out.
    fn queued(&mut self, message: &ServerMessage, now: Instant) -> bool {
        if !is_news(message) {
            return true;
        }
        self.holds_news = true;
        let earliest = self.last.map_or(now, |last| last + NEWS_EVERY);
        self.due = Some(earliest);
        earliest <= now
    }

    /// Everything goes out at `now`.
    fn flushed(&mut self, now: Instant) {
        if std::mem::take(&mut self.holds_news) {
            self.last = Some(now);
        }
        self.due = None;
    }
}

/// Whether it tells of others, or of what changes all the time, and can wait for more of it.
fn is_news(message: &ServerMessage) -> bool {
    matches!(
        message,
        ServerMessage::Participant { .. }
            | ServerMessage::Left { .. }
            | ServerMessage::Speakers { .. }
            | ServerMessage::Bandwidth { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn news_goes_at_once_and_then_waits_for_more_unless_something_else_is_said() {
        let news = ServerMessage::Speakers { speakers: vec![] };
        let start = Instant::now();
        let mut pace = Pace::default();
        let queued = |pace: &mut Pace, message: &ServerMessage, after: u32| {
            let now = start + MS * after;
            let goes = pace.queued(message, now);
            if goes {
                pace.flushed(now);
            }
            goes
        };
        assert!(queued(&mut pace, &news, 0), "the first");
        assert!(!queued(&mut pace, &news, 10) && !queued(&mut pace, &news, 150));
        assert_eq!(pace.due, Some(start + NEWS_EVERY));
        pace.flushed(start + NEWS_EVERY);
        assert!(!queued(&mut pace, &news, 210));
        assert!(queued(&mut pace, &ServerMessage::Pong { id: 1 }, 220), "takes along what waits");
        assert_eq!(pace.due, None);
        assert!(!queued(&mut pace, &news, 400) && queued(&mut pace, &news, 420), "200 ms after the last news");
        assert!(queued(&mut pace, &ServerMessage::Pong { id: 2 }, 421), "it never waits");
        assert!(!queued(&mut pace, &news, 600), "the pong was no news");
    }
}
