//! Accounts at the door: what people do with them, on top of what is decided without IO (`isthmus_accounts`) and kept in the
//! directory.
//!
//! Whoever is told something here is told the same, and about as fast, whether there is such an account or not, but for who registers:
//! they have to know that an address is taken.

mod mail;
mod passwords;

use std::net::IpAddr;

use isthmus_accounts::{
    Account, Session, link, password,
    refresh::{self, Ended},
};
use isthmus_directory::{NotWritten, People, Standing, StoreError, UnixMicros, home::NotHome};
use isthmus_protocol::{
    DeviceId, PersonId,
    accounts::{MailPurpose, PasswordReset, Registration, SignIn, Verification},
    person::{DisplayName, Email, InvalidPerson, Profile},
    problem::Code,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) use self::mail::Sending;
pub use self::mail::{MailConfig, MailError};
use self::{
    mail::{Mail, Outbox},
    passwords::Passwords,
};
use crate::{config, problem::Refusal};

/// How often a record is read anew because somebody else changed it at the same moment.
const MAX_ROUNDS: usize = 3;

/// Random bits, drawn where the clock is read.
#[derive(Clone, Copy)]
pub(crate) struct Drawn {
    pub(crate) id: [u8; 10],
    pub(crate) device: [u8; 10],
    pub(crate) salt: [u8; 16],
    pub(crate) secret: [u8; 32],
    pub(crate) key: [u8; 32],
}

/// The accounts of all PoPs, as this door serves them.
pub(crate) struct Accounts {
    people: People,
    passwords: Passwords,
    outbox: Outbox,
    /// Origin of the web app, which links in mails lead to.
    app_url: String,
}

impl Accounts {
    /// The accounts of `people`, and the task that sends their mails. Those lead to `door_url` where the web app is at no origin of
    /// its own.
    ///
    /// # Errors
    /// Mails cannot be sent.
    pub(crate) fn open(
        config: &config::Accounts,
        door_url: &str,
        people: People,
    ) -> Result<(Self, Sending), MailError> {
        let (outbox, sending) = Outbox::open(&config.mail)?;
        let app_url = config.app_url.as_deref().unwrap_or(door_url).trim_end_matches('/').to_owned();
        Ok((Self { people, passwords: Passwords::default(), outbox, app_url }, sending))
    }

    /// Keeps this PoP's part in who writes accounts; never returns.
    pub(crate) async fn upkeep(&self) {
        self.people.upkeep().await;
    }

    /// Opens an account, and signs the device in.
    pub(crate) async fn register(
        &self,
        asked: Registration,
        drawn: Drawn,
        now: UnixMicros,
    ) -> Result<Session, Refusal> {
        let email: Email = asked.email.parse()?;
        let name: DisplayName = asked.name.parse()?;
        let profile = Profile { name, locale: asked.locale, country: asked.country, time_zone: asked.time_zone };
        let chosen = password::Password::chosen(asked.password, &email)?;
        self.people.may_write()?;
        let kept = self.passwords.keep(chosen, drawn.salt).await?;
        let person = PersonId::from_random(drawn.id);
        let account = Account::open(person.clone(), email.clone(), Some(kept), drawn.secret, now.as_secs());
        // First what nobody misses if the address turns out to be taken.
        self.people.write_profile(&person, &profile, now).await?;
        match self.people.write_account(&email, &account, None, now).await {
            Err(NotWritten::Overtaken) => {
                let detail = "there is an account of this e-mail address: sign in, or choose a new password by mail";
                return Err(Refusal::new(Code::EmailTaken, detail));
            }
            written => written?,
        }
        self.mail(&account, MailPurpose::Verify, &profile, now);
        self.begin(person, &asked.device, drawn, now).await
    }

    /// Signs a device in by address and password.
    pub(crate) async fn sign_in(
        &self,
        asked: SignIn,
        from: IpAddr,
        drawn: Drawn,
        now: UnixMicros,
    ) -> Result<Session, Refusal> {
        let wrong = || Refusal::new(Code::WrongCredentials, "no account opens by this e-mail address and password");
        let email: Email = asked.email.parse()?;
        let typed = password::Password::typed(asked.password).map_err(|_| wrong())?;
        let standing = self.people.account::<Account>(&email).await?;
        let kept = standing.as_ref().map_or_else(password::Kept::of_nobody, |standing| standing.record.password());
        self.passwords.may_guess(&email, from).map_err(Refusal::rate_limited)?;
        if !self.passwords.is(kept, typed).await? {
            return Err(wrong());
        }
        let Some(Standing { record: account, .. }) = standing else { return Err(wrong()) };
        self.begin(account.id, &asked.device, drawn, now).await
    }

    /// Exchanges a refresh token. The session, with the next one.
    pub(crate) async fn renew(&self, token: &str, attempt: &str, now: UnixMicros) -> Result<Session, Refusal> {
        let over = |error: refresh::Refused| Refusal::new(Code::SessionOver, error.to_string());
        let (person, device) = Session::named_in(token).ok_or_else(|| over(refresh::Refused::Invalid))?;
        for _ in 0..MAX_ROUNDS {
            let standing = self.people.session::<Session>(&person, &device).await?;
            let Some(seen) = standing else { return Err(over(refresh::Refused::Invalid)) };
            let mut session = seen.record.clone();
            let outcome = session.exchange(token, attempt, now.as_secs());
            let is_changed = matches!(outcome, Ok(true) | Err(refresh::Refused::Reused));
            if is_changed && self.was_overtaken(&session, Some(&seen), now).await? {
                continue;
            }
            return outcome.map(|_| session).map_err(over);
        }
        Err(busy())
    }

    /// Where a person is signed in.
    pub(crate) async fn devices(&self, person: &PersonId, now: UnixMicros) -> Result<Vec<Session>, Refusal> {
        let mut sessions: Vec<Session> = self.people.sessions(person, now).await?;
        sessions.retain(|session| session.ended().is_none());
        sessions.sort_by_key(|session| std::cmp::Reverse(session.renewed_at_s));
        Ok(sessions)
    }

    /// Signs a device of a person out.
    pub(crate) async fn sign_out(&self, person: &PersonId, device: &DeviceId, now: UnixMicros) -> Result<(), Refusal> {
        self.end(person, device, Ended::SignedOut, now).await
    }

    /// A link was followed that shows whose an address is.
    pub(crate) async fn verify(&self, asked: Verification, now: UnixMicros) -> Result<(), Refusal> {
        let (email, seen) = self.account_of(&asked.email).await?;
        let mut account = seen.record.clone();
        account.verify(&asked.link, now.as_secs())?;
        Ok(self.people.write_account(&email, &account, Some(&seen), now).await?)
    }

    /// A link was followed to choose another password: whoever knew the old one is signed out.
    pub(crate) async fn reset(&self, asked: PasswordReset, drawn: Drawn, now: UnixMicros) -> Result<(), Refusal> {
        let (email, seen) = self.account_of(&asked.email).await?;
        let mut account = seen.record.clone();
        account.may_reset(&asked.link, now.as_secs())?;
        let chosen = password::Password::chosen(asked.password, &email)?;
        self.people.may_write()?;
        account.reset(&asked.link, self.passwords.keep(chosen, drawn.salt).await?, now.as_secs())?;
        self.people.write_account(&email, &account, Some(&seen), now).await?;
        for session in self.devices(&account.id, now).await? {
            self.end(&account.id, &session.device, Ended::PasswordChanged, now).await?;
        }
        Ok(())
    }

    /// Sends a mail with a link, if there is such an account and the link has something to do.
    pub(crate) async fn ask_for_mail(&self, email: &str, purpose: MailPurpose, now: UnixMicros) -> Result<(), Refusal> {
        let email: Email = email.parse()?;
        let Some(Standing { record: account, .. }) = self.people.account::<Account>(&email).await? else {
            return Ok(());
        };
        if let Some(profile) = self.people.profile(&account.id).await? {
            self.mail(&account, purpose, &profile, now);
        }
        Ok(())
    }

    /// What others see of a person.
    pub(crate) async fn profile(&self, person: &PersonId) -> Result<Profile, Refusal> {
        let profile = self.people.profile(person).await?;
        profile.ok_or_else(|| Refusal::new(Code::NotFound, "this PoP does not know this person yet: try again"))
    }

    /// Says what others see of a person.
    pub(crate) async fn describe(&self, person: &PersonId, profile: &Profile, now: UnixMicros) -> Result<(), Refusal> {
        Ok(self.people.write_profile(person, profile, now).await?)
    }

    async fn begin(&self, person: PersonId, name: &str, drawn: Drawn, now: UnixMicros) -> Result<Session, Refusal> {
        let session = Session::begin(person, DeviceId::from_random(drawn.device), name, drawn.key, now.as_secs());
        if self.was_overtaken(&session, None, now).await? { Err(busy()) } else { Ok(session) }
    }

    async fn end(&self, person: &PersonId, device: &DeviceId, why: Ended, now: UnixMicros) -> Result<(), Refusal> {
        for _ in 0..MAX_ROUNDS {
            let Some(seen) = self.people.session::<Session>(person, device).await? else { return Ok(()) };
            let mut session = seen.record.clone();
            session.end(why);
            if !self.was_overtaken(&session, Some(&seen), now).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Writes a session; whether somebody else was quicker.
    async fn was_overtaken(
        &self,
        session: &Session,
        seen: Option<&Standing<Session>>,
        now: UnixMicros,
    ) -> Result<bool, Refusal> {
        let until = UnixMicros::from_secs(session.expires_at_s());
        match self.people.write_session((&session.person, &session.device), session, seen, (until, now)).await {
            Err(NotWritten::Overtaken) => Ok(true),
            written => Ok(written.map(|()| false)?),
        }
    }

    /// The account that a link is of; where there is none the link is none.
    async fn account_of(&self, email: &str) -> Result<(Email, Standing<Account>), Refusal> {
        let email: Email = email.parse()?;
        let account = self.people.account(&email).await?.ok_or(link::Refused::Invalid)?;
        Ok((email, account))
    }

    fn mail(&self, account: &Account, purpose: MailPurpose, profile: &Profile, now: UnixMicros) {
        let link = match purpose {
            MailPurpose::Verify => account.verification(now.as_secs()),
            MailPurpose::Reset => Some(account.reset_link(now.as_secs())),
        };
        let page = match purpose {
            MailPurpose::Verify => "verify",
            MailPurpose::Reset => "reset",
        };
        if let Some(link) = link {
            // Behind the #, which browsers keep to themselves: neither a door's log nor a page that is linked to has it.
            let email = utf8_percent_encode(account.email().as_str(), NON_ALPHANUMERIC);
            let url = format!("{}/account/{page}#email={email}&link={link}", self.app_url);
            self.outbox.send(Mail::with_link(account.email(), &url, purpose, profile));
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(Code::Conflict, "another request has changed this at the same moment: try again")
}

impl From<InvalidPerson> for Refusal {
    fn from(error: InvalidPerson) -> Self {
        Self::new(Code::InvalidRequest, error.to_string())
    }
}

impl From<password::Weak> for Refusal {
    fn from(error: password::Weak) -> Self {
        Self::new(Code::WeakPassword, error.to_string())
    }
}

impl From<link::Refused> for Refusal {
    fn from(error: link::Refused) -> Self {
        let code = match error {
            link::Refused::Invalid => Code::LinkInvalid,
            link::Refused::Expired => Code::LinkExpired,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the directory did not do what a request needs");
        Self::new(Code::Unavailable, "the directory cannot be reached now: try again")
    }
}

impl From<NotHome> for Refusal {
    fn from(error: NotHome) -> Self {
        Self::not_home(error.holder, "accounts are written by another PoP now: ask there, or try again")
    }
}

impl From<NotWritten> for Refusal {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::NotHome(error) => error.into(),
            NotWritten::Overtaken => busy(),
            NotWritten::Store(error) => error.into(),
        }
    }
}
