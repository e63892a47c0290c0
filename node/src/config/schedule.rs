//! Limits of the line by the time of the week, such as `mon-fri 08:00-18:00 up=1MB/s down=4MB/s`.
//!
//! A line is: days, a span of time, and what holds then. Days are `mon` to `sun`, or a range of them; without days it is every day. A span
//! that ends before it begins goes on past midnight, and belongs to the day on which it begins. `up=` and `down=` name bytes a second;
//! `none` is no limit. Where several lines hold, the first one counts; a direction that it does not name keeps to its own key. Pure: what
//! time it is, is an argument.

use std::{fmt, str::FromStr};

use crate::limits::{LINE_BYTES_PER_SECOND_MIN, SCHEDULE_LINE_BYTES_MAX};

const MINUTES_A_DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Units of a rate, the decimal ones first; the longer of two that end alike stands before the other.
const UNITS: [(&str, u64); 8] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
    ("", 1),
];

/// A moment of the week, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Days since Monday, 0 to 6.
    pub day: u8,
    /// Minutes since midnight.
    pub minute: u16,
}

/// What holds in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// No limit.
    Unlimited,
    /// Bytes a second.
    BytesPerSecond(u64),
}

impl Rate {
    /// Bytes a second, where there is a limit.
    pub fn limit(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::BytesPerSecond(bytes) => Some(bytes),
        }
    }
}

/// One line of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The line as it was written.
    text: String,
    days: [bool; 7],
    begin: u16,
    end: u16,
    /// What this node may send; its own key counts where there is nothing.
    pub up: Option<Rate>,
    /// What it may receive.
    pub down: Option<Rate>,
}

impl Span {
    /// Whether it holds now.
    pub fn holds(&self, now: Moment) -> bool {
        let is_on = |day: u8| self.days[usize::from(day % 7)];
        if self.begin < self.end {
            return is_on(now.day) && (self.begin..self.end).contains(&now.minute);
        }
        // Past midnight, or all day long where both are the same.
        (is_on(now.day) && now.minute >= self.begin) || (is_on(now.day + 6) && now.minute < self.end)
    }
}

/// The first line that holds now.
pub fn current(schedule: &[Span], now: Moment) -> Option<&Span> {
    schedule.iter().find(|span| span.holds(now))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > SCHEDULE_LINE_BYTES_MAX {
            return Err(format!("it has more than {SCHEDULE_LINE_BYTES_MAX} bytes"));
        }
        let example = "expected for example mon-fri 08:00-18:00 up=1MB/s down=4MB/s";
        let lower = text.to_ascii_lowercase();
        let mut words = lower.split_ascii_whitespace().peekable();
        let is_days =
            words.peek().is_some_and(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
        let days = match words.next_if(|word| is_days && !word.contains('=')) {
            Some(word) => days(word)?,
            None => [true; 7],
        };
        let span = words.next().and_then(|word| word.split_once('-'));
        let Some((begin, end)) = span else { return Err(format!("it names no span of time, {example}")) };
        let (begin, end) = (minute(begin)?, minute(end)?);
        let mut span = Self {
            text: text.trim().to_owned(),
            days,
            begin: begin % MINUTES_A_DAY,
            end,
            up: None,
            down: None,
        };
        for word in words {
            let direction = match word.split_once('=') {
                Some(("up", value)) => (&mut span.up, value),
                Some(("down", value)) => (&mut span.down, value),
                _ => return Err(format!("\"{word}\" is neither up= nor down=, {example}")),
            };
            if direction.0.replace(rate(direction.1)?).is_some() {
                return Err("it names one direction twice".to_owned());
            }
        }
        match (span.up, span.down) {
            (None, None) => Err(format!("it limits nothing, {example}")),
            _ => Ok(span),
        }
    }
}

fn days(word: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| *day == name);
        found.ok_or_else(|| format!("\"{name}\" is no day, expected mon, tue, wed, thu, fri, sat or sun"))
    };
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (mut at, last) = (day(first)?, day(last)?);
    let mut days = [false; 7];
    loop {
        days[at] = true;
        if at == last {
            return Ok(days);
        }
        // From Friday to Monday goes over the weekend.
        at = (at + 1) % 7;
    }
}

fn minute(text: &str) -> Result<u16, String> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let is_short =
            |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute) = (Some(hour).filter(|it| is_short(it))?, Some(minute).filter(|it| is_short(it))?);
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let at = hour * 60 + minute;
        (minute < 60 && at <= MINUTES_A_DAY).then_some(at)
    });
    parsed.ok_or_else(|| format!("\"{text}\" is no time, expected one from 00:00 to 24:00"))
}

fn rate(text: &str) -> Result<Rate, String> {
    if matches!(text, "none" | "unlimited") {
        return Ok(Rate::Unlimited);
    }
    let wrong = || format!("\"{text}\" is no rate, expected for example 500kB/s, 4MB/s or none");
    let bare = text.strip_suffix("/s").unwrap_or(text);
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((bare.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.ok_or_else(wrong)?;
    let bytes = match number.split_once('.') {
        None => number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)),
        Some((whole, tenths)) if tenths.len() == 1 => {
            let (whole, tenths) = (whole.parse::<u64>().ok(), tenths.parse::<u64>().ok());
            whole
                .zip(tenths)
                .and_then(|(whole, tenths)| whole.checked_mul(unit)?.checked_add(tenths * unit / 10))
        }
        Some(_) => None,
    };
    let is_digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bytes = bytes.filter(|_| is_digits).ok_or_else(wrong)?;
    if bytes < LINE_BYTES_PER_SECOND_MIN {
        return Err(format!(
            "{text} is too little, expected at least {LINE_BYTES_PER_SECOND_MIN} bytes a second"
        ));
    }
    Ok(Rate::BytesPerSecond(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> Span {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn at(day: u8, hour: u16, minute: u16) -> Moment {
        Moment { day, minute: hour * 60 + minute }
    }

    #[test]
    fn a_line_holds_on_its_days_and_at_its_time() {
        let office = span("Mon-Fri 08:00-18:00 up=1MB/s down=4MB/s");
        assert_eq!(office.up, Some(Rate::BytesPerSecond(1_000_000)));
        assert_eq!(office.down, Some(Rate::BytesPerSecond(4_000_000)));
        let held = [at(0, 8, 0), at(4, 17, 59)].map(|now| office.holds(now));
        let not = [at(0, 7, 59), at(4, 18, 0), at(5, 12, 0), at(6, 12, 0)].map(|now| office.holds(now));
        assert_eq!((held, not), ([true; 2], [false; 4]));
        // Past midnight, and over the end of the week.
        let night = span("fri-sun 22:00-06:00 up=none");
        let held = [at(4, 22, 0), at(5, 5, 59), at(6, 23, 0), at(0, 5, 0)].map(|now| night.holds(now));
        let not = [at(4, 5, 0), at(0, 22, 0), at(5, 6, 0)].map(|now| night.holds(now));
        assert_eq!((held, not, night.up), ([true; 4], [false; 3], Some(Rate::Unlimited)));
        let always = [
            span("0:00-24:00 down=16KiB/s"),
            span("00:00-00:00 down=16384"),
            span("12:00-12:00 down=16384B"),
        ];
        for span in always {
            assert!((0..7).all(|day| (0..24).all(|hour| span.holds(at(day, hour, 30)))), "{span}");
            assert_eq!(span.down, Some(Rate::BytesPerSecond(16 << 10)));
        }
        assert_eq!(span("sat 1:00-2:00 up=1.5MiB/s").up, Some(Rate::BytesPerSecond(3 << 19)));
        assert!(span("fri-mon 8:00-9:00 up=none").holds(at(6, 8, 0)));
    }

    #[test]
    fn the_first_line_that_holds_counts() {
        let schedule = [span("mon 08:00-12:00 up=1MB/s"), span("08:00-18:00 up=2MB/s")];
        let up = |now| current(&schedule, now).and_then(|span| span.up);
        assert_eq!(up(at(0, 9, 0)), Some(Rate::BytesPerSecond(1_000_000)));
        assert_eq!(up(at(0, 13, 0)), Some(Rate::BytesPerSecond(2_000_000)));
        assert_eq!(up(at(0, 19, 0)), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "no span"),
            ("mon", "no span"),
            ("mon 08:00-18:00", "limits nothing"),
            ("monday 08:00-18:00 up=1MB/s", "no day"),
            ("mon-foo 08:00-18:00 up=1MB/s", "no day"),
            ("mon 08:00-24:01 up=1MB/s", "no time"),
            ("mon 08:60-18:00 up=1MB/s", "no time"),
            ("mon +8:00-18:00 up=1MB/s", "no time"),
            ("mon 08:00-18:00 up=1MB/s up=2MB/s", "twice"),
            ("mon 08:00-18:00 sideways=1MB/s", "neither"),
            ("mon 08:00-18:00 up=fast", "no rate"),
            ("mon 08:00-18:00 up=1.25MB/s", "no rate"),
            ("mon 08:00-18:00 up=+1MB/s", "no rate"),
            ("mon 08:00-18:00 up=99999999999GB/s", "no rate"),
            ("mon 08:00-18:00 up=1kB/s", "too little"),
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(text in "\\PC{0,80}", day in any::<u8>(), minute in any::<u16>()) {
            if let Ok(span) = text.parse::<Span>() {
                span.holds(Moment { day, minute });
                prop_assert_eq!(span.to_string().parse::<Span>().ok(), Some(span));
            }
        }

        #[test]
        fn a_span_holds_as_long_as_it_lasts(begin in 0..1440u16, end in 0..1440u16) {
            let text = format!("{}:{:02}-{}:{:02} up=none", begin / 60, begin % 60, end / 60, end % 60);
            let span: Span = text.parse().unwrap();
            let held = (0..1440).filter(|minute| span.holds(Moment { day: 3, minute: *minute })).count();
            let lasts = (i32::from(end) - i32::from(begin)).rem_euclid(1440);
            prop_assert_eq!(held, if lasts == 0 { 1440 } else { usize::try_from(lasts).unwrap() });
        }
    }
}
