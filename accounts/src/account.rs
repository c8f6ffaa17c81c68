//! One person's account: what it is opened by, and what is still to be shown of it.
//!
//! Guarded: an account is written by the holder of the home of accounts alone, so that an address or a link is good once.

use isthmus_protocol::{PersonId, person::Email};
use serde::{Deserialize, Serialize};

use crate::{
    Bits,
    link::{Purpose, Refused, Secret},
    password::{Kept, Password},
};

/// As it is kept. Nothing of it but its id shows itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whose.
    pub id: PersonId,
    /// Where mail goes.
    email: Email,
    /// They have followed a link that went there.
    is_verified: bool,
    /// None for who signs in by a passkey or by another provider.
    password: Option<Kept>,
    /// What its links are proven by.
    secret: Bits<32>,
    /// In seconds since the epoch.
    created_at_s: u64,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Account {
    /// A new one, with 256 random bits that the caller supplies.
    pub fn open(id: PersonId, email: Email, password: Option<Kept>, random: [u8; 32], now_s: u64) -> Self {
        Self { id, email, is_verified: false, password, secret: Bits(random), created_at_s: now_s }
    }

    /// Where mail goes.
    pub fn email(&self) -> &Email {
        &self.email
    }

    /// Whether the address was shown to be theirs.
    pub fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// What a password is to be tried against; one that nothing opens where there is none, so that trying takes as long.
    pub fn password(&self) -> Kept {
        self.password.clone().unwrap_or_else(Kept::of_nobody)
    }

    /// The password was right and is kept as is advised today from now on.
    pub fn strengthen(&mut self, password: &Password, salt: [u8; 16]) {
        if self.password.as_ref().is_some_and(Kept::is_outdated) {
            self.password = Some(Kept::of(password, salt));
        }
    }

    /// Another password from now on. Links to choose one are void with it, and sessions are the caller's to end.
    pub fn change_password(&mut self, password: Kept) {
        self.password = Some(password);
    }

    /// A link that shows whose the address is; none if that is known.
    pub fn verification(&self, now_s: u64) -> Option<String> {
        (!self.is_verified).then(|| self.secret().link(Purpose::Verify, &self.state(Purpose::Verify), now_s))
    }

    /// The link was followed.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn verify(&mut self, link: &str, now_s: u64) -> Result<(), Refused> {
        self.secret().follow(link, Purpose::Verify, &self.state(Purpose::Verify), now_s)?;
        self.is_verified = true;
        Ok(())
    }

    /// A link to choose a new password by.
    pub fn reset_link(&self, now_s: u64) -> String {
        self.secret().link(Purpose::Reset, &self.state(Purpose::Reset), now_s)
    }

    /// Whether `link` may still choose a password: to be asked before one is made, which is costly.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn may_reset(&self, link: &str, now_s: u64) -> Result<(), Refused> {
        self.secret().follow(link, Purpose::Reset, &self.state(Purpose::Reset), now_s)
    }

    /// The link was followed and another password chosen. The link came by mail, so the address is theirs.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn reset(&mut self, link: &str, password: Kept, now_s: u64) -> Result<(), Refused> {
        self.may_reset(link, now_s)?;
        self.is_verified = true;
        self.change_password(password);
        Ok(())
    }

    fn secret(&self) -> Secret<'_> {
        Secret(&self.secret.0)
    }

    /// What a link is to change: after that it is good no more.
    fn state(&self, purpose: Purpose) -> Vec<u8> {
        match purpose {
            Purpose::Verify => [self.email.as_str().as_bytes(), &[u8::from(self.is_verified)]].concat(),
            Purpose::Reset => self.password.as_ref().map(Kept::mark).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, salt: u8) -> Kept {
        Kept::of(
            &Password::chosen(text.into(), &"ana@example.org".parse().expect("an address")).expect("good enough"),
            [salt; 16],
        )
    }

    fn account() -> Account {
        let id = "p-ana".parse().expect("valid");
        Account::open(
            id,
            "ana@example.org".parse().expect("an address"),
            Some(kept("correct horse", 7)),
            [3; 32],
            1_000,
        )
    }

    #[test]
    fn an_address_is_shown_once() {
        let mut account = account();
        let link = account.verification(1_000).expect("not yet shown");
        assert_eq!(account.verify(&link, 1_000 + 24 * 3_600), Err(Refused::Expired));
        assert_eq!(account.verify(&link, 2_000), Ok(()));
        assert!(account.is_verified() && account.verification(2_000).is_none());
        assert_eq!(account.verify(&link, 2_000), Err(Refused::Invalid), "it was followed");
    }

    #[test]
    fn a_password_is_chosen_by_mail_once_and_all_other_links_are_void() {
        let mut account = account();
        let (first, second) = (account.reset_link(1_000), account.reset_link(1_001));
        assert_eq!(account.may_reset(&second, 1_010), Ok(()));
        assert_eq!(account.reset(&first, kept("battery staple", 8), 1_010), Ok(()));
        assert!(account.is_verified(), "it came by mail");
        assert!(account.password().is(&Password::typed("battery staple".into()).expect("short enough")));
        for link in [first, second] {
            assert_eq!(account.reset(&link, kept("another one", 9), 1_020), Err(Refused::Invalid));
        }
    }

    #[test]
    fn who_has_no_password_is_not_opened_by_one() {
        let id = "p-ben".parse().expect("valid");
        let mut account = Account::open(id, "ben@example.org".parse().expect("an address"), None, [4; 32], 1_000);
        assert!(!account.password().is(&Password::typed(String::new()).expect("short enough")));
        let link = account.reset_link(1_000);
        assert_eq!(account.reset(&link, kept("correct horse", 7), 1_010), Ok(()), "but may choose one");
        assert_eq!(format!("{account:?}"), "Account { id: p-ben, .. }");
    }
}
