//! A load test: many clients by a scenario, and what they measured together.
//!
//! ```text
//!   scenario (TOML) -> plan -> conduct -> fleet -> stay -> client::drive -> the target
//!                                 |  ^      (threads, one client lives on one)
//!                                 |  +- news of stays -> figures, pulse
//!                                 +- each second -> health (sockets), server, live
//!                                 +-> report -> JSON, HTML, exit code (threshold)
//! ```
//!
//! | module      | does                                                                                   |
//! |-------------|----------------------------------------------------------------------------------------|
//! | `scenario`  | reads and checks the file                                                              |
//! | `plan`      | who joins and leaves which room when                                                   |
//! | `target`    | what the kind of server that is tested means for a client                              |
//! | `stay`      | one client's stay, from the first request to the goodbye                               |
//! | `fleet`     | threads that carry clients                                                             |
//! | `generators` | who carries clients: this process's fleet, or processes that it starts (`agent`), by messages (`wire`) |
//! | `conduct`   | carries the plan out                                                                   |
//! | `pulse`     | whether the target still answers                                                       |
//! | `figures`   | what all clients measured together                                                     |
//! | `emodel`    | how good voices sound, by loss and delay                                              |
//! | `health`    | whether this program kept up; `sockets` counts what the kernel dropped                 |
//! | `server`    | what the target's media nodes cost                                                     |
//! | `threshold` | what must hold                                                                         |
//! | `report`    | the report as JSON; `html` as a page with `chart`s                                     |
//! | `live`      | how it goes, in the terminal                                                           |
//! | `command`   | `loadtest run`                                                                         |

mod agent;
pub mod chart;
pub mod command;
pub mod conduct;
pub mod emodel;
pub mod figures;
pub mod fleet;
mod generators;
pub mod health;
pub mod html;
pub mod live;
pub mod plan;
pub mod pulse;
pub mod report;
pub mod scenario;
pub mod server;
pub mod sockets;
pub mod stay;
mod target;
pub mod threshold;
mod wire;
