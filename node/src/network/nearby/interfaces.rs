//! The networks that this machine's interfaces are in, told again whenever they change, and whether the machine slept.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt, StreamExt};
use if_watch::{IfEvent, IpNet, tokio::IfWatcher};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::Seen;

/// How often the clock is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long this machine must have stood still to have slept: after that, most connections are dead. A busy one hangs for seconds.
const SLEEP_MIN: Duration = Duration::from_secs(60);

/// Tells of the networks, and of each sleep, until nobody listens.
pub(super) async fn watch(seen: mpsc::Sender<Seen>) {
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the interfaces of this machine are not watched");
            return;
        }
    };
    let mut nets: BTreeSet<IpNet> = BTreeSet::new();
    let mut clock = interval(LOOK_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = boot_time();
    loop {
        let event = tokio::select! { biased;
            () = seen.closed() => return,
            _ = clock.tick() => {
                let now = boot_time();
                if let Some(away) = slept(looked, now)
                    && seen.send(Seen::Woke(away)).await.is_err()
                {
                    return;
                }
                looked = now;
                continue;
            }
            event = watcher.select_next_some() => event,
        };
        note(&mut nets, event);
        // All that changes at once is told at once.
        while let Some(Some(event)) = watcher.next().now_or_never() {
            note(&mut nets, event);
        }
        if seen.send(Seen::Interfaces(nets.clone())).await.is_err() {
            return;
        }
    }
}

fn note(nets: &mut BTreeSet<IpNet>, event: std::io::Result<IfEvent>) {
    match event {
        Ok(IfEvent::Up(net)) => drop(nets.insert(net)),
        Ok(IfEvent::Down(net)) => drop(nets.remove(&net)),
        Err(error) => tracing::warn!(%error, "the interfaces of this machine were not read"),
    }
}

/// How long the machine, or this process, stood still between two looks, where that was long.
fn slept(before: Duration, now: Duration) -> Option<Duration> {
    Some(now.saturating_sub(before)).filter(|away| *away >= SLEEP_MIN)
}

/// A clock that goes on while the machine sleeps, unlike that of the runtime, and that nobody sets.
fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_standstill_is_a_sleep() {
        let at = Duration::from_secs;
        assert_eq!(slept(at(100), at(102)), None);
        assert_eq!(slept(at(100), at(130)), None, "a machine with too much to do");
        assert_eq!(slept(at(100), at(3_700)), Some(at(3_600)));
        assert_eq!(slept(at(100), at(90)), None);
        assert!(boot_time() > Duration::ZERO);
    }
}
