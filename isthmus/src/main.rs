//! The one program: the roles of a PoP, the development cluster, tokens, configuration.

mod cli;
mod config;
mod dev;
mod ops;
mod roles;
mod telemetry;
mod token;

fn main() {}
