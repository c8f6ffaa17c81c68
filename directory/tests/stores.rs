//! Real embedded stores on loopback: what one PoP writes, the others see; what one loses, the others survive.

#![allow(clippy::disallowed_methods, reason = "a test of IO: measures and waits in real time")]

use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use isthmus_directory::home::{Homes, NotHome};
use isthmus_directory::{
    Caller, Config, Directory, Leases, Metrics, NodeRecord, NotWritten, PeerStore, People, PopRecord, Prefix, Reporter,
    StoreConfig, StoreError, UnixMicros, rank, run_store,
};
use isthmus_protocol::{
    PopId, RoomId,
    node::NodeStatus,
    person::Profile,
    pops::{Measurement, PopState, RttSource},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const POPS: [&str; 3] = ["panama", "singapore", "zurich"];
const DELAY: Duration = Duration::from_millis(100);
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much later than its limit a request may fail on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// One store: its configuration outlives its process.
struct TestStore {
    config: StoreConfig,
    running: Option<Running>,
}

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl TestStore {
    async fn start(&mut self) {
        let listener = TcpListener::bind(self.config.listen).expect("the port was free before");
        let (tell, ready) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("a fresh registry");
        let store = run_store(
            listener,
            self.config.clone(),
            metrics,
            || tell.send(()).expect("the test waits"),
            shutdown.clone(),
        );
        let task = tokio::spawn(async { store.await.expect("the store runs until it is told to stop") });
        ready.await.expect("the store starts");
        self.running = Some(Running { shutdown, task });
    }

    async fn stop(&mut self) {
        let running = self.running.take().expect("the store runs");
        running.shutdown.cancel();
        running.task.await.expect("the store ends in order");
    }

    async fn directory(&self) -> Directory {
        // Patient: these tests are about what happens, on a machine that may be busy with others.
        let config = Config::embedded(self.config.pop.clone(), format!("http://{}", self.config.listen));
        directory(&Config { timeout_ms: PATIENCE.as_millis() as u64, ..config }).await
    }
}

async fn directory(config: &Config) -> Directory {
    let metrics = Metrics::new(&prometheus::Registry::new()).expect("a fresh registry");
    Directory::connect(config, metrics).await
}

/// Stores of `count` PoPs in `folder`, each replicating to all others, none started.
fn stores(folder: &tempfile::TempDir, count: usize) -> Vec<TestStore> {
    let free: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let address = |index: usize| free[index].local_addr().expect("it is bound");
    let peer = |index: usize| PeerStore {
        pop: pop(POPS[index]),
        endpoint: format!("http://{}", address(index)),
        delay_ms: DELAY.as_millis() as u64,
    };
    let file = |index: usize| -> PathBuf { folder.path().join(format!("{}.db", POPS[index])) };
    (0..count)
        .map(|index| StoreConfig {
            pop: pop(POPS[index]),
            listen: address(index),
            file: file(index),
            peers: (0..count).filter(|other| *other != index).map(peer).collect(),
        })
        .map(|config| TestStore { config, running: None })
        .collect()
}

async fn started(folder: &tempfile::TempDir, count: usize) -> (Vec<TestStore>, Vec<Directory>) {
    let mut stores = stores(folder, count);
    let mut directories = Vec::new();
    for store in &mut stores {
        store.start().await;
        directories.push(store.directory().await);
    }
    (stores, directories)
}

fn pop(name: &str) -> PopId {
    name.parse().expect("a valid id")
}

fn room(name: &str) -> RoomId {
    name.parse().expect("a valid id")
}

fn now() -> UnixMicros {
    SystemTime::now().into()
}

fn pop_record(name: &str) -> PopRecord {
    PopRecord { pop: pop(name), region: format!("near {name}"), url: format!("https://{name}.example"), place: None }
}

fn node_record(name: &str, heard_at: UnixMicros) -> NodeRecord {
    NodeRecord {
        node: format!("{name}-sfu-1").parse().expect("a valid id"),
        pop: pop(name),
        relay: ([127, 0, 0, 1], 7102).into(),
        status: NodeStatus { participants: 2, rooms: 1, load: 0.25, draining: false },
        heard_at,
    }
}

/// Waits until `condition` holds, and says how long that took.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) -> Duration {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

async fn home(directory: &Directory, name: &str) -> Option<PopId> {
    directory.room(&room(name)).await.expect("the store answers")?.home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_pop_appears_in_the_others_after_the_delay_and_not_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_stores, directories) = started(&folder, 3).await;
    let begun = Instant::now();
    directories[0]
        .room_opened(&room("demo"), &pop("panama"), &"panama-sfu-1".parse().expect("valid"), now())
        .await
        .expect("written");
    assert_eq!(home(&directories[0], "demo").await, Some(pop("panama")), "a PoP reads its own writes");
    for other in &directories[1..] {
        eventually("the room is known elsewhere", || async { home(other, "demo").await.is_some() }).await;
        assert!(begun.elapsed() >= DELAY, "replication was quicker than the way between two regions");
    }
    let everywhere = directories[2].room(&room("demo")).await.expect("answers").expect("known");
    assert_eq!(everywhere.members.len(), 1, "the member came too");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pops_that_claim_a_room_at_once_end_with_one_home_and_both_members() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_stores, directories) = started(&folder, 3).await;
    let (early, late) = (now(), now().plus(Duration::from_millis(1)));
    let open = |index: usize, at| {
        let (directory, name) = (directories[index].clone(), POPS[index]);
        async move {
            let node = format!("{name}-sfu-1").parse().expect("a valid id");
            directory.room_opened(&room("demo"), &pop(name), &node, at).await.expect("written");
        }
    };
    tokio::join!(open(2, early), open(1, late));
    for directory in &directories {
        eventually("both members are known", || async {
            let record = directory.room(&room("demo")).await.expect("the store answers");
            record.is_some_and(|record| record.members.len() == 2)
        })
        .await;
        assert_eq!(home(directory, "demo").await, Some(pop("singapore")), "the later claim stands everywhere");
    }
    // Who comes later does not take the home, and who leaves takes only itself out.
    let (panama, node) = (pop("panama"), "panama-sfu-1".parse().expect("valid"));
    directories[0].room_opened(&room("demo"), &panama, &node, now()).await.expect("written");
    directories[0].room_closed(&room("demo"), &panama, &node, now()).await.expect("written");
    assert_eq!(home(&directories[0], "demo").await, Some(pop("singapore")));
    let record = directories[0].room(&room("demo")).await.expect("answers").expect("known");
    assert_eq!(record.members.iter().map(|member| member.pop.as_str()).collect::<Vec<_>>(), ["singapore", "zurich"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_away_catches_up_and_one_that_lost_its_file_is_given_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stores, directories) = started(&folder, 3).await;
    directories[2].register_pop(&pop_record("zurich"), now()).await.expect("written");
    let knows = |index: usize, count: usize| {
        let directory = directories[index].clone();
        async move { directory.snapshot().await.is_ok_and(|snapshot| snapshot.pops.len() == count) }
    };
    eventually("zurich is known in panama", || knows(0, 1)).await;

    stores[2].stop().await;
    directories[0].register_pop(&pop_record("panama"), now()).await.expect("written");
    directories[1].register_pop(&pop_record("singapore"), now()).await.expect("written");
    eventually("the two that are up know each other", || knows(0, 3)).await;
    stores[2].start().await;
    eventually("the one that was away has caught up", || knows(2, 3)).await;

    stores[2].stop().await;
    for leftover in std::fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("a file").path()) {
        if leftover.file_name().is_some_and(|name| name.to_string_lossy().starts_with("zurich")) {
            std::fs::remove_file(leftover).expect("removable");
        }
    }
    stores[2].start().await;
    eventually("the one that lost its file has everything again", || knows(2, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stores, directories) = started(&folder, 1).await;
    directories[0].register_pop(&pop_record("panama"), now()).await.expect("written");
    let heard_at = now();
    directories[0].heartbeat(&node_record("panama", heard_at)).await.expect("written");
    stores[0].stop().await;
    let error = directories[0].snapshot().await.expect_err("the store is gone");
    assert_eq!(error.code(), "unreachable", "{error}");
    stores[0].start().await;
    let snapshot = directories[0].snapshot().await.expect("the same client finds the store again");
    assert_eq!(snapshot.pops, [pop_record("panama")]);
    assert_eq!(snapshot.nodes, [node_record("panama", heard_at)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_every_call_fails_in_time_and_says_why() {
    let limit = Duration::from_millis(300) + SLACK;
    // Nobody listens, and somebody listens who never answers.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it was bound");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    for (address, code) in [(gone, "unreachable"), (silent.local_addr().expect("it is bound"), "timed_out")] {
        let directory = directory(&Config::embedded(pop("panama"), format!("http://{address}"))).await;
        let one = [Measurement { pop: pop("panama"), rtt_ms: 20.0 }];
        let (prefix, reporter) = (Prefix::of([192, 0, 2, 1].into()), Reporter::of([192, 0, 2, 1].into()));
        let record = node_record("panama", now());
        let (room, pop) = (room("demo"), pop("panama"));
        let calls: [(&str, BoxFuture<'_, Result<(), StoreError>>); 4] = [
            ("snapshot", directory.snapshot().map_ok(drop).boxed()),
            ("heartbeat", directory.heartbeat(&record).boxed()),
            ("room_opened", directory.room_opened(&room, &pop, &record.node, now()).boxed()),
            ("report", directory.report(&prefix, reporter, &one, now()).boxed()),
        ];
        for (name, call) in calls {
            let begun = Instant::now();
            let error = call.await.expect_err("there is no store");
            assert!(begun.elapsed() <= limit, "{name} took {:?}", begun.elapsed());
            assert_eq!(error.code(), code, "{name}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_never_older_than_what_it_replaces() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_stores, directories) = started(&folder, 2).await;
    let ahead = now().plus(Duration::from_secs(3));
    let named = |region: &str| PopRecord { region: region.into(), ..pop_record("panama") };
    directories[1].register_pop(&named("by a clock that is ahead"), ahead).await.expect("written");
    let region = |index: usize| {
        let directory = directories[index].clone();
        async move { directory.snapshot().await.ok()?.pops.first().map(|pop| pop.region.clone()) }
    };
    eventually("the write has arrived", || async { region(0).await.is_some() }).await;
    directories[0].register_pop(&named("corrected"), now()).await.expect("written");
    eventually("the later write stands elsewhere too", || async { region(1).await.as_deref() == Some("corrected") })
        .await;
    assert_eq!(region(0).await.as_deref(), Some("corrected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_measure_in_any_pop_ranks_pops_for_their_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_stores, directories) = started(&folder, 2).await;
    for name in &POPS[..2] {
        directories[0].register_pop(&pop_record(name), now()).await.expect("written");
        directories[0].heartbeat(&node_record(name, now())).await.expect("written");
    }
    eventually("both PoPs are known in singapore", || async {
        directories[1].snapshot().await.is_ok_and(|snapshot| snapshot.pops.len() == 2 && snapshot.nodes.len() == 2)
    })
    .await;
    let prefix = Prefix::of([203, 0, 113, 7].into());
    let [ana, max] = [7, 8].map(|host| Reporter::of([203, 0, 113, host].into()));
    let measured = |name: &str, rtt_ms| Measurement { pop: pop(name), rtt_ms };
    // What replication has read long ago by the time that it is written: the store was slow, and reports waited for it.
    let reported_at = now().minus(Duration::from_mins(5));
    // Each PoP takes a client's report; the second client's lie about a PoP it never reached is one of two samples.
    directories[0]
        .report(&prefix, ana, &[measured("panama", 180.0), measured("singapore", 30.0)], reported_at)
        .await
        .expect("taken");
    directories[1]
        .report(&prefix, max, &[measured("panama", 175.0), measured("zurich", f64::NAN)], reported_at)
        .await
        .expect("taken");
    eventually("both reports are known in singapore", || async {
        let latency = directories[1].latency(&prefix).await.expect("the store answers");
        latency.rtt_ms(&pop("panama"), now()) == Some(180.0)
    })
    .await;
    let caller = Caller { latency: directories[1].latency(&prefix).await.expect("answers"), ..Caller::default() };
    let ranked = rank(&directories[1].snapshot().await.expect("answers"), &caller, now());
    let seen: Vec<_> = ranked.iter().map(|entry| (entry.id.as_str(), entry.rtt_ms, entry.rtt_source)).collect();
    assert_eq!(seen, [("singapore", 30.0, RttSource::Measured), ("panama", 180.0, RttSource::Measured)]);
    assert!(ranked.iter().all(|entry| entry.state == PopState::Ready));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_held_by_one_pop_and_the_others_know_by_whom() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stores, _) = started(&folder, 1).await;
    let endpoint = format!("http://{}", stores[0].config.listen);
    let metrics = || Metrics::new(&prometheus::Registry::new()).expect("a fresh registry");
    let [panama, zurich] = [pop("panama"), pop("zurich")];
    let config = |name: &PopId| Config {
        timeout_ms: PATIENCE.as_millis() as u64,
        ..Config::embedded(name.clone(), endpoint.clone())
    };
    let (here, there) =
        (Homes::connect(&config(&panama), metrics()).await, Homes::connect(&config(&zurich), metrics()).await);
    here.ensure_table().await.expect("the store answers");
    let homes = [panama.clone(), zurich.clone()];
    for pop in [&there, &here, &there, &here] {
        pop.look_after(homes.clone()).await.expect("the store answers");
    }
    assert_eq!((here.epoch(&panama), there.epoch(&zurich)), (Ok(1), Ok(1)));
    assert_eq!(there.epoch(&panama), Err(NotHome { home: panama.clone(), holder: Some(panama.clone()) }));
    assert_eq!(here.epoch(&zurich), Err(NotHome { home: zurich.clone(), holder: Some(zurich) }));
    // The program starts anew: it holds the home as before.
    let again = Homes::connect(&config(&panama), metrics()).await;
    assert_eq!(again.epoch(&panama), Err(NotHome { home: panama.clone(), holder: None }), "it does not know yet");
    again.look_after(homes).await.expect("the store answers");
    assert_eq!(again.epoch(&panama), Ok(1));
}

/// A guarded record of this test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    count: u32,
}

fn kept(count: u32) -> Kept {
    Kept { count }
}

/// The people of several PoPs, each of which has its own replica; panama writes their accounts and sessions.
async fn people(stores: &[TestStore]) -> Vec<People> {
    let metrics = || Metrics::new(&prometheus::Registry::new()).expect("a fresh registry");
    let endpoint = |store: &TestStore| format!("http://{}", store.config.listen);
    let timeout_ms = PATIENCE.as_millis() as u64;
    let leases = Leases { endpoint: Some(endpoint(&stores[0])), aws_region: None, timeout_ms };
    let mut people = Vec::new();
    for store in stores {
        let config = Config {
            timeout_ms,
            leases: Some(leases.clone()),
            ..Config::embedded(store.config.pop.clone(), endpoint(store))
        };
        people.push(People::connect(&config, pop("panama"), metrics()).await);
    }
    for people in people.clone() {
        tokio::spawn(async move { people.upkeep().await });
    }
    eventually("panama writes", || async { people[0].may_write().is_ok() }).await;
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_one_account_and_given_out_by_one_pop() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stores, _) = started(&folder, 2).await;
    let people = people(&stores).await;
    let ana = "ana@example.org".parse().expect("an address");
    people[0].write_account(&ana, &kept(1), None, now()).await.expect("it is nobody's");
    let again = people[0].write_account(&ana, &kept(2), None, now()).await;
    assert!(matches!(again, Err(NotWritten::Overtaken)), "it is somebody's: {again:?}");
    let elsewhere = people[1].write_account(&ana, &kept(3), None, now()).await;
    assert!(matches!(&elsewhere, Err(NotWritten::NotHome(not)) if not.home == pop("panama")), "{elsewhere:?}");

    let seen = people[0].account::<Kept>(&ana).await.expect("the store answers").expect("it stands");
    assert_eq!(seen.record, kept(1));
    people[0].write_account(&ana, &kept(4), Some(&seen), now()).await.expect("nobody was quicker");
    let late = people[0].write_account(&ana, &kept(5), Some(&seen), now()).await;
    assert!(matches!(late, Err(NotWritten::Overtaken)), "what was seen stands no more: {late:?}");
    eventually("the other PoP knows the account", || async {
        let account = people[1].account::<Kept>(&ana).await.expect("the store answers");
        account.is_some_and(|account| account.record == kept(4))
    })
    .await;
    assert!(people[1].account::<Kept>(&"ben@example.org".parse().expect("one")).await.expect("answers").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_written_by_one_pop_and_end_by_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stores, _) = started(&folder, 2).await;
    let people = people(&stores).await;
    assert!(people[0].may_write().is_ok() && people[1].may_write().is_err());
    let ana = "u-ana".parse().expect("valid");
    let [phone, laptop] = ["phone", "laptop"].map(|device| device.parse().expect("valid"));
    let until = now().plus(Duration::from_hours(1));
    for device in [&phone, &laptop] {
        people[0].write_session((&ana, device), &kept(1), None, (until, now())).await.expect("it is held there");
    }
    let elsewhere = people[1].write_session((&ana, &phone), &kept(2), None, (until, now())).await;
    assert!(matches!(elsewhere, Err(NotWritten::NotHome(_))), "{elsewhere:?}");

    let seen = people[0].session::<Kept>(&ana, &phone).await.expect("the store answers");
    let written = people[0].write_session((&ana, &phone), &kept(7), seen.as_ref(), (until, now())).await;
    written.expect("nobody was quicker");
    assert_eq!(people[0].sessions::<Kept>(&ana, now()).await.expect("answers"), [kept(1), kept(7)], "by their names");
    let later = people[0].sessions::<Kept>(&ana, until).await.expect("the store answers");
    assert!(later.is_empty(), "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_person_last_stands_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stores, _) = started(&folder, 2).await;
    let people = people(&stores).await;
    let ana = "u-ana".parse().expect("valid");
    let profile = |name: &str| Profile {
        name: name.parse().expect("a name"),
        locale: "es".parse().expect("one of the app's"),
        country: Some("PA".parse().expect("a country")),
        time_zone: None,
    };
    people[0].write_profile(&ana, &profile("Ana"), now()).await.expect("written");
    eventually("the other PoP knows her", || async {
        people[1].profile(&ana).await.expect("answers") == Some(profile("Ana"))
    })
    .await;
    people[1].write_profile(&ana, &profile("Ana María"), now()).await.expect("written");
    eventually("the first PoP knows her new name", || async {
        people[0].profile(&ana).await.expect("answers") == Some(profile("Ana María"))
    })
    .await;
}
