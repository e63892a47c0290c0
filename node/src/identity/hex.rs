//! Bytes as lower-case hexadecimal, the only case that is read back.

/// Writes `bytes` as hexadecimal.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads hexadecimal; nothing where a character is not one of `0-9 a-f` or one is left over.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lower_case_bytes_are_read() {
        assert_eq!(decode(&encode(&[0, 0x0f, 0xf0, 0xff])).unwrap(), [0, 0x0f, 0xf0, 0xff]);
        for bad in ["0", "0G", "AB", " 0", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
