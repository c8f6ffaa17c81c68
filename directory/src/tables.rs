//! Tables and keys, written down once.
//!
//! | table                 | `pk`           | `sk`                       | written by                     | lives for          |
//! |-----------------------|----------------|----------------------------|--------------------------------|--------------------|
//! | `isthmus-pops`        | `all`          | PoP                        | each PoP's doors               | [`POP_LIFETIME`]    |
//! | `isthmus-nodes`       | `all`          | node                       | the node                       | [`NODE_LIFETIME`]   |
//! | `isthmus-rooms`       | room           | `home`                     | the PoP that opened it         | [`HOME_LIFETIME`]   |
//! |                       |                | `member#` node             | the node                       | [`MEMBER_LIFETIME`] |
//! | `isthmus-latency`     | network prefix | PoP that took the reports  | that PoP's doors               | 24 h after the last report |
//! | `isthmus-people`      | `account#` digest of an e-mail address | `account#` epoch  | who holds the home of people   | for good           |
//! |                       | `person#` person | `device#` device `#` epoch | who holds the home of people   | until the session ends by itself |
//! |                       | `person#` person | `profile`                | any PoP's doors, for the person | for good           |
//! | `isthmus-leases`      | home           | `lease`                    | who takes or holds it, by condition | for good      |
//! | `isthmus-replication` | PoP            | `cursor`                   | that PoP's replicator          | for good           |
//!
//! Every item has these attributes; the others are the fields of its record ([`PopRecord`](crate::PopRecord),
//! [`NodeRecord`](crate::NodeRecord), [`RoomMember`](crate::RoomMember), [`LatencyRecord`](crate::LatencyRecord)), each
//! under its own name:
//!
//! | attribute        | type   | meaning                                                                              |
//! |------------------|--------|--------------------------------------------------------------------------------------|
//! | `pk`, `sk`       | string | the key                                                                              |
//! | `written_at_us`  | number | microseconds since the epoch; greater than that of what the write replaced           |
//! | `written_region` | string | the PoP whose store took the write                                                   |
//! | `expires_at_s`   | number | seconds since the epoch; readers ignore the item from then on, DynamoDB removes it later (time to live) |
//! | `deleted`        | bool   | present and true: readers ignore the item. It lives as long as the item would have, so that it outlives every copy it hides |
//!
//! Nothing is ever deleted by a request. Each item has one writer, or one per PoP (the key says which), except a
//! room's home: so last writer wins takes nothing from anyone but a home.
//!
//! The embedded store adds the index `writes` to the tables it replicates; DynamoDB needs none. `isthmus-replication`
//! exists in embedded stores only. `isthmus-leases` is in one strongly consistent store for all PoPs and replicated to none
//! ([`home`](crate::home)).

use std::time::Duration;

/// A table's name. Eleven characters or more: dynoxide names its stream shards after tables and wants that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Table(pub(crate) &'static str);

pub(crate) const POPS: Table = Table("isthmus-pops");
pub(crate) const NODES: Table = Table("isthmus-nodes");
pub(crate) const ROOMS: Table = Table("isthmus-rooms");
pub(crate) const LATENCY: Table = Table("isthmus-latency");
pub(crate) const PEOPLE: Table = Table("isthmus-people");
pub(crate) const LEASES: Table = Table("isthmus-leases");
pub(crate) const REPLICATION: Table = Table("isthmus-replication");

/// What every PoP has a copy of.
pub(crate) const REPLICATED: [Table; 5] = [POPS, NODES, ROOMS, LATENCY, PEOPLE];

pub(crate) const PK: &str = "pk";
pub(crate) const SK: &str = "sk";
pub(crate) const WRITTEN_AT: &str = "written_at_us";
pub(crate) const WRITTEN_REGION: &str = "written_region";
pub(crate) const EXPIRES_AT: &str = "expires_at_s";
pub(crate) const DELETED: &str = "deleted";

/// The index by writer and time that an embedded store's replicator reads.
pub(crate) const WRITES: &str = "writes";

/// The `pk` of tables that are read whole.
pub(crate) const ALL: &str = "all";
/// The `sk` of a room's home.
pub(crate) const HOME: &str = "home";
/// What the `sk` of a room's members begins with.
pub(crate) const MEMBER: &str = "member#";
/// What the `pk` of an account begins with, and its `sk`.
pub(crate) const ACCOUNT: &str = "account";
/// What the `pk` of what belongs to a person begins with.
pub(crate) const PERSON: &str = "person#";
/// What the `sk` of a person's devices begins with.
pub(crate) const DEVICE: &str = "device#";
/// The `sk` of what others see of a person.
pub(crate) const PROFILE: &str = "profile";
/// The `sk` of a home's lease.
pub(crate) const LEASE: &str = "lease";
/// The `sk` of a replicator's cursor.
pub(crate) const CURSOR: &str = "cursor";

/// A PoP that has not registered for this long is gone from the list.
pub const POP_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// A node that has not been heard from for this long is gone from the list.
pub const NODE_LIFETIME: Duration = Duration::from_hours(24);
/// A room's home is free for another PoP this long after its last node refreshed it.
pub const HOME_LIFETIME: Duration = Duration::from_hours(1);
/// A node counts as a room's member this long after it said so.
pub const MEMBER_LIFETIME: Duration = Duration::from_secs(90);
/// How often a node repeats [`Directory::room_opened`](crate::Directory::room_opened) for each of its rooms.
pub const MEMBER_REFRESH: Duration = Duration::from_secs(30);
