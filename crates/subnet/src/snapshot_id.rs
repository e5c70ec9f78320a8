//! Names of snapshots.

use std::fmt;
use std::str::FromStr;

use bedstone_engine::Principal;

/// Names a snapshot: the canister that it belongs to, and a number that counts this canister's snapshots from 0. No number is
/// used twice.
///
/// Its bytes are the IC's: the number, 8 bytes, big-endian, then the canister's id. As text they are hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The canister.
    pub canister: Principal,
    /// Its snapshot's number.
    pub number: u64,
}

impl SnapshotId {
    /// Its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.number.to_be_bytes(), self.canister.as_slice()].concat()
    }

    /// The id with these bytes, if they are one's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, canister) = bytes.split_first_chunk::<8>()?;
        let canister = Principal::try_from_slice(canister).ok().filter(|id| !id.as_slice().is_empty())?;
        Some(Self { canister, number: u64::from_be_bytes(*number) })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is not a snapshot's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotIdError(String);

impl fmt::Display for SnapshotIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a snapshot's id, which has 36 hexadecimal digits", self.0)
    }
}

impl std::error::Error for SnapshotIdError {}

impl FromStr for SnapshotId {
    type Err = SnapshotIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> =
            digits.chunks(2).map(|pair| Some(digit(&pair[0])? << 4 | digit(pair.get(1)?)?)).collect();
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| SnapshotIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_ics() {
        let canister = Principal::from_text("rrkah-fqaaa-aaaaa-aaaaq-cai").unwrap();
        let id = SnapshotId { canister, number: 258 };
        assert_eq!(id.to_string(), "000000000000010200000000000000010101");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("0x{id}").parse(), Ok(id));
        for text in ["", "00", "000000000000010", "zz00000000000102000000000000000101", "0000000000000102"] {
            assert!(text.parse::<SnapshotId>().is_err(), "{text}");
        }
    }
}
