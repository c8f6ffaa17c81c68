//! What carrying media costs, in one run on one machine: the machine's floor, Isthmus, and Janus beside it, each with the same
//! load. Figures that were not measured in one run on one machine say nothing of each other.
//!
//! ```text
//!   loads ─▶ for each, in turn: floor (sendto, GSO) ─ Isthmus ─ Janus ─▶ figures ─▶ table, goals, JSON
//!                                 │        └── servers: started for it, ended by pid
//!                                 └── floor::sending        └── run::conduct with a scenario of the load
//! ```
//!
//! | module    | does                                                                          |
//! |-----------|-------------------------------------------------------------------------------|
//! | `loads`   | what is measured, as scenarios                                                |
//! | `servers` | Isthmus and Janus as children of this program, with state folders of their own |
//! | `machine` | whether others use the machine meanwhile                                      |
//! | `table`   | figures, goals, the table                                                     |
//! | `command` | `loadtest bench`                                                              |

pub mod command;
mod loads;
mod machine;
mod servers;
mod table;
