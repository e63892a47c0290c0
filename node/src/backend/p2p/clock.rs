//! Whether the wall clock can be believed.
//!
//! What is signed under a wrong clock is refused by everybody else. So the wall clock is compared with the one that only runs
//! forward: where it jumped, nothing is signed for a moment. A clock that was put right, or a machine that slept, goes on evenly from then on and is believed again. Only a jump
//! by more than a week is never believed: a year that is wrong looks like that.
//!
//! A clock that runs evenly may still be wrong. What the peers say of it comes from [`Reference`]: where they are sure, nothing is
//! signed as long as they are; where a few doubt it, nothing is signed for a while. A clock that peers confirm is believed at
//! once, however it came to be so.
//!
//! Most of the peers that a node has may lie, and for as long as they like. So the user has the last word: where the configuration says
//! that the clock is right (`publish.trust_clock`), what peers say is told and holds up nothing. A jump still does.
//!
//! Pure: both clocks are arguments.

use std::time::Duration;

use super::reference::{Off, Reference, Verdict};
use crate::{code::Code, control::api::Failure, limits::CLOCK_SKEW_MAX, time::Timestamp};

/// How far the two clocks may come apart between two looks at them: what others tolerate of ours.
const APART_MAX: Duration = CLOCK_SKEW_MAX;
/// The longest jump forward that is ever believed: a machine that slept for a week.
const JUMP_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long they have to go on evenly after a jump.
const SETTLE: Duration = Duration::from_secs(2 * 60);

/// How long a doubt holds up what is signed: a lone liar must not stop anybody for longer.
const DOUBT_MAX: Duration = Duration::from_secs(15 * 60);

/// Why nothing may be signed by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It jumped.
    Jumped(Jump),
    /// It is off, as the peers say.
    Off(Off),
    /// A few peers say that it is off; how long that counts.
    Doubted(Off, Duration),
}

/// The wall clock jumped, and nothing may be signed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    /// What the wall clock says.
    pub(super) wall: Timestamp,
    /// What it would say had it gone on evenly.
    pub(super) expected: Timestamp,
    /// How long until it is believed, where it goes on evenly; none where it is not.
    pub(super) settles: Option<Duration>,
}

/// A point at which both clocks were read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    running: Duration,
}

impl Reading {
    /// What the wall clock says when it went on evenly since.
    fn expected(self, running: Duration) -> Timestamp {
        self.wall.plus(running.saturating_sub(self.running))
    }
}

/// The two clocks as they were last seen.
#[derive(Debug)]
pub(super) struct Clock {
    believed: Reading,
    jumped: Option<Reading>,
    /// Since when a few peers doubt it.
    doubted: Option<Duration>,
    /// Whether the user says that it is right, whatever peers say.
    pub(super) is_trusted: bool,
    pub(super) reference: Reference,
}

impl Clock {
    /// The wall clock at the beginning, which has to be believed.
    pub(super) fn new(wall: Timestamp) -> Self {
        let believed = Reading { wall, running: Duration::ZERO };
        Self { believed, jumped: None, doubted: None, is_trusted: false, reference: Reference::default() }
    }

    /// Looks at both clocks, and at what the peers say; `running` counts from the beginning.
    pub(super) fn check(&mut self, wall: Timestamp, running: Duration) -> Result<(), Fault> {
        let verdict = self.reference.verdict(wall, running);
        if !matches!(verdict, Verdict::Doubtful(_)) {
            self.doubted = None;
        }
        match verdict {
            Verdict::Wrong(_) | Verdict::Doubtful(_) if self.is_trusted => {
                self.goes_on_evenly(wall, running).map_err(Fault::Jumped)
            }
            Verdict::Wrong(off) => Err(Fault::Off(off)),
            Verdict::Right => {
                (self.believed, self.jumped) = (Reading { wall, running }, None);
                Ok(())
            }
            Verdict::Doubtful(off) => {
                let since = *self.doubted.get_or_insert(running);
                let left = DOUBT_MAX.saturating_sub(running.saturating_sub(since));
                if !left.is_zero() {
                    return Err(Fault::Doubted(off, left));
                }
                self.goes_on_evenly(wall, running).map_err(Fault::Jumped)
            }
            Verdict::Unknown => self.goes_on_evenly(wall, running).map_err(Fault::Jumped),
        }
    }

    /// What the peers say of the wall clock, where they say that it is off.
    pub(super) fn off(&self, wall: Timestamp, running: Duration) -> Option<Off> {
        match self.reference.verdict(wall, running) {
            Verdict::Wrong(off) | Verdict::Doubtful(off) => Some(off),
            Verdict::Right | Verdict::Unknown => None,
        }
    }

    fn goes_on_evenly(&mut self, wall: Timestamp, running: Duration) -> Result<(), Jump> {
        let now = Reading { wall, running };
        let expected = self.believed.expected(running);
        if apart(wall, expected) <= APART_MAX {
            (self.believed, self.jumped) = (now, None);
            return Ok(());
        }
        let since = match self.jumped {
            Some(since) if apart(wall, since.expected(running)) <= APART_MAX => since,
            _ => *self.jumped.insert(now),
        };
        let left = SETTLE.saturating_sub(running.saturating_sub(since.running));
        let is_plausible = wall.since(expected) <= JUMP_MAX;
        if is_plausible && left.is_zero() {
            (self.believed, self.jumped) = (now, None);
            return Ok(());
        }
        Err(Jump { wall, expected, settles: is_plausible.then_some(left) })
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

/// A wrong clock as people are told of it.
pub(super) fn clock_fault(fault: Fault) -> Failure {
    match fault {
        Fault::Jumped(jump) => clock_jumped(jump),
        Fault::Off(off) => clock_off(off, false),
        Fault::Doubted(off, left) => {
            let failure = clock_off(off, false);
            let minutes = left.as_secs().div_ceil(60);
            let hint =
                format!("If the clock is right, this ends by itself within {minutes} min. {}", failure.hint);
            Failure { hint, retryable: true, ..failure }
        }
    }
}

/// A clock that is off, as the peers say, as people are told of it.
pub(super) fn clock_off(Off { expected, wall, peers, networks }: Off, is_trusted: bool) -> Failure {
    let (by, direction) = match wall > expected {
        true => (wall.since(expected), "ahead"),
        false => (expected.since(wall), "behind"),
    };
    let (hours, minutes) = (by.as_secs() / 3600, by.as_secs() / 60 % 60);
    let by = if hours == 0 { format!("{minutes} min") } else { format!("{hours} h {minutes} min") };
    let who = match (peers, networks) {
        (1, _) => "one peer says".to_owned(),
        (peers, 1) => format!("{peers} peers in one network say"),
        (peers, networks) => format!("{peers} peers in {networks} networks say"),
    };
    let hint = match is_trusted {
        false => {
            "Put the clock right (timedatectl set-ntp true). Where it is right and the peers are not: \
             ggen marketplace p2p config set publish.trust_clock true"
        }
        true => {
            "Packages are signed all the same, because publish.trust_clock is set. Should the peers be right, others may not list them: put the \
             clock right, or: ggen marketplace p2p config set publish.trust_clock false"
        }
    };
    let what = format!("This machine's clock is {by} {direction}: it says {wall}, and {who} {expected}.");
    Failure::new(Code::Clock, what, hint)
}

/// Refuses a clock that stands before 1970, as on a machine that has lost its time: nothing can be signed or compared by it, and what
/// counts time for the network cannot begin.
pub(super) fn refuse_unset(wall: Timestamp) -> Result<(), Failure> {
    if wall > Timestamp::default() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Clock,
        "This machine's clock stands before 1970.",
        "Put it right, then start the node again: timedatectl set-ntp true",
    ))
}

fn clock_jumped(Jump { wall, expected, settles }: Jump) -> Failure {
    let hint = match settles {
        Some(left) => format!(
            "Nothing is signed until the clock has gone on evenly for {} s more; then try again.",
            left.as_secs() + 1
        ),
        None => {
            "Put the clock right. Where it is right now, and was wrong before, restart the node.".to_owned()
        }
    };
    let jumped = format!("The clock says {wall}, and {expected} was to be expected: it jumped.");
    Failure { retryable: settles.is_some(), ..Failure::new(Code::Clock, jumped, hint) }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::peers::policy::Locality;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn jump(checked: Result<(), Fault>) -> Jump {
        match checked {
            Err(Fault::Jumped(jump)) => jump,
            other => panic!("{other:?}"),
        }
    }

    /// So many peers say that it is `time`.
    fn say(clock: &mut Clock, peers: u8, time: Timestamp, running: Duration) {
        for n in 0..peers {
            let peer = PeerId::random();
            clock.reference.note(peer, Locality::of(peer, Some([8, 8, n, 1].into())), true, time, running);
        }
    }

    #[test]
    fn a_clock_before_1970_is_refused() {
        let refused = refuse_unset(Timestamp::default()).unwrap_err();
        assert_eq!((refused.code, refused.retryable), (Code::Clock, false));
        refuse_unset(Timestamp::from_secs(1)).unwrap();
    }

    #[test]
    fn nothing_is_signed_while_peers_are_sure_and_at_once_when_the_clock_is_right() {
        let mut clock = Clock::new(START.plus(2 * HOUR));
        assert_eq!(clock.check(START.plus(2 * HOUR), Duration::ZERO), Ok(()), "nobody says anything");
        say(&mut clock, 3, START, Duration::ZERO);
        for minutes in 0..29 {
            let since = Duration::from_secs(60 * minutes);
            assert!(matches!(clock.check(START.plus(2 * HOUR + since), since), Err(Fault::Off(_))));
        }
        let since = Duration::from_secs(60 * 29);
        assert_eq!(
            clock.check(START.plus(since), since),
            Ok(()),
            "put right, and confirmed by those who said so"
        );
    }

    #[test]
    fn a_majority_that_lies_permanently_holds_up_nothing_where_the_user_says_that_the_clock_is_right() {
        let mut clock = Clock::new(START);
        say(&mut clock, 3, START.plus(2 * HOUR), Duration::ZERO);
        assert!(matches!(clock.check(START, Duration::ZERO), Err(Fault::Off(_))));
        clock.is_trusted = true;
        for minutes in 0..29 {
            let since = Duration::from_secs(60 * minutes);
            assert_eq!(clock.check(START.plus(since), since), Ok(()));
            assert!(clock.off(START.plus(since), since).is_some(), "it is still said");
        }
        // That a clock which jumps is right, the user could not know.
        let since = Duration::from_secs(60 * 29);
        assert!(matches!(clock.check(START.plus(since + 9 * HOUR), since), Err(Fault::Jumped(_))));
        clock.is_trusted = false;
        assert!(matches!(clock.check(START.plus(since), since), Err(Fault::Off(_))));
    }

    #[test]
    fn one_peer_holds_up_what_is_signed_for_a_while_and_confirms_a_jump() {
        let mut clock = Clock::new(START);
        say(&mut clock, 1, START.plus(HOUR), Duration::ZERO);
        assert!(matches!(clock.check(START, Duration::ZERO), Err(Fault::Doubted(_, DOUBT_MAX))));
        let later = DOUBT_MAX - Duration::from_secs(1);
        assert!(matches!(clock.check(START.plus(later), later), Err(Fault::Doubted(..))));
        assert_eq!(clock.check(START.plus(DOUBT_MAX), DOUBT_MAX), Ok(()));
        assert!(clock.off(START.plus(DOUBT_MAX), DOUBT_MAX).is_some(), "it is still said");
        assert_eq!(clock.check(START.plus(HOUR + DOUBT_MAX), DOUBT_MAX), Ok(()), "put right at once");
    }

    #[test]
    fn a_clock_that_runs_evenly_is_believed_and_one_that_leapt_ten_years_never() {
        let mut clock = Clock::new(START);
        assert_eq!(clock.check(START.plus(HOUR), HOUR), Ok(()));
        let leap = 87_600 * HOUR;
        for hours in 2..100 {
            let jump = jump(clock.check(START.plus(leap + hours * HOUR), hours * HOUR));
            assert_eq!((jump.expected, jump.settles), (START.plus(hours * HOUR), None));
        }
        assert_eq!(clock.check(START.plus(100 * HOUR), 100 * HOUR), Ok(()), "it was put right");
    }

    #[test]
    fn a_clock_that_was_put_back_or_slept_is_believed_once_it_went_on_evenly() {
        for to in [START.minus(87_600 * HOUR), START.plus(9 * HOUR)] {
            let mut clock = Clock::new(START);
            let second = Duration::from_secs(1);
            assert_eq!(jump(clock.check(to, second)).settles, Some(SETTLE));
            assert!(clock.check(to.plus(SETTLE / 2), SETTLE / 2).is_err());
            assert_eq!(clock.check(to.plus(SETTLE), second + SETTLE), Ok(()));
            assert_eq!(clock.check(to.plus(HOUR), HOUR), Ok(()), "and stays so");
        }
    }

    #[test]
    fn a_clock_that_goes_on_jumping_is_not_believed() {
        let mut clock = Clock::new(START);
        for n in 1..50u32 {
            let wall = START.plus(n * HOUR);
            assert_eq!(jump(clock.check(wall, n * SETTLE)).settles, Some(SETTLE));
        }
    }
}
