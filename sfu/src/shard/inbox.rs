//! How other threads reach a shard.
//!
//! | queue      | bound  | when it is full                                                                    |
//! |------------|--------|------------------------------------------------------------------------------------|
//! | `control`  | 16,384 | [`Inbox::control`] waits; [`Inbox::news`] refuses, and the caller resets the link    |
//! | `media`    | 8,192  | the packet is dropped and counted: late media is useless                            |

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

const CONTROL_BOUND: usize = 16_384;
const MEDIA_BOUND: usize = 8_192;
/// Letters taken in one round.
const MAX_LETTERS: usize = 512;

/// The sending side; cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Inbox {
    control: mpsc::Sender<Command>,
    media: mpsc::Sender<MeshEvent>,
    bell: Arc<Bell>,
}

/// Wakes the shard once for any number of letters.
struct Bell {
    rung: AtomicBool,
    waker: Waker,
}

/// The shard stopped, or its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDelivered {
    Full,
    Stopped,
}

/// The shard's side.
pub(super) struct Letters {
    control: mpsc::Receiver<Command>,
    media: mpsc::Receiver<MeshEvent>,
    bell: Arc<Bell>,
}

pub(super) fn create(registry: &Registry, token: Token) -> io::Result<(Inbox, Letters)> {
    let (control, control_letters) = mpsc::channel(CONTROL_BOUND);
    let (media, media_letters) = mpsc::channel(MEDIA_BOUND);
    let bell = Arc::new(Bell { rung: AtomicBool::new(false), waker: Waker::new(registry, token)? });
    let letters = Letters { control: control_letters, media: media_letters, bell: bell.clone() };
    Ok((Inbox { control, media, bell }, letters))
}

impl Inbox {
    /// Sends a command, waiting while the queue is full.
    pub(crate) async fn control(&self, command: Command) -> Result<(), NotDelivered> {
        self.control.send(command).await.map_err(|_| NotDelivered::Stopped)?;
        self.bell.ring();
        Ok(())
    }

    /// Hands on news of a peer without waiting.
    pub(crate) fn news(&self, event: MeshEvent) -> Result<(), NotDelivered> {
        let result = match event {
            MeshEvent::Media { .. } => self.media.try_send(event).map_err(not_delivered),
            other => self.control.try_send(Command::Mesh(other)).map_err(not_delivered),
        };
        self.bell.ring();
        result
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn not_delivered<T>(error: TrySendError<T>) -> NotDelivered {
    match error {
        TrySendError::Full(_) => NotDelivered::Full,
        TrySendError::Closed(_) => NotDelivered::Stopped,
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
    /// Takes what has come, control first. Whether the shard goes on.
    pub(super) fn take(&mut self, mut handle: impl FnMut(Command) -> bool) -> bool {
        self.bell.rung.store(false, Ordering::Release);
        let mut taken = 0;
        while taken < MAX_LETTERS {
            let Ok(command) = self.control.try_recv() else { break };
            taken += 1;
            if !handle(command) {
                return false;
            }
        }
        while taken < MAX_LETTERS {
            let Ok(event) = self.media.try_recv() else { return true };
            taken += 1;
            if !handle(Command::Mesh(event)) {
                return false;
            }
        }
        // There may be more: come back at once.
        self.bell.ring();
        true
    }
}
