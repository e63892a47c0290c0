//! [NAT-PMP](https://www.rfc-editor.org/rfc/rfc6886): what the gateway is asked, and what it answers.
//!
//! Messages have a fixed length, and the gateway is the one that this machine's own table of routes names. Pure.

use std::net::Ipv4Addr;

use super::Protocol;

/// Where a gateway is asked.
pub(super) const PORT: u16 = 5351;
/// Bytes of the longest answer.
pub(super) const ANSWER_BYTES_MAX: usize = 16;
/// Added to the number of a question in its answer.
const ANSWERS: u8 = 128;

/// What a gateway answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its outer address.
    Outer(Ipv4Addr),
    /// A mapping: the outer port, and for how many seconds.
    Mapped(u16, u32),
    /// It refuses, with this number.
    Refused(u16),
}

/// The number of the question to map a port.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Udp => 1,
        Protocol::Tcp => 2,
    }
}

/// Asks for the outer address.
pub(super) fn outer_address() -> Vec<u8> {
    vec![0, 0]
}

/// Asks to map a port, for some seconds; for none: no longer.
pub(super) fn map(protocol: Protocol, inner: u16, outer: u16, seconds: u32) -> Vec<u8> {
    let mut bytes = vec![0, number(protocol), 0, 0];
    bytes.extend(inner.to_be_bytes());
    bytes.extend(outer.to_be_bytes());
    bytes.extend(seconds.to_be_bytes());
    bytes
}

/// What the answer to a question says; nothing where it is none to it.
pub(super) fn answer(question: &[u8], bytes: &[u8]) -> Option<Answer> {
    let half = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let is_to_it = bytes.first() == Some(&0) && *bytes.get(1)? == question.get(1)? + ANSWERS;
    match (is_to_it, half(2)?) {
        (false, _) => None,
        (true, 0) if question.get(1) == Some(&0) => {
            let ip: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
            Some(Answer::Outer(Ipv4Addr::from(ip)))
        }
        (true, 0) => {
            let is_of_port = bytes.get(8..10)? == question.get(4..6)?;
            let seconds = u32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
            is_of_port.then_some(Answer::Mapped(half(10)?, seconds))
        }
        (true, refused) => Some(Answer::Refused(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_those_of_the_standard() {
        assert_eq!(
            map(Protocol::Tcp, 4001, 12345, 3600),
            [0, 2, 0, 0, 0x0f, 0xa1, 0x30, 0x39, 0, 0, 0x0e, 0x10]
        );
        let told = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7];
        assert_eq!(answer(&outer_address(), &told), Some(Answer::Outer(Ipv4Addr::new(203, 0, 113, 7))));
        let question = map(Protocol::Udp, 4001, 12345, 3600);
        let told = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0x30, 0x3a, 0, 0, 0, 60];
        assert_eq!(answer(&question, &told), Some(Answer::Mapped(12346, 60)));
        assert_eq!(answer(&question, &[0, 129, 0, 2, 0, 0, 0, 9]), Some(Answer::Refused(2)));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_none() {
        let question = map(Protocol::Udp, 4001, 12345, 3600);
        let told = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0x30, 0x3a, 0, 0, 0, 60];
        for cut in 0..told.len() {
            assert_eq!(answer(&question, &told[..cut]), None);
        }
        for (at, byte) in [(0, 1), (1, 130), (1, 1), (8, 0x10)] {
            let mut told = told;
            told[at] = byte;
            assert_eq!(answer(&question, &told), None);
        }
    }
}
