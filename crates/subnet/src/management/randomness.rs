//! Randomness for canisters: a hash of the subnet's seed and of how much was drawn before.
//!
//! Invariants:
//! - The same seed gives the same bytes in the same order, and nothing is given twice: what was drawn is counted in the
//!   subnet's record.

use sha2::{Digest, Sha256};

use super::codec::{bad_candid, encode};
use super::{ManagementCall, Reply};
use crate::subnet::Subnet;

/// What randomness is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Randomness {
    pub seed: [u8; 32],
    /// How often something was drawn.
    pub drawn: u64,
}

impl Randomness {
    /// The next 32 bytes.
    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let bytes = Sha256::new_with_prefix(b"bedstone raw_rand").chain_update(self.seed);
        bytes.chain_update(self.drawn.to_le_bytes()).finalize().into()
    }

    /// A secret for a purpose, always the same.
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        Sha256::new_with_prefix(b"bedstone secret")
            .chain_update(self.seed)
            .chain_update(purpose)
            .finalize()
            .into()
    }
}

impl Subnet {
    pub(super) fn manage_raw_rand(&mut self, call: &mut ManagementCall) -> Reply {
        candid::utils::decode_args::<()>(&call.arg).map_err(bad_candid)?;
        let bytes = self.randomness.draw();
        if let Some((_, change)) = call.journal.parts() {
            self.put_head(change);
        }
        Ok(encode(bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_its_bytes_and_never_twice() {
        let draws = |seed| {
            let mut randomness = Randomness { seed: [seed; 32], drawn: 0 };
            [randomness.draw(), randomness.draw(), randomness.draw()]
        };
        let [a, b, c] = draws(1);
        assert_eq!([a, b, c], draws(1));
        assert!(a != b && b != c && a != c);
        assert!(draws(2).iter().all(|bytes| ![a, b, c].contains(bytes)));
        let randomness = Randomness { seed: [1; 32], drawn: 0 };
        assert_ne!(randomness.secret("a"), randomness.secret("b"));
    }
}
