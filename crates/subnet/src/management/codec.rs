//! Candid of the management canister's arguments and replies.
//!
//! Invariants:
//! - What decoding an argument costs is bounded: it comes from anybody.

use candid::{CandidType, DecoderConfig, Nat};
use serde::de::DeserializeOwned;

use crate::reject::Reject;

/// Most that an argument may cost to decode, in Candid's units; one of 2 MiB that is a list of bytes costs about 10 million.
const DECODING_QUOTA: usize = 40_000_000;
/// Most of it for values that nobody asked for.
const SKIPPING_QUOTA: usize = 10_000;

/// Decodes an argument.
pub(crate) fn decode<T: CandidType + DeserializeOwned>(bytes: &[u8]) -> Result<T, Reject> {
    let mut config = DecoderConfig::new();
    config.set_decoding_quota(DECODING_QUOTA).set_skipping_quota(SKIPPING_QUOTA);
    candid::utils::decode_one_with_config(bytes, &config).map_err(bad_candid)
}

/// An argument that is not what the method takes.
pub(crate) fn bad_candid(error: impl std::fmt::Display) -> Reject {
    Reject::new(408, format!("Error decoding candid: {error}"))
}

/// Encodes a reply.
pub(crate) fn encode(value: impl CandidType) -> Vec<u8> {
    candid::encode_one(value).expect("plain data can be written to memory")
}

/// A number that may be too large for us.
pub(crate) fn to_u64(number: &Nat) -> Option<u64> {
    (&number.0).try_into().ok()
}

/// A number that may be too large for us.
pub(crate) fn to_u128(number: &Nat) -> Option<u128> {
    (&number.0).try_into().ok()
}

/// A number with underscores between thousands, as the IC writes cycles.
pub(crate) fn grouped(number: u128) -> String {
    candid::utils::pp_num_str(&number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 20_865_176_800].map(grouped), ["0", "999", "1_000", "20_865_176_800"]);
    }

    #[test]
    fn an_argument_cannot_cost_much() {
        // A list of 2^31 empty records: ten bytes.
        let bomb = [b"DIDL".as_slice(), &[2, 0x6d, 1, 0x6c, 0, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x08]].concat();
        let reject = decode::<Vec<candid::Reserved>>(&bomb).unwrap_err();
        assert!(reject.message.starts_with("Error decoding candid: "), "{reject}");
        assert_eq!((reject.code, reject.error_code), (4, 408));
    }
}
