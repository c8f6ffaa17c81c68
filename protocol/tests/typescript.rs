//! The web app's copy of the protocol is generated from the Rust types. This test fails when it is not current;
//! `UPDATE_GENERATED=1 cargo test -p isthmus-protocol --test typescript` writes it anew.

use std::{fmt::Write as _, fs, path::Path};

use isthmus_protocol::{
    DeviceId, NodeId, ParticipantId, PersonId, PopId, RoomId, TrackId, accounts, guest, person, pops, problem, signal,
};
use ts_rs::{Config, TS};

/// Each type's declaration in a fixed order, with its documentation.
fn typescript() -> String {
    let mut text = String::from(
        "// Generated from protocol/src by `make generate`. Do not edit: a test compares it with the Rust types.\n",
    );
    let config = Config::new();
    macro_rules! declare {
        ($($ty:ty),* $(,)?) => {$(
            let docs = <$ty as TS>::docs().unwrap_or_default();
            let _ = write!(text, "\n{docs}export {}\n", <$ty as TS>::decl(&config));
        )*};
    }
    declare![
        PopId,
        NodeId,
        RoomId,
        ParticipantId,
        TrackId,
        signal::Secret,
        signal::ClientMessage,
        signal::Hello,
        signal::Resume,
        signal::OfferedTrack,
        signal::Source,
        signal::Kind,
        signal::Tile,
        signal::ServerMessage,
        signal::Welcome,
        signal::Participant,
        signal::Track,
        signal::Slot,
        signal::SlotContent,
        signal::SlotState,
        signal::LeaveReason,
        pops::PopList,
        pops::PopEntry,
        pops::RttSource,
        pops::PopState,
        pops::Measurements,
        pops::Measurement,
        guest::GuestRequest,
        guest::GuestToken,
        PersonId,
        DeviceId,
        person::DisplayName,
        person::Locale,
        person::Country,
        person::TimeZone,
        person::Profile,
        accounts::Registration,
        accounts::SignIn,
        accounts::SignedIn,
        accounts::Renewal,
        accounts::Me,
        accounts::Devices,
        accounts::Device,
        accounts::MailRequest,
        accounts::MailPurpose,
        accounts::Verification,
        accounts::PasswordReset,
        problem::Problem,
        problem::Code,
    ];
    let _ = write!(
        text,
        "\nexport const PROTOCOL_VERSION = {};\nexport const SUBPROTOCOL = {:?};\nexport const \
         TOKEN_SUBPROTOCOL_PREFIX = {:?};\nexport const MAX_NAME_CHARS = {};\nexport const MAX_TILES = {};\n\
         export const MAX_SPEAKERS = {};\n\
         export const RESUME_GRACE_S = {};\nexport const FULL_LOAD = {};\n\
         export const STAY_WITHIN_MS = {};\nexport const STAY_WITHIN_SHARE = {};\n",
        signal::VERSION,
        signal::SUBPROTOCOL,
        signal::TOKEN_SUBPROTOCOL_PREFIX,
        signal::MAX_NAME_CHARS,
        signal::MAX_TILES,
        signal::MAX_SPEAKERS,
        signal::RESUME_GRACE_S,
        pops::FULL_LOAD,
        pops::STAY_WITHIN_MS,
        pops::STAY_WITHIN_SHARE,
    );
    text
}

#[test]
fn the_web_apps_protocol_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/src/sdk/protocol.gen.ts");
    let wanted = typescript();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().expect("the path has a folder")).expect("the folder can be made");
        fs::write(&path, &wanted).expect("the file can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "web/src/sdk/protocol.gen.ts is not current: run `make generate`");
}
