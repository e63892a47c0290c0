//! Which limits of the line hold now: those of the schedule, or those of the configuration.

use std::{sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use super::node::Node;
use crate::{
    config::{Moment, P2PConfig, Rate, schedule},
    time::Timestamp,
};

/// How often the schedule is looked at; its times are whole minutes.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

impl Node {
    /// Applies the limits that hold now.
    pub(super) fn pace(&self) {
        let config = self.config();
        // Where it does not matter what time it is, the place is not looked up.
        let is_timed = !config.schedule.is_empty();
        let now = is_timed.then(|| moment(self.now(), &TimeZone::system())).flatten();
        let ((up, down), line) = (limits(&config, now), self.network.line());
        if line.limits() != (up, down) {
            tracing::info!(?up, ?down, "limits of the line, in bytes a second");
            line.limit(up, down);
        }
    }
}

/// Keeps to the schedule until the node stops.
pub(super) async fn keep_to_schedule(node: Arc<Node>) {
    loop {
        node.pace();
        let changed = node.pacing.notified();
        if node.config().schedule.is_empty() {
            changed.await;
        } else {
            tokio::select! { biased;
                () = changed => {}
                () = sleep_until(Instant::now() + LOOK_INTERVAL) => {}
            }
        }
    }
}

/// Bytes a second up and down.
fn limits(config: &P2PConfig, now: Option<Moment>) -> (Option<u64>, Option<u64>) {
    let span = now.and_then(|now| schedule::current(&config.schedule, now));
    let pick = |own: Option<u64>, rate: Option<Rate>| rate.map_or(own, Rate::limit);
    (
        pick(config.upload_bytes_per_second, span.and_then(|span| span.up)),
        pick(config.download_bytes_per_second, span.and_then(|span| span.down)),
    )
}

/// What time of the week it is there.
fn moment(now: Timestamp, zone: &TimeZone) -> Option<Moment> {
    let secs = i64::try_from(now.as_secs()).ok()?;
    let local = zone.to_datetime(jiff::Timestamp::from_second(secs).ok()?);
    let number = |part: i8| u16::try_from(part).unwrap_or_default();
    let day = u8::try_from(local.weekday().to_monday_zero_offset()).ok()?;
    Some(Moment { day, minute: number(local.hour()) * 60 + number(local.minute()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_counts_where_it_says_something_and_the_keys_elsewhere() {
        let mut config = P2PConfig::with_state_dir("/x");
        config.upload_bytes_per_second = Some(50_000);
        config.schedule = vec![
            "mon-fri 08:00-18:00 up=1MB/s".parse().unwrap(),
            "sat 0:00-24:00 up=none down=2MB/s".parse().unwrap(),
        ];
        let at = |day, hour: u16| limits(&config, Some(Moment { day, minute: hour * 60 }));
        assert_eq!(at(0, 9), (Some(1_000_000), None));
        assert_eq!(at(0, 20), (Some(50_000), None));
        assert_eq!(at(5, 9), (None, Some(2_000_000)));
        assert_eq!(limits(&config, None), (Some(50_000), None));
    }

    #[test]
    fn the_time_of_the_week_is_that_of_the_place() {
        // Sunday, 29 November 2026, 22:30 in London.
        let now = Timestamp::from_secs(1_795_991_400);
        assert_eq!(moment(now, &TimeZone::UTC), Some(Moment { day: 6, minute: 22 * 60 + 30 }));
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(moment(now, &east), Some(Moment { day: 0, minute: 30 }));
    }
}
