//! Axes: from values to places, and where the ticks are.

use crate::report::number;

/// Where the largest of the values is more than so many times the smallest, the axis is logarithmic.
const LOG_FROM: f64 = 100.0;

/// An axis, from left to right or from bottom to top.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// The values at the ends; logarithms where it is logarithmic.
    from: f64,
    to: f64,
    /// The places of the ends.
    start: f64,
    end: f64,
    is_log: bool,
}

impl Axis {
    /// An axis of which `from` and `to` are the ends.
    pub(super) fn linear(from: f64, to: f64, start: f64, end: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, start, end, is_log: false }
    }

    /// An axis for positive values, with room for all of them; logarithmic where they differ much.
    pub(super) fn fitting(sorted: &[f64], start: f64, end: f64) -> Self {
        let (least, most) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(1.0));
        if least > 0.0 && most / least > LOG_FROM {
            let (from, to) = (least.log10().floor(), most.log10().ceil());
            return Self { from, to, start, end, is_log: true };
        }
        let step = step(most.max(f64::MIN_POSITIVE), 5.0);
        // Beyond the largest value, so that its place is not the edge.
        Self::linear(0.0, ((most / step).floor() + 1.0) * step, start, end)
    }

    pub(super) fn is_log(&self) -> bool {
        self.is_log
    }

    /// The place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// Values with ticks, about `count` of them.
    pub(super) fn ticks(&self, count: f64) -> Vec<f64> {
        if self.is_log {
            let (from, to) = (self.from as i32, self.to as i32);
            return (from..=to).map(|power| 10f64.powi(power)).collect();
        }
        let step = step(self.to - self.from, count);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// A round distance of ticks: 1, 2 or 5 times a power of ten.
fn step(width: f64, count: f64) -> f64 {
    let rough = width / count.max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= rough);
    times.unwrap_or(10.0) * power
}

/// Ticks of a time in seconds, with what stands at them: seconds, or minutes where it is long.
pub(super) fn times(axis: &Axis, secs: f64) -> (Vec<(f64, String)>, &'static str) {
    if secs > 240.0 {
        let minutes = Axis::linear(0.0, secs / 60.0, 0.0, 1.0).ticks(12.0);
        return (minutes.into_iter().map(|it| (axis.at(it * 60.0), number(it))).collect(), "minutes");
    }
    let ticks = axis.ticks(12.0);
    (ticks.into_iter().map(|it| (axis.at(it), number(it))).collect(), "seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let axis = Axis::linear(0.0, 60.0, 100.0, 700.0);
        assert_eq!(axis.ticks(12.0), (0..=12).map(|n| f64::from(n) * 5.0).collect::<Vec<_>>());
        assert_eq!((axis.at(0.0), axis.at(30.0), axis.at(60.0)), (100.0, 400.0, 700.0));
        assert_eq!(axis.at(1e9), 700.0, "nothing lies beyond the ends");
        assert_eq!(Axis::linear(0.0, 7.3, 0.0, 1.0).ticks(4.0), [0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn values_that_differ_much_have_a_logarithmic_axis() {
        let axis = Axis::fitting(&[20.0, 50.0, 60_000.0], 0.0, 4.0);
        assert_eq!(axis.ticks(5.0), [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]);
        assert_eq!(axis.at(1_000.0), 2.0);
        assert!(!Axis::fitting(&[20.0, 50.0], 0.0, 4.0).is_log());
    }

    #[test]
    fn an_axis_without_width_has_places_nevertheless() {
        for sorted in [&[][..], &[0.0], &[5.0, 5.0]] {
            let axis = Axis::fitting(sorted, 0.0, 10.0);
            assert!(axis.at(5.0).is_finite() && axis.ticks(5.0).len() > 1, "{sorted:?}");
        }
    }
}
