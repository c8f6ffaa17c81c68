//! How other threads reach a shard.
//!
//! | queue      | bound  | when it is full                                                                        |
//! |------------|--------|----------------------------------------------------------------------------------------|
//! | `commands` | 4,096  | [`Inbox::command`] waits, and the relay with it stops reading from that door             |
//! | `news`     | 16,384 | the link it came by is to be reset: both sides then begin anew. Links that come and go have a reserve of 1,024 places |
//! | `media`    | 8,192  | the packet is dropped and counted: late media is useless                                |

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use isthmus_relay::MeshEvent;
use mio::{Registry, Token, Waker};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::sessions::Command;

const COMMANDS_BOUND: usize = 4_096;
const NEWS_BOUND: usize = 16_384;
/// Places of the news that what peers say leaves free, for links that come and go: that one is gone must never be lost.
const LINKS_RESERVE: usize = 1_024;
const MEDIA_BOUND: usize = 8_192;
/// Letters of one kind taken in one round.
const MAX_LETTERS: usize = 256;

/// The sending side; cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Inbox {
    commands: mpsc::Sender<Command>,
    news: mpsc::Sender<MeshEvent>,
    media: mpsc::Sender<MeshEvent>,
    bell: Arc<Bell>,
}

/// Wakes the shard once for any number of letters.
struct Bell {
    rung: AtomicBool,
    waker: Waker,
}

/// The shard has stopped.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The shard's side.
pub(super) struct Letters {
    commands: mpsc::Receiver<Command>,
    news: mpsc::Receiver<MeshEvent>,
    media: mpsc::Receiver<MeshEvent>,
    bell: Arc<Bell>,
}

pub(super) fn create(registry: &Registry, token: Token) -> io::Result<(Inbox, Letters)> {
    let (commands, command_letters) = mpsc::channel(COMMANDS_BOUND);
    let (news, news_letters) = mpsc::channel(NEWS_BOUND);
    let (media, media_letters) = mpsc::channel(MEDIA_BOUND);
    let bell = Arc::new(Bell { rung: AtomicBool::new(false), waker: Waker::new(registry, token)? });
    let letters = Letters { commands: command_letters, news: news_letters, media: media_letters, bell: bell.clone() };
    Ok((Inbox { commands, news, media, bell }, letters))
}

impl Inbox {
    /// Sends a command, waiting while the queue is full.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)?;
        self.bell.ring();
        Ok(())
    }

    /// Hands on news or media of a peer without waiting. What finds no place comes back; a shard that has stopped needs none.
    pub(crate) fn news(&self, event: MeshEvent) -> Option<MeshEvent> {
        let queue = match &event {
            MeshEvent::Media { .. } => &self.media,
            MeshEvent::Control { .. } if self.news.capacity() <= LINKS_RESERVE => return Some(event),
            MeshEvent::Control { .. } | MeshEvent::LinkUp { .. } | MeshEvent::LinkDown { .. } => &self.news,
        };
        let result = queue.try_send(event);
        self.bell.ring();
        match result {
            Err(TrySendError::Full(event)) => Some(event),
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // The waker fails only when the poll it belongs to is gone, and with it the shard.
            let _ = self.waker.wake();
        }
    }
}

impl Letters {
    /// Takes what has come: commands, then news, then media. Whether the shard goes on.
    pub(super) fn take(&mut self, mut handle: impl FnMut(Command) -> bool) -> bool {
        // Whoever puts a letter in rings after it.
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return true;
        }
        take_from(&mut self.commands, &self.bell, &mut handle)
            && take_from(&mut self.news, &self.bell, |event| handle(Command::Mesh(event)))
            && take_from(&mut self.media, &self.bell, |event| handle(Command::Mesh(event)))
    }
}

fn take_from<T>(queue: &mut mpsc::Receiver<T>, bell: &Bell, mut handle: impl FnMut(T) -> bool) -> bool {
    for _ in 0..MAX_LETTERS {
        let Ok(letter) = queue.try_recv() else { return true };
        if !handle(letter) {
            return false;
        }
    }
    // There may be more: come back at once.
    bell.ring();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_peers_say_there_is_a_place_for_a_link_that_is_gone() -> io::Result<()> {
        let poll = mio::Poll::new()?;
        let (inbox, mut letters) = create(poll.registry(), Token(0))?;
        let gone = || MeshEvent::LinkDown { node: "a".parse().expect("valid") };
        for _ in 0..NEWS_BOUND - LINKS_RESERVE {
            assert!(inbox.news(gone()).is_none(), "there is room");
        }
        assert!(inbox.news.capacity() <= LINKS_RESERVE, "what peers say finds no place from here on");
        assert!(inbox.news(gone()).is_none(), "a place in the reserve");
        let mut taken = 0;
        let mut rounds = 0;
        while letters.bell.rung.load(Ordering::Acquire) {
            rounds += 1;
            assert!(letters.take(|_| {
                taken += 1;
                true
            }));
        }
        assert_eq!(taken, NEWS_BOUND - LINKS_RESERVE + 1, "every one, in {rounds} rounds");
        assert!(rounds > 1, "one round is bounded");
        Ok(())
    }
}
