//! What the controller does on paths that are like real ones. `cargo test -p isthmus-sfu --lib congestion -- --nocapture` prints a
//! row of figures for each run, under these headings: kbit/s, used of what could be, least so, ms that packets wait on average, and
//! 95 in 100, lost, converged, padding, switches of layers, longest gap in ms, Jain's index, scenario.

use proptest::prelude::*;

use super::{
    simulation::{App, Path, VOICE_KBPS, World},
    *,
};

/// What an application of one picture of 1700 kbit/s sends at most.
const PICTURE_KBPS: f64 = 1_700.0 + VOICE_KBPS;
/// The estimate at which the best layer is taken: it and what the voice has set aside must fit with the room's margin.
const BEST_LAYER_ESTIMATE: f64 = 1_700.0 / 0.85 + 60.0;

/// A run that is over, and what of it goes into the table.
struct Run {
    name: String,
    world: World,
    flows: Vec<usize>,
    /// The seconds that the figures are taken over.
    over: (f64, f64),
    /// What could have arrived in that time, in kbit/s.
    ideal_kbps: f64,
    converged_s: f64,
}

impl Run {
    fn log(&self) -> &simulation::Log {
        self.world.log(self.flows[0])
    }

    fn kbps(&self) -> f64 {
        self.flows.iter().map(|flow| self.world.log(*flow).kbps(self.over.0, self.over.1)).sum()
    }

    fn utilisation(&self) -> f64 {
        self.kbps() / self.ideal_kbps
    }

    fn waits_ms(&self) -> (f64, f64) {
        self.log().waits_ms(self.over.0, self.over.1)
    }

    fn loss(&self) -> f64 {
        self.log().loss(self.over.0, self.over.1)
    }

    fn padding(&self) -> f64 {
        self.log().padding(self.over.0, self.over.1)
    }

    /// Jain's index of the flows' rates: 1 if they are equal.
    fn fairness(&self) -> f64 {
        let rates: Vec<f64> =
            self.flows.iter().map(|flow| self.world.log(*flow).kbps(self.over.0, self.over.1)).collect();
        let sum: f64 = rates.iter().sum();
        sum * sum / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
    }

    fn row(&self) -> String {
        mean_row(std::slice::from_ref(self))
    }
}

/// Told whether it was good or not: for whoever tunes the controller.
impl Drop for Run {
    fn drop(&mut self) {
        println!("{}", self.row());
    }
}

/// What is used of what could be, on average and in the worst run.
fn assert_used(runs: &[Run], mean: f64, least: f64) {
    let used: Vec<f64> = runs.iter().map(Run::utilisation).collect();
    let is_enough = used.iter().sum::<f64>() >= mean * used.len() as f64 && used.iter().all(|used| *used >= least);
    assert!(is_enough, "{}", mean_row(runs));
}

fn mean_row(runs: &[Run]) -> String {
    let mean = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let most = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    let least_used = runs.iter().map(Run::utilisation).fold(f64::INFINITY, f64::min);
    format!(
        "{:>6.0} {:>6.0}% {:>6.0}% {:>8.1} {:>7.1} {:>6.1}% {:>8.1} s {:>7.2}% {:>9.1} {:>7.0} {:>5.2}  {}",
        mean(&Run::kbps),
        100.0 * mean(&Run::utilisation),
        100.0 * least_used,
        mean(&|run| run.waits_ms().0),
        mean(&|run| run.waits_ms().1),
        100.0 * mean(&Run::loss),
        most(&|run| run.converged_s),
        100.0 * mean(&Run::padding),
        mean(&|run| run.log().switches(run.over.0, run.over.1) as f64),
        most(&|run| run.log().longest_gap_ms(run.over.0, run.over.1)),
        runs.iter().map(Run::fairness).fold(1.0, f64::min),
        runs[0].name,
    )
}

/// Each scenario is run with each of these.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

fn each<T: Copy + 'static>(variants: impl IntoIterator<Item = T>) -> impl Iterator<Item = (u64, T)> {
    variants.into_iter().flat_map(|variant| SEEDS.map(move |seed| (seed, variant)))
}

fn start_up(seed: u64, kbps: f64, one_way_ms: u64) -> Run {
    let mut world = World::new(Path { one_way_ms, ..Path::of(kbps) }, seed);
    let flow = world.media(App::Layers(2));
    world.run_until(30.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= 2_500.0);
    let ideal_kbps = 1_700.0 + 500.0 + VOICE_KBPS;
    let name = format!("start-up, 2 pictures, {kbps} kbit/s, rtt {} ms", 2 * one_way_ms);
    Run { name, world, flows: vec![flow], over: (0.0, 30.0), ideal_kbps, converged_s }
}

#[test]
fn a_wide_path_is_found_within_seconds() {
    for (seed, one_way_ms) in each([5, 20, 125]) {
        let run = start_up(seed, 3_000.0, one_way_ms);
        assert!(run.converged_s <= 4.0, "{}", run.row());
        assert!(run.waits_ms().1 < 100.0, "{}", run.row());
    }
}

/// The path of the issue: 2 Mbit/s, then 200 kbit/s from 20 to 45 s, then 2 Mbit/s.
fn narrowed(seed: u64, app: App, queue_ms: f64, over: (f64, f64)) -> Run {
    let mut world = World::new(Path::of(2_000.0).queue_ms(queue_ms), seed);
    let flow = world.media(app);
    world.run_until(20.0);
    world.path.kbps = 200.0;
    world.run_until(45.0);
    world.path.kbps = 2_000.0;
    world.run_until(75.0);
    let log = world.log(flow);
    // With what is set aside for the voice, the least layer takes 210 kbit/s and the best one 2060.
    let is_layered = app == App::Layers(1);
    let (converged_s, ideal_kbps) = if over.0 < 40.0 {
        let picture_kbps = if is_layered { 0.0 } else { 160.0 };
        (log.seconds_until(20.0, |estimate| estimate <= 220.0), picture_kbps + VOICE_KBPS)
    } else {
        let picture_kbps = if is_layered { 500.0 } else { 1_700.0 };
        (log.seconds_until(45.0, |estimate| estimate >= 1_500.0), picture_kbps + VOICE_KBPS)
    };
    let name = format!("2 M -> 200 k -> 2 M, {app:?}, queue {queue_ms} ms, s {}-{}", over.0, over.1);
    Run { name, world, flows: vec![flow], over, ideal_kbps, converged_s }
}

#[test]
fn a_path_that_narrows_is_followed_and_found_again() {
    for app in [App::Layers(1), App::Elastic(1_740.0)] {
        for (seed, queue_ms) in each([30.0, 100.0, 250.0]) {
            let run = narrowed(seed, app, queue_ms, (20.0, 45.0));
            let log = run.log();
            assert!(run.converged_s <= 3.0, "{}", run.row());
            assert!(log.mean_estimate(23.0, 45.0) <= 220.0, "{} on average", log.mean_estimate(23.0, 45.0));
            assert!(log.longest_gap_ms(20.0, 75.0) <= 500.0, "{}", run.row());
            let back_s = log.seconds_until(45.0, |estimate| estimate >= 1_500.0);
            assert!(back_s <= 15.0, "back after {back_s} s: {}", run.row());
            let (_, wait_ms) = log.waits_ms(26.0, 45.0);
            assert!(wait_ms <= 150.0, "voices wait {wait_ms} ms once it has settled: {}", run.row());
        }
    }
}

/// The path narrows while far less is sent than it is known to carry: the best layer does not fit into 1.7 Mbit/s.
fn narrowed_below_the_estimate(seed: u64, queue_ms: f64) -> Run {
    let mut world = World::new(Path::of(1_700.0).queue_ms(queue_ms), seed);
    let flow = world.media(App::Layers(1));
    world.run_until(20.0);
    world.path.kbps = 200.0;
    world.run_until(30.0);
    let name = format!("500 k sent, 1.7 M -> 200 k, queue {queue_ms} ms");
    let converged_s = world.log(flow).seconds_until(20.0, |estimate| estimate <= 220.0);
    Run { name, world, flows: vec![flow], over: (20.0, 22.0), ideal_kbps: VOICE_KBPS, converged_s }
}

/// What arrives of a flow that the path does not carry is little; by that alone it would be taken not to be at fault.
#[test]
fn a_queue_is_known_to_be_its_own_by_what_is_sent() {
    for (seed, queue_ms) in each([100.0, 300.0]) {
        let run = narrowed_below_the_estimate(seed, queue_ms);
        let log = run.log();
        assert!(run.converged_s <= 0.5, "{}", run.row());
        let heard = log.voices(20.5, 21.5);
        assert!(heard >= 50, "{heard} voices after a pause of {} ms: {}", log.longest_gap_ms(20.0, 22.0), run.row());
        assert!(log.waits_ms(21.5, 25.0).1 <= 80.0, "the queue is drained, and stays so: {}", run.row());
    }
}

fn random_loss(seed: u64, percent: u32, app: App) -> Run {
    let path = Path { one_way_ms: 50, loss: f64::from(percent) / 100.0, ..Path::of(10_000.0) };
    let mut world = World::new(path, seed);
    let flow = world.media(app);
    world.run_until(60.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= BEST_LAYER_ESTIMATE);
    let name = format!("random loss {percent} %, rtt 100 ms, {app:?}");
    let ideal_kbps = PICTURE_KBPS * (1.0 - f64::from(percent) / 100.0);
    Run { name, world, flows: vec![flow], over: (10.0, 60.0), ideal_kbps, converged_s }
}

#[test]
fn random_loss_does_not_collapse_the_estimate() {
    for (percent, mean_used, least_used) in [(1, 0.98, 0.95), (5, 0.95, 0.7), (10, 0.9, 0.5), (20, 0.8, 0.4)] {
        for app in [App::Layers(1), App::Elastic(1_740.0)] {
            let runs: Vec<Run> = SEEDS.map(|seed| random_loss(seed, percent, app)).collect();
            assert_used(&runs, mean_used, least_used);
            for run in runs {
                let least = run.log().least_estimate(10.0, 60.0);
                assert!(least >= 150.0, "far from the floor, not {least}: {}", run.row());
            }
        }
    }
}

fn jittery(seed: u64, jitter_ms: f64) -> Run {
    let mut world = World::new(Path { jitter_ms, ..Path::of(5_000.0) }, seed);
    let flow = world.media(App::Layers(1));
    world.run_until(60.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= BEST_LAYER_ESTIMATE);
    let name = format!("jitter {jitter_ms} ms, 5 M");
    Run { name, world, flows: vec![flow], over: (10.0, 60.0), ideal_kbps: PICTURE_KBPS, converged_s }
}

#[test]
fn jitter_does_not_collapse_the_estimate() {
    for jitter_ms in [10.0, 30.0] {
        let runs: Vec<Run> = SEEDS.map(|seed| jittery(seed, jitter_ms)).collect();
        assert_used(&runs, 0.95, 0.75);
        for run in runs {
            assert!(run.log().least_estimate(10.0, 60.0) >= 600.0, "{}", run.row());
        }
    }
}

/// A room that only listens, on a rough path that others use too; then somebody shares a picture.
#[test]
fn a_voice_alone_does_not_wear_the_estimate_down() {
    for seed in SEEDS {
        let mut world = World::new(Path { jitter_ms: 30.0, ..Path::of(3_000.0) }, seed);
        let flow = world.media(App::Voice);
        let competitor = world.greedy();
        world.run_until(60.0);
        world.stop(competitor);
        assert!(world.log(flow).estimate(60.0) >= 250.0, "{}", world.log(flow).estimate(60.0));
        world.set_app(flow, App::Layers(1));
        world.run_until(80.0);
        let found_s = world.log(flow).seconds_until(60.0, |estimate| estimate >= BEST_LAYER_ESTIMATE);
        assert!(found_s <= 12.0, "{found_s}");
    }
}

fn two_share(seed: u64, second_at_s: f64) -> Run {
    let mut world = World::new(Path::of(3_000.0), seed);
    let first = world.media(App::Elastic(5_000.0));
    world.run_until(second_at_s);
    let second = world.media(App::Elastic(5_000.0));
    world.run_until(second_at_s + 60.0);
    let over = (second_at_s + 30.0, second_at_s + 60.0);
    let name = format!("two controllers, the second after {second_at_s} s");
    let converged_s = world.log(second).seconds_until(second_at_s, |estimate| estimate >= 1_000.0);
    Run { name, world, flows: vec![first, second], over, ideal_kbps: 3_000.0, converged_s }
}

#[test]
fn two_controllers_share_fairly() {
    for (seed, second_at_s) in each([0.0, 20.0]) {
        let run = two_share(seed, second_at_s);
        assert!(run.fairness() >= 0.9, "Jain {}: {}", run.fairness(), run.row());
        assert!(run.utilisation() >= 0.7, "{}", run.row());
    }
}

fn constant_competitor(seed: u64, app: App) -> Run {
    let mut world = World::new(Path::of(3_000.0), seed);
    let flow = world.media(app);
    world.run_until(20.0);
    let competitor = world.constant(2_000.0);
    world.run_until(40.0);
    world.stop(competitor);
    world.run_until(70.0);
    let converged_s = world.log(flow).seconds_until(40.0, |estimate| estimate >= BEST_LAYER_ESTIMATE);
    let ideal_kbps = if app == App::Layers(1) { 500.0 + VOICE_KBPS } else { 1_000.0 };
    let name = format!("2 M of constant cross traffic in 3 M, {app:?}");
    Run { name, world, flows: vec![flow], over: (20.0, 40.0), ideal_kbps, converged_s }
}

fn greedy_competitor(seed: u64, queue_ms: f64) -> Run {
    let mut world = World::new(Path::of(3_000.0).queue_ms(queue_ms), seed);
    let flow = world.media(App::Layers(1));
    world.run_until(20.0);
    let competitor = world.greedy();
    world.run_until(60.0);
    world.stop(competitor);
    world.run_until(90.0);
    let converged_s = world.log(flow).seconds_until(60.0, |estimate| estimate >= BEST_LAYER_ESTIMATE);
    let name = format!("a Reno flow in 3 M, queue {queue_ms} ms");
    Run { name, world, flows: vec![flow], over: (20.0, 60.0), ideal_kbps: 1_500.0, converged_s }
}

#[test]
fn cross_traffic_comes_and_goes() {
    for (seed, app) in each([App::Layers(1), App::Elastic(1_740.0)]) {
        let run = constant_competitor(seed, app);
        assert!(run.utilisation() >= 0.7, "{}", run.row());
        assert!(run.waits_ms().1 <= 150.0, "{}", run.row());
        assert!(run.converged_s <= 15.0, "{}", run.row());
    }
    for (seed, queue_ms) in each([50.0, 300.0]) {
        let run = greedy_competitor(seed, queue_ms);
        assert!(run.kbps() >= 150.0, "not starved: {}", run.row());
        // What did not hold is not sought again for 20 s.
        assert!(run.converged_s <= 22.0, "{}", run.row());
    }
}

fn shallow(seed: u64, app: App) -> Run {
    let mut world = World::new(Path::of(1_000.0).queue_ms(20.0), seed);
    let flow = world.media(app);
    world.run_until(60.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= 600.0);
    let ideal_kbps = if app == App::Layers(1) { 500.0 + VOICE_KBPS } else { 1_000.0 };
    let name = format!("shallow queue (20 ms), 1 M, {app:?}");
    Run { name, world, flows: vec![flow], over: (10.0, 60.0), ideal_kbps, converged_s }
}

fn policed(seed: u64, app: App) -> Run {
    let path = Path { policer: Some((1_000.0, 10_000.0)), ..Path::of(20_000.0) };
    let mut world = World::new(path, seed);
    let flow = world.media(app);
    world.run_until(60.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= 600.0);
    let ideal_kbps = if app == App::Layers(1) { 500.0 + VOICE_KBPS } else { 1_000.0 };
    let name = format!("policer of 1 M, 10 kB, {app:?}");
    Run { name, world, flows: vec![flow], over: (10.0, 60.0), ideal_kbps, converged_s }
}

#[test]
fn where_loss_is_the_only_signal_it_is_heeded() {
    for scenario in [shallow, policed] {
        for app in [App::Layers(1), App::Elastic(2_500.0)] {
            let runs: Vec<Run> = SEEDS.map(|seed| scenario(seed, app)).collect();
            let mean_loss = runs.iter().map(Run::loss).sum::<f64>() / runs.len() as f64;
            assert!(mean_loss <= 0.05, "{}", mean_row(&runs));
            assert_used(&runs, 0.85, 0.6);
            for run in runs {
                assert!(run.loss() <= 0.12, "{}", run.row());
            }
        }
    }
}

fn deep(seed: u64) -> Run {
    let mut world = World::new(Path::of(1_000.0).queue_ms(1_000.0), seed);
    let flow = world.media(App::Elastic(2_500.0));
    world.run_until(60.0);
    let converged_s = world.log(flow).seconds_until(0.0, |estimate| estimate >= 800.0);
    let name = "deep queue (1 s), 1 M, Elastic".to_owned();
    Run { name, world, flows: vec![flow], over: (5.0, 60.0), ideal_kbps: 1_000.0, converged_s }
}

#[test]
fn a_deep_queue_stays_short() {
    for run in SEEDS.map(deep) {
        assert!(run.utilisation() >= 0.75, "{}", run.row());
        assert!(run.waits_ms().1 <= 150.0, "{}", run.row());
    }
}

fn feedback_gone(seed: u64, app: App) -> Run {
    let mut world = World::new(Path::of(2_500.0), seed);
    let flow = world.media(app);
    world.run_until(20.0);
    world.path.feedback_loss = 1.0;
    world.run_until(21.0);
    world.path.feedback_loss = 0.0;
    world.run_until(40.0);
    let name = format!("feedback lost for 1 s, {app:?}");
    Run { name, world, flows: vec![flow], over: (20.0, 30.0), ideal_kbps: PICTURE_KBPS, converged_s: 0.0 }
}

#[test]
fn a_second_without_feedback_is_survived() {
    for (seed, app) in each([App::Layers(1), App::Elastic(1_740.0)]) {
        let run = feedback_gone(seed, app);
        let before = run.log().mean_estimate(18.0, 20.0);
        assert!(run.log().least_estimate(20.0, 25.0) >= before * 0.75, "{}", run.row());
        assert!(run.utilisation() >= 0.9, "{}", run.row());
    }
}

#[test]
fn a_dead_path_brings_the_estimate_down() {
    let mut world = World::new(Path::of(2_500.0), 1);
    let flow = world.media(App::Layers(1));
    world.run_until(10.0);
    world.path.feedback_loss = 1.0;
    world.run_until(20.0);
    assert!(world.log(flow).estimate(19.0) < 200.0);
}

fn voice_only_path(seed: u64, kbps: f64, opens_to: f64, opens_at_s: f64) -> Run {
    let mut world = World::new(Path { queue_bytes: 12_500, ..Path::of(kbps) }, seed);
    let flow = world.media(App::Layers(1));
    world.run_until(opens_at_s);
    world.path.kbps = opens_to;
    world.run_until(opens_at_s + 30.0);
    let converged_s = world.log(flow).seconds_until(opens_at_s, |estimate| estimate >= 210.0);
    let name = format!("{kbps} k, picture paused, opens to {opens_to} k");
    Run { name, world, flows: vec![flow], over: (5.0, opens_at_s), ideal_kbps: VOICE_KBPS, converged_s }
}

#[test]
fn a_paused_picture_is_found_by_probing() {
    for (seed, opens_at_s) in each([20.0, 31.0, 62.5]) {
        let run = voice_only_path(seed, 80.0, 1_000.0, opens_at_s);
        assert!(run.utilisation() >= 0.97, "the voice fits: {}", run.row());
        assert!(run.waits_ms().1 <= 200.0, "{}", run.row());
        assert!(run.converged_s <= 8.5, "{}", run.row());
    }
}

fn little_sent_for_long(seed: u64) -> Run {
    let mut world = World::new(Path::of(5_000.0), seed);
    let flow = world.media(App::Thumbnail);
    world.run_until(60.0);
    world.set_app(flow, App::Elastic(2_500.0));
    world.run_until(80.0);
    let converged_s = world.log(flow).seconds_until(60.0, |estimate| estimate >= 2_500.0);
    let name = "150 k for 60 s, then 2.5 M desired".to_owned();
    Run { name, world, flows: vec![flow], over: (60.0, 80.0), ideal_kbps: 2_500.0, converged_s }
}

#[test]
fn what_was_not_needed_is_found_when_it_is() {
    for run in SEEDS.map(little_sent_for_long) {
        assert!(run.converged_s <= 3.0, "{}", run.row());
        assert!(run.utilisation() >= 0.9, "{}", run.row());
    }
}

#[test]
fn a_path_that_carries_all_is_not_padded() {
    let run = random_loss(1, 1, App::Layers(1));
    assert!(run.padding() <= 0.0, "{}", run.row());
    let mut world = World::new(Path::of(5_000.0), 1);
    let voice = world.media(App::Voice);
    world.run_until(60.0);
    assert!(world.log(voice).padding(0.0, 60.0) <= 0.0, "nothing is desired beyond a voice");
    assert!(world.log(voice).estimate(59.0) >= 300.0);
}

/// Feedback that comes seldom, late and not always is worse, not wrong.
#[test]
fn poor_feedback_is_enough() {
    for (seed, (feedback_every_ms, one_way_ms, feedback_loss)) in each([(50, 20, 0.0), (250, 20, 0.0), (100, 125, 0.2)])
    {
        let path = Path { one_way_ms, feedback_every_ms, feedback_loss, ..Path::of(2_500.0) };
        let mut world = World::new(path, seed);
        let flow = world.media(App::Layers(1));
        world.run_until(20.0);
        world.path.kbps = 400.0;
        world.run_until(40.0);
        world.path.kbps = 2_500.0;
        world.run_until(70.0);
        let log = world.log(flow);
        let [wide, narrow, back] = [(8.0, 20.0), (25.0, 40.0), (55.0, 70.0)].map(|(from, to)| log.kbps(from, to));
        let told = format!("every {feedback_every_ms} ms, {one_way_ms} ms one way: {wide} {narrow} {back}");
        assert!(wide >= PICTURE_KBPS * 0.9 && narrow >= VOICE_KBPS && back >= PICTURE_KBPS * 0.9, "{told}");
        assert!(log.longest_gap_ms(20.0, 40.0) <= 500.0, "{told}");
    }
}

#[test]
fn padding_stays_little() {
    for seed in SEEDS {
        for run in
            [start_up(seed, 3_000.0, 20), shallow(seed, App::Layers(1)), constant_competitor(seed, App::Layers(1))]
        {
            assert!(run.padding() <= 0.035, "{}", run.row());
        }
    }
}

proptest! {
    /// Whatever a receiver says, whenever: the estimate stays within its limits, and time goes on.
    #[test]
    fn any_feedback_keeps_the_estimate_within_its_limits(
        steps in prop::collection::vec(
            (0u64..400, 0usize..6, prop::collection::vec(any::<u8>(), 0..30), any::<u16>(), 0u16..400), 1..60,
        ),
        needs: (u16, u16),
    ) {
        let limits = Limits { floor_kbps: 50, initial_kbps: 300, ceiling_kbps: 5_000 };
        #[expect(clippy::disallowed_methods, reason = "the origin of the virtual clock")]
        let mut now = Instant::now();
        let mut controller = Controller::new(limits, now);
        controller.needs(needs.0.into(), needs.1.into(), now);
        for (passes_ms, packets, mut body, base, count) in steps {
            now += Duration::from_millis(passes_ms);
            for _ in 0..packets {
                let waiting = Waiting { audio: false, video: true };
                if !matches!(controller.next(waiting, now), Next::Wait { .. }) {
                    controller.sent(Label(0), 1_200, now);
                }
            }
            let mut rtcp = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
            rtcp.extend((base % 400).to_be_bytes());
            rtcp.extend(count.to_be_bytes());
            // Deltas enough for whatever the chunks say.
            body.resize(body.len() + 2 * usize::from(count), passes_ms as u8);
            rtcp.append(&mut body);
            rtcp.resize(rtcp.len().next_multiple_of(4), 0x20);
            let words = (rtcp.len() / 4 - 1) as u16;
            rtcp[2..4].copy_from_slice(&words.to_be_bytes());
            for message in feedback::in_compound(&rtcp) {
                controller.feedback(&message, now, |_| {});
            }
            controller.tick(now);
            let estimate = controller.estimate_kbps();
            prop_assert!((limits.floor_kbps..=limits.ceiling_kbps).contains(&estimate), "{estimate}");
        }
    }
}
