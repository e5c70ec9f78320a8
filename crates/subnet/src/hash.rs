//! One hash over everything that a subnet is, so that two runs can be compared.
//!
//! Reads every byte of every canister.

use bedstone_engine::{Error, Principal};
use sha2::{Digest, Sha256};

use crate::journal::encode;
use crate::management::Waiting;
use crate::subnet::Subnet;

const CHUNK: usize = 1 << 20;

impl Subnet {
    /// SHA-256 over time, names, calls under way, randomness, chunks, histories and all canisters: their settings, modules,
    /// globals, logs and memories. Equal in two subnets exactly if they are, and whatever happens to them next happens to
    /// both.
    ///
    /// # Errors
    /// If what was saved of a canister cannot be read.
    pub fn state_hash(&mut self) -> Result<[u8; 32], Error> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(&encode(&(self.time_nanos, self.next_id, &self.names)));
        for (id, party) in &self.parties {
            for (number, context) in &party.contexts {
                add(&encode(&(id, number, context)));
            }
            for (number, open) in &party.open_calls {
                add(&encode(&(id, number, open)));
            }
            for (from, sent) in party.mailbox.letters() {
                add(&encode(&(id, from, sent.number, &sent.letter)));
            }
        }
        for (from, sent) in self.waiting().filter_map(Waiting::letter) {
            add(&encode(&(from, sent.number, &sent.letter)));
        }
        add(&encode(&(self.randomness.seed, self.randomness.drawn, &self.histories)));
        add(&encode(&self.chunks.names().collect::<Vec<_>>()));
        for id in self.canisters.keys().copied().collect::<Vec<Principal>>() {
            let Some(canister) = self.awake(id)? else { continue };
            add(&encode(&(canister.system(), &canister.system().settings, canister.log())));
            add(&canister.globals());
            add(canister.module().map_or(&[], |module| module.bytes()));
            let mut chunk = vec![0; CHUNK];
            for index in 0..canister.memory_count() {
                let bytes = canister.memory_bytes(index);
                for at in (0..bytes).step_by(CHUNK) {
                    let part =
                        &mut chunk[..usize::try_from(bytes - at).map_or(CHUNK, |left| left.min(CHUNK))];
                    canister.read_memory(index, at, part);
                    add(part);
                }
            }
            add(&canister.stable_bytes().to_le_bytes());
            canister.each_stable_page(|page, bytes| {
                add(&page.to_le_bytes());
                add(bytes);
            });
        }
        Ok(hash.finalize().into())
    }
}
