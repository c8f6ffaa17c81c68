//! A generator process: carries the clients that it is told to carry, and tells what becomes of them. It ends when its orders
//! do, whether the run is over or the process that gave them is gone.

#![expect(clippy::disallowed_methods, reason = "IO: reads clocks")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, Stdout},
    time::{MissedTickBehavior, interval},
};

use super::{
    conduct::process_cpu,
    fleet::{Fleet, News},
    plan::Plan,
    scenario::Scenario,
    stay::Shared,
    target::invite,
    wire::{Order, Told, Vitals},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a generator of a run of this scenario, until its orders end.
pub(super) async fn run(scenario: &Scenario, threads: usize) -> anyhow::Result<()> {
    let shared = Shared::new(scenario)?;
    let plan = Plan::new(scenario);
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    tell(&mut out, &Told::Ready).await?;
    let Some(Order::Begin { run, epoch_ns }) = next(&mut orders).await? else { bail!("nobody says who begins") };
    let epoch = instant_of(epoch_ns)?;
    let mut fleet = Fleet::start(threads, &shared)?;
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = next(&mut orders) => match order? {
                Some(Order::Join { seat, others_published }) if seat < plan.seats.len() => {
                    fleet.join(invite(scenario, &plan, run, epoch, seat, others_published)).await;
                }
                Some(Order::Leave { seat }) => fleet.leave(seat).await,
                Some(order) => bail!("{order:?} cannot be carried out"),
                None => break,
            },
            Some(news) = fleet.news() => tell(&mut out, &told(news)).await?,
            _ = second.tick() => tell(&mut out, &vitals(&fleet, &shared)).await?,
        }
    }
    // While sockets are open: the kernel forgets the drops of those that are closed.
    tell(&mut out, &vitals(&fleet, &shared)).await?;
    fleet.dismiss();
    while let Some(news) = fleet.news().await {
        tell(&mut out, &told(news)).await?;
    }
    tell(&mut out, &vitals(&fleet, &shared)).await?;
    fleet.end()?;
    tell(&mut out, &Told::Done).await
}

fn told(news: News) -> Told {
    match news {
        News::Joined(seat) => Told::Joined(seat),
        News::Ended(stay) => Told::Ended(Box::new((*stay).into())),
    }
}

fn vitals(fleet: &Fleet, shared: &Arc<Shared>) -> Told {
    let (cpu, late) = fleet.vitals();
    let (drops, traffic) = (shared.sockets.drops(), shared.traffic.total());
    Told::Vitals(Vitals { cpu, late, process_cpu: process_cpu(), drops, traffic })
}

async fn next(orders: &mut Lines<BufReader<Stdin>>) -> anyhow::Result<Option<Order>> {
    let Some(line) = orders.next_line().await? else { return Ok(None) };
    serde_json::from_str(&line).map(Some).with_context(|| format!("no order: {line}"))
}

async fn tell(out: &mut Stdout, told: &Told) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(told)?;
    line.push('\n');
    out.write_all(line.as_bytes()).await?;
    Ok(out.flush().await?)
}

/// The moment that the monotonic clock of this machine showed so much.
fn instant_of(monotonic_ns: u64) -> anyhow::Result<Instant> {
    let (instant, clock) = (Instant::now(), monotonic()?);
    let ago = clock.checked_sub(Duration::from_nanos(monotonic_ns)).context("the run begins in the future")?;
    instant.checked_sub(ago).context("the run began before this machine did")
}

/// What the monotonic clock of this machine shows.
pub(super) fn monotonic() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC).context("this machine has no monotonic clock")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_machine_agree_on_a_moment() {
        let (before, clock) = (Instant::now(), monotonic().expect("there is one"));
        let found = instant_of(clock.as_nanos() as u64).expect("it was just now");
        let apart = found.saturating_duration_since(before).max(before.saturating_duration_since(found));
        assert!(apart < Duration::from_secs(1), "{apart:?}");
        assert!(instant_of(u64::MAX).is_err());
    }
}
