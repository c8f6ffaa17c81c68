//! Mails with links, sent behind the back of who asked: that one went out, and how long it took, tells nothing.

mod texts;

use std::path::PathBuf;

use isthmus_protocol::{
    accounts::MailPurpose,
    person::{Email, Profile},
};
use lettre::{
    AsyncFileTransport, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Mails that wait to be sent. Full: a further one is dropped, and can be asked for again.
const WAITING: usize = 256;

/// How mails are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// Whom they are from: `Isthmus <no-reply@example.org>`.
    pub from: String,
    /// Folder to write them to instead of sending them, for development.
    pub folder: Option<PathBuf>,
    /// File that holds the mail server's URL with its credentials: `smtps://user:password@mail.example.org`.
    pub smtp_url_file: Option<PathBuf>,
}

/// Why mails cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The sender is no mailbox.
    #[error("accounts.mail.from: {0:?} is no mailbox; write it like `Isthmus <no-reply@example.org>`")]
    From(String),
    /// There is no way to send them, or two.
    #[error("accounts.mail: set one of folder and smtp_url_file")]
    NoWay,
    /// The file cannot be used.
    #[error("accounts.mail.smtp_url_file: {path}: {error}")]
    Url {
        /// The file.
        path: PathBuf,
        /// Why. Never the URL itself.
        error: String,
    },
    /// The folder cannot be made.
    #[error("accounts.mail.folder: {path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// One mail.
pub(crate) struct Mail {
    to: String,
    subject: &'static str,
    text: String,
}

impl Mail {
    /// A mail with a link, in the language of who it is for.
    pub(super) fn with_link(to: &Email, url: &str, purpose: MailPurpose, profile: &Profile) -> Self {
        let texts::Text { subject, before, after } = texts::text(purpose, profile.locale.as_str());
        let name = profile.name.as_str();
        let text = format!("{name},\n\n{before}\n\n{url}\n\n{after}\n");
        Self { to: to.as_str().to_owned(), subject, text }
    }
}

/// Where mails go to be sent.
pub(crate) struct Outbox(mpsc::Sender<Mail>);

/// The task that sends them.
pub(crate) struct Sending {
    queue: mpsc::Receiver<Mail>,
    from: Mailbox,
    way: Way,
}

enum Way {
    Server(AsyncSmtpTransport<Tokio1Executor>),
    Folder(AsyncFileTransport<Tokio1Executor>),
}

impl Outbox {
    /// The way for mails, and the task that sends them.
    ///
    /// # Errors
    /// See [`MailError`].
    pub(crate) fn open(config: &MailConfig) -> Result<(Self, Sending), MailError> {
        let from = config.from.parse().map_err(|_| MailError::From(config.from.clone()))?;
        let way = match (&config.folder, &config.smtp_url_file) {
            (Some(path), None) => {
                std::fs::create_dir_all(path).map_err(|error| MailError::Folder { path: path.clone(), error })?;
                Way::Folder(AsyncFileTransport::new(path))
            }
            (None, Some(path)) => {
                let unusable = |error: String| MailError::Url { path: path.clone(), error };
                let url = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
                let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.trim());
                Way::Server(server.map_err(|_| unusable("not the URL of a mail server".to_owned()))?.build())
            }
            _ => return Err(MailError::NoWay),
        };
        let (queue, waiting) = mpsc::channel(WAITING);
        Ok((Self(queue), Sending { queue: waiting, from, way }))
    }

    /// Takes a mail to be sent.
    pub(super) fn send(&self, mail: Mail) {
        if self.0.try_send(mail).is_err() {
            tracing::warn!("too many mails wait to be sent: one was dropped");
        }
    }
}

impl Sending {
    /// Sends one mail after the other, until nobody is there any more who could ask for one.
    pub(crate) async fn run(mut self) {
        while let Some(mail) = self.queue.recv().await {
            // Boxed: what a dialogue with a mail server holds is large, and the door's future holds this one.
            if let Err(error) = Box::pin(self.send(mail)).await {
                tracing::warn!(%error, "a mail was not sent; whoever waits for it can ask for another");
            }
        }
    }

    async fn send(&self, mail: Mail) -> Result<(), String> {
        // Not said which: an address is personal.
        let to: Mailbox = mail.to.parse().map_err(|_| "nobody could be reached by that address".to_owned())?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text)
            .map_err(|error| error.to_string())?;
        match &self.way {
            Way::Server(server) => server.send(message).await.map(|_| ()).map_err(|error| error.to_string()),
            Way::Folder(folder) => folder.send(message).await.map(|_| ()).map_err(|error| error.to_string()),
        }
    }
}
