//! The wall clocks of the simulated machines, and by how much each of them is wrong.
//!
//! Whose clock is read is known by the task that runs, or by the runtime that is entered where each machine has one of its own: whatever
//! it polls, drops or runs in place is inside it. The monotonic clocks are not concerned, nor is anything outside of a machine.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use tokio::runtime::{self, Handle};

use super::EPOCH;

const HOUR: Duration = Duration::from_secs(3_600);

/// By how much a clock is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    /// So far ahead of the right time.
    pub ahead: Duration,
    /// And so far behind it.
    pub behind: Duration,
}

impl Shift {
    /// Ahead, or back.
    pub fn new(by: Duration, is_back: bool) -> Self {
        if is_back { Self { behind: by, ..Self::default() } } else { Self { ahead: by, ..Self::default() } }
    }

    /// What a clock says at this time; 1970 where it is further behind than that.
    pub fn at(self, right: Duration) -> Duration {
        right.saturating_add(self.ahead).saturating_sub(self.behind)
    }

    /// What is gained or lost in this time by what gains or loses as much as this in an hour.
    fn within(self, time: Duration) -> Self {
        let part = |of: Duration| {
            let nanos = of.as_nanos().saturating_mul(time.as_nanos()) / HOUR.as_nanos();
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        Self { ahead: part(self.ahead), behind: part(self.behind) }
    }

    fn and(self, more: Self) -> Self {
        Self { ahead: self.ahead.saturating_add(more.ahead), behind: self.behind.saturating_add(more.behind) }
    }
}

/// The clock of one machine.
#[derive(Debug, Default)]
struct Clock {
    /// The runtime of the machine since it started last.
    runtime: Option<runtime::Id>,
    from_start: Shift,
    /// What it gains in an hour, or loses.
    drift: Shift,
    /// By event.
    steps: BTreeMap<usize, Shift>,
    /// The faults that stepped it, as long as nobody read it since.
    unread: BTreeSet<usize>,
}

impl Clock {
    fn says(&self, right: Duration) -> Duration {
        let drift = self.drift.within(right.saturating_sub(EPOCH));
        self.steps.values().fold(self.from_start.and(drift), |sum, step| sum.and(*step)).at(right)
    }
}

/// The clocks of all machines of a run.
#[derive(Debug)]
struct Clocks {
    machines: BTreeMap<usize, Clock>,
    /// Keys that hash alike in every process, and are never iterated over.
    of_runtime: HashMap<runtime::Id, usize, BuildHasherDefault<DefaultHasher>>,
    /// The faults whose clocks were read.
    read: Vec<usize>,
}

impl Clocks {
    const fn new() -> Self {
        let of_runtime = HashMap::with_hasher(BuildHasherDefault::new());
        Self { machines: BTreeMap::new(), of_runtime, read: Vec::new() }
    }
}

thread_local! {
    static CLOCKS: RefCell<Clocks> = const { RefCell::new(Clocks::new()) };
}

/// Forgets everything: a run begins.
pub(super) fn reset() {
    CLOCKS.with_borrow_mut(|clocks| *clocks = Clocks::new());
}

/// The machine runs in the runtime that is entered, from now on.
pub fn runs(machine: usize) {
    let Ok(handle) = Handle::try_current() else { return };
    CLOCKS.with_borrow_mut(|clocks| {
        let before = clocks.machines.entry(machine).or_default().runtime.replace(handle.id());
        if let Some(before) = before.filter(|before| clocks.of_runtime.get(before) == Some(&machine)) {
            clocks.of_runtime.remove(&before);
        }
        // An id may be that of a runtime which is no more.
        clocks.of_runtime.insert(handle.id(), machine);
    });
}

/// The machine's clock is wrong from the start.
pub fn set(machine: usize, shift: Shift) {
    CLOCKS.with_borrow_mut(|clocks| clocks.machines.entry(machine).or_default().from_start = shift);
}

/// The machine's clock gains so much in every hour of the run, or loses it.
pub fn drift(machine: usize, by: Shift) {
    CLOCKS.with_borrow_mut(|clocks| clocks.machines.entry(machine).or_default().drift = by);
}

/// An event of a fault steps the machine's clock.
pub fn step(machine: usize, event: usize, fault: usize, by: Shift) {
    CLOCKS.with_borrow_mut(|clocks| {
        let clock = clocks.machines.entry(machine).or_default();
        clock.steps.insert(event, by);
        clock.unread.insert(fault);
    });
}

/// What an event did to the machine's clock is mended.
pub fn mend(machine: usize, event: usize, fault: usize) {
    CLOCKS.with_borrow_mut(|clocks| {
        let clock = clocks.machines.entry(machine).or_default();
        clock.steps.remove(&event);
        clock.unread.remove(&fault);
    });
}

/// The faults whose clocks were read since this was asked last, once for each machine and event.
pub fn take_read() -> Vec<usize> {
    CLOCKS.with_borrow_mut(|clocks| std::mem::take(&mut clocks.read))
}

/// What the clock of a machine says.
pub fn wall_of(machine: usize, right: Duration) -> Duration {
    CLOCKS.with_borrow(|clocks| match clocks.machines.get(&machine) {
        Some(clock) => clock.says(right),
        None => right,
    })
}

/// What the clock says of the machine that runs now, which reads it; the right time where none runs.
pub(super) fn read(right: Duration) -> Duration {
    let Ok(handle) = Handle::try_current() else { return right };
    let read = |clocks: &RefCell<Clocks>| {
        let mut clocks = clocks.try_borrow_mut().ok()?;
        let Clocks { machines, of_runtime, read } = &mut *clocks;
        // Where all machines share a runtime, each task knows whose it is.
        let machine = crate::task::current().or_else(|| of_runtime.get(&handle.id()).copied());
        let clock = machines.get_mut(&machine?)?;
        read.extend(std::mem::take(&mut clock.unread));
        Some(clock.says(right))
    };
    // Where the thread is ending its locals are gone, and its simulation has ended.
    CLOCKS.try_with(read).ok().flatten().unwrap_or(right)
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;
    use crate::virtualise::enter;

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "the clock itself is tested")]
    fn wall() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_machine_has_its_own_clock_and_so_has_what_it_spawns() {
        thread::spawn(|| {
            let _guard = enter([1; 32]);
            let (one, other) = (runtime(), runtime());
            one.block_on(async { runs(0) });
            other.block_on(async { runs(1) });
            set(0, Shift::new(HOUR * 2, false));
            set(1, Shift::new(HOUR, true));
            let spawned = |runtime: &runtime::Runtime| {
                runtime.block_on(async { tokio::spawn(async { wall() }).await.unwrap() })
            };
            assert_eq!((spawned(&one), spawned(&other)), (EPOCH + HOUR * 2, EPOCH - HOUR));
            assert_eq!(wall(), EPOCH, "outside of a machine the time is right");
            // A machine that starts again keeps its clock.
            let again = runtime();
            again.block_on(async { runs(1) });
            assert_eq!((spawned(&again), spawned(&other)), (EPOCH - HOUR, EPOCH));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn steps_add_up_are_mended_one_by_one_and_bite_when_they_are_read() {
        thread::spawn(|| {
            let _guard = enter([1; 32]);
            let machine = runtime();
            machine.block_on(async { runs(4) });
            step(4, 10, 0, Shift::new(HOUR * 24 * 400, false));
            step(4, 11, 1, Shift::new(HOUR, true));
            assert_eq!(take_read(), [0_usize; 0], "nobody has read it yet");
            let read = || machine.block_on(async { wall() });
            assert_eq!(read(), EPOCH + HOUR * (24 * 400 - 1));
            assert_eq!((read(), take_read(), take_read()), (read(), vec![0, 1], vec![]));
            assert_eq!(wall_of(4, EPOCH), read());
            mend(4, 10, 0);
            assert_eq!(read(), EPOCH - HOUR);
            mend(4, 11, 1);
            assert_eq!((read(), take_read()), (EPOCH, vec![]));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_clock_that_drifts_gains_or_loses_with_the_time() {
        thread::spawn(|| {
            let _guard = enter([1; 32]);
            set(0, Shift::new(HOUR, false));
            drift(0, Shift::new(Duration::from_secs(36), false));
            drift(1, Shift::new(HOUR * 2, true));
            let minute = Duration::from_secs(60);
            assert_eq!(wall_of(0, EPOCH), EPOCH + HOUR);
            assert_eq!(wall_of(0, EPOCH + HOUR), EPOCH + HOUR * 2 + Duration::from_secs(36));
            assert_eq!(wall_of(0, EPOCH + minute), EPOCH + HOUR + minute + Duration::from_millis(600));
            assert_eq!(wall_of(1, EPOCH + minute), EPOCH - minute, "two hours an hour: it goes back");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_clock_goes_no_further_back_than_1970() {
        assert_eq!(Shift::new(EPOCH * 2, true).at(EPOCH), Duration::ZERO);
    }
}
