//! `POST /v1/rooms/{room}/guests`: a room token for someone who has a link and no account.

use serde::{Deserialize, Serialize};

use crate::RoomId;

/// What a guest says of themselves.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct GuestRequest {
    /// The name others see, 1 to 80 characters after trimming.
    #[schema(min_length = 1, max_length = 80)]
    pub name: String,
}

/// The token a guest joins with.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct GuestToken {
    /// The room the token is bound to.
    pub room: RoomId,
    /// A room token (see [`crate::token`]).
    pub token: String,
    /// Seconds until it expires.
    pub expires_in_s: u32,
}
