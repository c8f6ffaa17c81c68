//! Accounts from outside: what a browser sends, what a person finds in their mail.

use isthmus_protocol::{
    accounts::{Devices, Me, SignedIn},
    problem::Code,
};
use reqwest::Response;
use serde_json::{Value, json};

use crate::stage::{APP, RunningDoor, Stage, refused, until};

const EMAIL: &str = "ana@example.org";
const PASSWORD: &str = "correct horse battery";

/// Somebody who is signed in, as their browser knows it.
struct Browser {
    signed_in: SignedIn,
    cookie: String,
}

impl Browser {
    /// From the answer to who signs in or renews.
    async fn of(response: Response, status: u16) -> Self {
        assert_eq!(
            (response.status().as_u16(), response.headers()["cache-control"].as_bytes()),
            (status, &b"no-store"[..])
        );
        let set = response.headers()["set-cookie"].to_str().expect("text").to_owned();
        for part in ["Path=/v1/sessions", "HttpOnly", "SameSite=Strict"] {
            assert!(set.split("; ").any(|found| found == part), "{part} in {set}");
        }
        let cookie = set.split(';').next().expect("a pair").to_owned();
        Self { signed_in: response.json().await.expect("who"), cookie }
    }

    async fn get(&self, door: &RunningDoor, path: &str) -> Response {
        door.get(path).bearer_auth(&self.signed_in.access_token).send().await.expect("an answer")
    }

    async fn renew(&self, door: &RunningDoor, attempt: &str) -> Response {
        let request = door.post("/v1/sessions/renew").header("cookie", &self.cookie).json(&json!({"attempt": attempt}));
        request.send().await.expect("an answer")
    }
}

async fn post(door: &RunningDoor, path: &str, body: Value) -> Response {
    door.post(path).header("origin", APP).json(&body).send().await.expect("an answer")
}

fn registration() -> Value {
    json!({"email": EMAIL, "password": PASSWORD, "name": "Ana María", "locale": "en", "country": "PA", "device": "Firefox"})
}

async fn registered(door: &RunningDoor) -> Browser {
    Browser::of(post(door, "/v1/accounts", registration()).await, 201).await
}

async fn sign_in(door: &RunningDoor, password: &str) -> Response {
    post(door, "/v1/sessions", json!({"email": EMAIL, "password": password, "device": "Phone"})).await
}

/// The link in the newest mail to `page` of the app.
async fn mailed(stage: &Stage, page: &str) -> String {
    let prefix = format!("{APP}/account/{page}#email=ana%40example%2Eorg&link=");
    until("a mail is sent", async || {
        let mails = std::fs::read_dir(stage.path("mail")).ok()?.filter_map(|file| {
            let file = file.ok()?;
            let text = std::fs::read_to_string(file.path()).ok()?;
            // Quoted-printable (RFC 2045 section 6.7), as far as it matters to a link.
            let text = text.replace("=\r\n", "").replace("=3D", "=");
            Some((file.metadata().ok()?.modified().ok()?, text))
        });
        let mails = mails.filter(|(_, text)| text.contains(&prefix));
        let (_, newest) = mails.max_by_key(|(written, _)| *written)?;
        let link = newest.split_once(&prefix)?.1.lines().next()?;
        Some(link.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_is_signed_in_and_the_address_is_theirs_alone() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let ana = registered(&door).await;
    let me: Me = ana.get(&door, "/v1/me").await.json().await.expect("who asks");
    assert_eq!((&me.person, me.profile.name.as_str()), (&ana.signed_in.person, "Ana María"));
    let mut again = registration();
    again["email"] = json!(" Ana@Example.ORG ");
    assert_eq!(refused(post(&door, "/v1/accounts", again).await, 409).await, Code::EmailTaken);

    let verify =
        async |link: &str| post(&door, "/v1/accounts/verification", json!({"email": EMAIL, "link": link})).await;
    let link = mailed(&stage, "verify").await;
    assert_eq!(refused(verify(&link.replace('.', "x")).await, 400).await, Code::LinkInvalid);
    assert_eq!(verify(&link).await.status(), 204);
    assert_eq!(refused(verify(&link).await, 400).await, Code::LinkInvalid, "it was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_account_is_refused_for_what_is_wrong_with_it() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    for (field, value, code) in [
        ("email", "ana", Code::InvalidRequest),
        ("name", "  ", Code::InvalidRequest),
        ("name", "a\u{202e}b", Code::InvalidRequest),
        ("locale", "tlh", Code::InvalidRequest),
        ("password", "short", Code::WeakPassword),
        ("password", "password123", Code::WeakPassword),
        ("password", EMAIL, Code::WeakPassword),
    ] {
        let mut asked = registration();
        asked[field] = json!(value);
        assert_eq!(refused(post(&door, "/v1/accounts", asked).await, 400).await, code, "{field} {value:?}");
    }
    let mut right_to_left = registration();
    right_to_left["name"] = json!("نور الهدى");
    Browser::of(post(&door, "/v1/accounts", right_to_left).await, 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_no_account_are_told_alike() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let nobody = refused(sign_in(&door, PASSWORD).await, 401).await;
    registered(&door).await;
    let wrong = refused(sign_in(&door, "correct horse batterY").await, 401).await;
    assert_eq!((nobody, wrong), (Code::WrongCredentials, Code::WrongCredentials));
    Browser::of(sign_in(&door, PASSWORD).await, 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_a_second_time_ends_the_session() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let first = registered(&door).await;
    let second = Browser::of(first.renew(&door, "a").await, 200).await;
    let repeated = Browser::of(first.renew(&door, "a").await, 200).await;
    assert_eq!(second.cookie, repeated.cookie, "the answer was lost and asked for again");
    assert_eq!(refused(first.renew(&door, "thief").await, 401).await, Code::SessionOver);
    assert_eq!(refused(second.renew(&door, "b").await, 401).await, Code::SessionOver, "for both");
    let none = post(&door, "/v1/sessions/renew", json!({"attempt": "a"})).await;
    assert_eq!(refused(none, 401).await, Code::SessionOver);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_signed_out_from_another() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let laptop = registered(&door).await;
    let phone = Browser::of(sign_in(&door, PASSWORD).await, 201).await;
    let devices = async || laptop.get(&door, "/v1/devices").await.json::<Devices>().await.expect("devices").devices;
    let mut names: Vec<_> = devices().await.into_iter().map(|device| (device.name, device.is_this)).collect();
    names.sort();
    assert_eq!(names, [("Firefox".to_owned(), true), ("Phone".to_owned(), false)]);

    let path = format!("/v1/devices/{}", phone.signed_in.device);
    let sign_out = || door.client.delete(door.url(&path)).bearer_auth(&laptop.signed_in.access_token).send();
    let response = sign_out().await.expect("an answer");
    assert_eq!(response.status(), 204);
    assert!(!response.headers().contains_key("set-cookie"), "this device stays signed in");
    assert_eq!(sign_out().await.expect("an answer").status(), 204, "it was");
    assert_eq!(refused(phone.renew(&door, "a").await, 401).await, Code::SessionOver);
    assert_eq!(devices().await.len(), 1);
    assert_eq!(laptop.renew(&door, "a").await.status(), 200);
    let nobody = door.get("/v1/devices").bearer_auth(stage.token("demo", "ana", crate::stage::BOTH));
    assert_eq!(refused(nobody.send().await.expect("an answer"), 401).await, Code::Unauthorized, "a room token is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_comes_by_mail_and_signs_all_devices_out() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let ana = registered(&door).await;
    for email in ["nobody@example.org", EMAIL] {
        let response = post(&door, "/v1/accounts/mails", json!({"email": email, "purpose": "reset"})).await;
        assert_eq!(response.status(), 202, "whether there is such an account is not told");
    }
    let link = mailed(&stage, "reset").await;
    let reset = async |password: &str| {
        let body = json!({"email": EMAIL, "link": link, "password": password});
        post(&door, "/v1/accounts/password", body).await
    };
    assert_eq!(refused(reset("short").await, 400).await, Code::WeakPassword, "the link is not used up by that");
    assert_eq!(reset("staple staple staple").await.status(), 204);
    assert_eq!(refused(reset("another one").await, 400).await, Code::LinkInvalid, "once");
    assert_eq!(refused(ana.renew(&door, "a").await, 401).await, Code::SessionOver);
    assert_eq!(refused(sign_in(&door, PASSWORD).await, 401).await, Code::WrongCredentials);
    Browser::of(sign_in(&door, "staple staple staple").await, 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_see_of_somebody_is_theirs_to_say() {
    let stage = Stage::new();
    let (_node, door) = stage.with_accounts().await;
    let ana = registered(&door).await;
    let profile = json!({"name": "Ana P.", "locale": "es", "country": null, "time_zone": "America/Panama"});
    let put = door.client.put(door.url("/v1/me/profile")).json(&profile);
    let unsigned = put.try_clone().expect("a body in memory").send().await.expect("an answer");
    assert_eq!(refused(unsigned, 401).await, Code::Unauthorized);
    let put = put.bearer_auth(&ana.signed_in.access_token).send().await.expect("an answer");
    assert_eq!(put.status(), 204);
    let me: Me = ana.get(&door, "/v1/me").await.json().await.expect("who asks");
    assert_eq!(serde_json::to_value(me.profile).expect("a value"), profile);
}

#[tokio::test]
async fn a_door_without_accounts_says_so() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    assert_eq!(refused(post(&door, "/v1/accounts", registration()).await, 404).await, Code::NotFound);
}

#[tokio::test]
async fn whoever_wants_to_check_tokens_finds_the_keys() {
    let stage = Stage::new();
    let (_node, door) = stage.usual().await;
    let keys: Value = door.get("/v1/keys").send().await.expect("an answer").json().await.expect("JSON");
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["kid"]), (&json!("OKP"), &json!("Ed25519"), &json!("k1")));
    assert_eq!(key["x"].as_str().map(str::len), Some(43), "32 bytes");
}
