//! What opens an account and keeps somebody signed in: passwords, links in mails, refresh tokens. Sans-IO: the time and random bits
//! come in, what is to be kept and what is to be told comes out.
//!
//! # The contract
//! - **Guarded**: what is kept here is written by the PoP that holds its home alone (`isthmus_directory::home`), so an address is
//!   one account's, a link is good once and a refresh token is exchanged once.
//! - **Nothing tells**: no value of this crate shows a secret or who somebody is in its `Debug`; trying a password takes as long
//!   where there is no account.
//! - **What is costly is the caller's to bound**: a password takes some 20 ms and 19 MiB.

pub mod account;
mod bits;
pub mod link;
pub mod password;
pub mod refresh;

pub use account::Account;
pub use bits::Bits;
pub use refresh::Session;
