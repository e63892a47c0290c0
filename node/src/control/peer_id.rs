//! Peer ids as people write them.
//!
//! The three text forms of the [peer id specification](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md):
//! `Qm…` and `12D3…` in base58, and the CIDv1 form with the codec `libp2p-key`, which js-libp2p and kubo can print.

use cid::{Cid, Version};
use libp2p::PeerId;

use super::api::Failure;
use crate::code::Code;

/// The multicodec number of a libp2p public key.
const LIBP2P_KEY: u64 = 0x72;
/// Bytes of the longest text worth parsing.
const TEXT_BYTES_MAX: usize = 128;

/// Parses any of the three forms.
///
/// # Errors
/// [`Code::Usage`] for anything else.
pub fn parse(text: &str) -> Result<PeerId, Failure> {
    let bounded = Some(text).filter(|text| text.len() <= TEXT_BYTES_MAX);
    let parsed = bounded.and_then(|text| text.parse().ok().or_else(|| from_cid(text)));
    parsed.ok_or_else(|| {
        let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
        Failure::new(
            Code::Usage,
            format!("\"{shown}\" is not a peer id."),
            "A peer id begins with 12D3, Qm or bafz. List those that are connected: ggen marketplace p2p peer-list",
        )
    })
}

fn from_cid(text: &str) -> Option<PeerId> {
    let cid = Cid::try_from(text).ok()?;
    let is_peer = cid.version() == Version::V1 && cid.codec() == LIBP2P_KEY;
    is_peer.then(|| PeerId::from_bytes(&cid.hash().to_bytes()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_the_same_peer() {
        // The example of the specification, section "String representation".
        let base58 = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        let cid = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
        assert_eq!(parse(cid).unwrap(), parse(base58).unwrap());
        assert_eq!(parse(cid).unwrap().to_string(), base58);
        let ed25519 = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        assert_eq!(parse(ed25519).unwrap().to_string(), ed25519);
    }

    #[test]
    fn anything_else_is_refused_without_echoing_control_characters() {
        let content = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
        for text in ["", "Qm", "12D3", content, "\u{1b}[31m", "-1", &"Q".repeat(1 << 20)] {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            assert!(!failure.message.contains('\u{1b}') && failure.message.len() < 600);
        }
    }
}
