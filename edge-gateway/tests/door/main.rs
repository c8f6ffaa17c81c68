//! A real door, reached by real HTTP and WebSocket clients, in front of a scripted media node on a real relay, with a
//! store that does not answer: nothing but accounts needs one.

mod accounts;
mod discovery;
mod media_sessions;
mod operators;
mod placement;
mod public_http;
mod signalling;
mod stage;
mod web_app;
