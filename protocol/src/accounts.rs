//! Accounts over HTTP: registering, signing in, staying signed in, and what somebody may see and change of their own.
//!
//! A door that does not hold the home of accounts refuses with `not_home` and says where to ask ([`Problem::at`](crate::problem)).

use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, PersonId,
    person::{Country, Locale, Profile, TimeZone},
};

/// `POST /v1/accounts`: an account for somebody who has none.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Registration {
    /// Where mail goes.
    pub email: String,
    /// 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128)]
    pub password: String,
    /// What others see.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// The language that they are spoken to in.
    pub locale: Locale,
    /// Where they live.
    #[serde(default)]
    pub country: Option<Country>,
    /// What their clocks show.
    #[serde(default)]
    pub time_zone: Option<TimeZone>,
    /// What the device is called in the list of devices: `Firefox on Linux`.
    #[schema(max_length = 64)]
    pub device: String,
}

/// `POST /v1/sessions`: signing in on a device.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct SignIn {
    /// The account's address.
    pub email: String,
    /// Its password.
    pub password: String,
    /// What the device is called in the list of devices.
    #[schema(max_length = 64)]
    pub device: String,
}

/// A device that is signed in. The refresh token is in a cookie that no script reads.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct SignedIn {
    /// Who.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// An access token (see [`crate::token`]), good at every PoP.
    pub access_token: String,
    /// Seconds until it expires.
    pub expires_in_s: u32,
}

/// `POST /v1/sessions/renew`: another access token for the refresh token in the cookie, which is exchanged too.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Renewal {
    /// Made up anew for each exchange and the same when it is repeated because no answer came: without it a repetition cannot be
    /// told from a stolen token.
    #[schema(min_length = 1, max_length = 64)]
    pub attempt: String,
}

/// `GET /v1/me`: what somebody may see of their own account.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Me {
    /// Who.
    pub person: PersonId,
    /// What others see.
    pub profile: Profile,
    /// The device that asks.
    pub device: DeviceId,
}

/// `GET /v1/devices`: where somebody is signed in.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Devices {
    /// The one used last first.
    pub devices: Vec<Device>,
}

/// A device that somebody is signed in on.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// What it is called.
    pub name: String,
    /// When it signed in, in seconds since the epoch.
    #[ts(type = "number")]
    pub signed_in_at_s: u64,
    /// When it was last heard of, in seconds since the epoch.
    #[ts(type = "number")]
    pub renewed_at_s: u64,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

/// `POST /v1/accounts/mails`: another mail with a link.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct MailRequest {
    /// The account's address. Whether there is one is not told.
    pub email: String,
    /// What the link is to do.
    pub purpose: MailPurpose,
}

/// What a link in a mail does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailPurpose {
    /// Shows that the address is theirs.
    Verify,
    /// Lets them choose another password.
    Reset,
}

/// `POST /v1/accounts/verification`: a link was followed that shows whose an address is.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Verification {
    /// The account's address.
    pub email: String,
    /// What the mail had.
    pub link: String,
}

/// `POST /v1/accounts/password`: a link was followed to choose another password. Every device is signed out.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct PasswordReset {
    /// The account's address.
    pub email: String,
    /// What the mail had.
    pub link: String,
    /// 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128)]
    pub password: String,
}
