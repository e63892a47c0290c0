//! Real round-trip times between regions of a cloud.
//!
//! Medians between the regions of AWS as cloudping.co measured them in July 2025, the mean of both directions, as published
//! in the crate commonware-estimator (2026.10.0, MIT or Apache-2.0). Twelve of its 33 regions. A link of turmoil has one
//! latency for both ways, so that a direction that is slower than the other cannot be had; what the medians violate of the
//! triangle inequality is kept.

use std::time::Duration;

/// The regions.
pub const NAMES: [&str; 12] = [
    "us-east-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "eu-west-1",
    "eu-central-1",
    "af-south-1",
    "me-south-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "ap-southeast-2",
];

/// Round-trip times in microseconds; what stands on the diagonal is inside a region.
#[rustfmt::skip]
const ROUND_TRIP_MICROS: [[u64; 12]; 12] = [
    [  5_500,  64_000,  17_000, 115_000,  70_000,  93_000, 227_000, 162_000, 191_000, 219_000, 150_000, 200_000],
    [ 64_000,   3_200,  61_000, 175_000, 118_000, 143_000, 274_000, 239_000, 222_000, 161_000,  98_000, 141_000],
    [ 17_000,  61_000,   4_000, 126_000,  69_000,  93_000, 224_000, 163_000, 192_000, 215_000, 147_000, 198_000],
    [115_000, 175_000, 126_000,   3_300, 178_000, 205_000, 338_000, 273_000, 301_000, 328_000, 259_000, 312_000],
    [ 70_000, 118_000,  69_000, 178_000,   3_200,  27_000, 159_000,  98_000, 126_000, 179_000, 202_000, 256_000],
    [ 93_000, 143_000,  93_000, 205_000,  27_000,   4_000, 155_000,  86_000, 129_000, 161_000, 227_000, 251_000],
    [227_000, 274_000, 224_000, 338_000, 159_000, 155_000,   4_500, 249_000, 273_000, 315_000, 357_000, 409_000],
    [162_000, 239_000, 163_000, 273_000,  98_000,  86_000, 249_000,   2_700,  38_000,  99_000, 176_000, 189_000],
    [191_000, 222_000, 192_000, 301_000, 126_000, 129_000, 273_000,  38_000,   3_200,  64_000, 134_000, 155_000],
    [219_000, 161_000, 215_000, 328_000, 179_000, 161_000, 315_000,  99_000,  64_000,   3_700,  71_000,  95_000],
    [150_000,  98_000, 147_000, 259_000, 202_000, 227_000, 357_000, 176_000, 134_000,  71_000,   2_800, 106_000],
    [200_000, 141_000, 198_000, 312_000, 256_000, 251_000, 409_000, 189_000, 155_000,  95_000, 106_000,   4_100],
];

/// What the ninetieth percentile lies above the median on most links.
const JITTER: Duration = Duration::from_millis(5);

/// Pairs where that is known to be otherwise, in milliseconds.
const JITTERY: [(&str, &str, u64); 14] = [
    ("us-west-2", "me-south-1", 30),
    ("af-south-1", "ap-south-1", 29),
    ("af-south-1", "ap-southeast-1", 28),
    ("af-south-1", "ap-northeast-1", 34),
    ("us-east-1", "me-south-1", 13),
    ("us-east-1", "ap-south-1", 11),
    ("us-east-1", "ap-southeast-1", 11),
    ("me-south-1", "ca-central-1", 12),
    ("me-south-1", "sa-east-1", 12),
    ("me-south-1", "eu-west-1", 11),
    ("me-south-1", "af-south-1", 10),
    ("ap-south-1", "us-west-2", 11),
    ("ap-south-1", "ca-central-1", 4),
    ("ap-south-1", "ap-northeast-1", 11),
];

/// The median time from one region to another, half of the round trip; none where a name is not known.
pub fn one_way(one: &str, other: &str) -> Option<Duration> {
    let index = |name: &str| NAMES.iter().position(|it| *it == name);
    Some(Duration::from_micros(ROUND_TRIP_MICROS[index(one)?][index(other)?] / 2))
}

/// How much longer than the median it takes in one of ten cases.
pub fn jitter(one: &str, other: &str) -> Duration {
    let is_pair = |(a, b, _): &&(&str, &str, u64)| (*a, *b) == (one, other) || (*b, *a) == (one, other);
    JITTERY.iter().find(is_pair).map_or(JITTER, |(.., millis)| Duration::from_millis(*millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_same_from_both_sides() {
        for (row, one) in NAMES.iter().enumerate() {
            for (column, other) in NAMES.iter().enumerate() {
                assert_eq!(one_way(one, other), one_way(other, one), "{one} {other}");
                assert_eq!(jitter(one, other), jitter(other, one));
                if row != column {
                    assert!(one_way(one, other) > one_way(one, one), "{one} {other}");
                }
            }
        }
        assert_eq!(one_way("eu-west-1", "eu-central-1"), Some(Duration::from_micros(13_500)));
        assert_eq!(one_way("eu-west-1", "mars-1"), None);
        assert!(JITTERY.iter().all(|(one, other, _)| one_way(one, other).is_some()));
    }

    #[test]
    fn a_detour_can_be_shorter_than_the_way() {
        let of = |one, other| one_way(one, other).unwrap();
        assert!(of("us-west-2", "me-south-1") > of("us-west-2", "eu-west-1") + of("eu-west-1", "me-south-1"));
    }
}
