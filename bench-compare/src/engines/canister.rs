//! Bedstone as its users have it: a network in a state directory, and in it a canister that holds the map in stable memory.
//!
//! - The canister is the sample dapp, a `StableBTreeMap<u128, u128>` of `ic-stable-structures`: compiled Wasm, metered, its
//!   arguments and replies in Candid.
//! - An insert is one update, which is durable when it returns; a read is one query.

use std::path::Path;

use anyhow::{Result, anyhow};
use bedstone::{Call, CallKind, Durability, Network, Principal};
use candid::Nat;

use crate::engine::Engine;

/// What was set.
pub const TUNING: &str = "Durability::Always";

const MODULE: &[u8] = include_bytes!("../../../canisters/prebuilt/btreemap.wasm");
/// What the canister is called in its network.
const NAME: &str = "map";

/// A network with one canister.
pub struct Canister {
    network: Network,
    canister: Principal,
}

impl Canister {
    /// Opens the network in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Canister> {
        let network = Network::builder().state_dir(directory).durability(Durability::Always).build()?;
        let canister = match network.canister_named(NAME) {
            Some(canister) => canister,
            None => {
                let canister = network.create_canister()?;
                network.install(canister, MODULE, ())?;
                network.name_canister(NAME, canister)?;
                canister
            }
        };
        Ok(Canister { network, canister })
    }

    fn call(&self, method: &str, arg: Vec<u8>, kind: CallKind) -> Result<Vec<u8>> {
        let (canister, method, caller) = (self.canister, method.to_owned(), Principal::anonymous());
        let receipt = self.network.call(Call { canister, method, arg, caller, kind })?;
        receipt.reply.map_err(|reject| anyhow!("the canister rejected the call: {}", reject.message))
    }
}

impl Engine for Canister {
    fn insert(&mut self, entries: &[(u128, u128)]) -> Result<()> {
        let words = entries.iter().flat_map(|(key, value)| [key, value]);
        let packed: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        self.call("insert_many", candid::encode_one(packed)?, CallKind::Update).map(drop)
    }

    fn get(&mut self, key: u128) -> Result<Option<u128>> {
        let reply = self.call("get", candid::encode_one(Nat::from(key))?, CallKind::Query)?;
        let value: Option<Nat> = candid::decode_one(&reply)?;
        value.map(|value| Ok(u128::try_from(value.0)?)).transpose()
    }
}
