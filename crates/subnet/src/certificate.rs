//! Certificates: a hash tree over what canisters want certified, signed with the key of the subnet.
//!
//! There is one subnet here, which is its own root: its key is the root key, and there is no delegation. The key is made
//! from a seed, so that networks made alike are equal; it protects nothing.
//!
//! Invariants:
//! - A certificate reveals the time and one canister's certified data, and nothing else.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bedstone_engine::{Certifier, CyclePrices, Principal, SubnetInfo};
use ciborium::Value;
use ciborium::tag::Required;
use ic_certification::{HashTree, fork, label, leaf};
use ic_verify_bls_signature::PrivateKey;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// What stands before a key of 96 bytes to make it one of the IC: the algorithm's name, in DER.
const KEY_PREFIX: &[u8; 37] =
    b"\x30\x81\x82\x30\x1d\x06\x0d\x2b\x06\x01\x04\x01\x82\xdc\x7c\x05\x03\x01\x02\x01\
    \x06\x0c\x2b\x06\x01\x04\x01\x82\xdc\x7c\x05\x03\x02\x01\x03\x61\x00";
/// What is signed is this, with its length before it, and the tree's root.
const SIGNED: &[u8] = b"\x0dic-state-root";
/// The tag that says that what follows is CBOR.
const SELF_DESCRIBED: u64 = 55_799;
/// Most certificates kept: signing takes a millisecond, and data rarely changes between queries.
const KEPT_MAX: usize = 32;

/// What canisters are told of a subnet with a key made from `seed`.
pub fn subnet_info(seed: [u8; 32], prices: CyclePrices) -> SubnetInfo {
    let key = private_key(seed);
    let root_key = [KEY_PREFIX.as_slice(), &key.public_key().serialize()].concat();
    let id = Principal::self_authenticating(&root_key);
    let kept = Mutex::new(VecDeque::<(Asked, Vec<u8>)>::new());
    let certifier = Certifier::new(move |canister, data, time_nanos| {
        let asked = (canister, data.to_vec(), time_nanos);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, certificate)) = kept.iter().find(|(other, _)| *other == asked) {
            return certificate.clone();
        }
        let certificate = certificate(&key, canister, data, time_nanos);
        kept.push_back((asked, certificate.clone()));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        certificate
    });
    SubnetInfo { id, root_key, prices, certifier: Some(certifier) }
}

/// Of which canister, over what, at what time.
type Asked = (Principal, Vec<u8>, u64);

/// A key from a seed: hashes of it, until one is a number that a key can be.
fn private_key(seed: [u8; 32]) -> PrivateKey {
    let mut bytes: [u8; 32] = Sha256::digest([b"bedstone subnet key".as_slice(), &seed].concat()).into();
    loop {
        if let Ok(key) = PrivateKey::deserialize(&bytes) {
            return key;
        }
        bytes = Sha256::digest(bytes).into();
    }
}

#[derive(Serialize)]
struct Certificate {
    tree: HashTree,
    signature: Value,
}

fn certificate(key: &PrivateKey, canister: Principal, data: &[u8], time_nanos: u64) -> Vec<u8> {
    let data = label(canister.as_slice(), label("certified_data", leaf(data)));
    let tree: HashTree = fork(label("canister", data), label("time", leaf(leb128(time_nanos))));
    let signature = key.sign(&[SIGNED, &tree.digest()].concat()).serialize();
    let signature = Value::Bytes(signature.to_vec());
    let certificate = Required::<_, SELF_DESCRIBED>(Certificate { tree, signature });
    let mut bytes = Vec::new();
    ciborium::into_writer(&certificate, &mut bytes).expect("memory takes everything");
    bytes
}

/// A number as the IC certifies it.
fn leb128(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use ic_certification::{Certificate, LookupResult};
    use ic_verify_bls_signature::verify_bls_signature;

    use super::*;

    /// As a client does it.
    #[test]
    fn a_certificate_is_what_a_client_accepts() {
        let info = subnet_info([7; 32], CyclePrices::FREE);
        let key = private_key([7; 32]);
        let canister = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        let bytes = certificate(&key, canister, b"certified", 1_700_000_000_000_000_000);
        let Required::<Certificate, SELF_DESCRIBED>(certificate) = ciborium::from_reader(&*bytes).unwrap();
        let message = [SIGNED, &certificate.tree.digest()].concat();
        assert_eq!(info.root_key.len(), 133);
        verify_bls_signature(&certificate.signature, &message, &info.root_key[37..]).unwrap();
        let path: [&[u8]; 3] = [b"canister", canister.as_slice(), b"certified_data"];
        assert_eq!(certificate.tree.lookup_path(path), LookupResult::Found(b"certified"));
        let mut time = match certificate.tree.lookup_path([b"time"]) {
            LookupResult::Found(time) => {
                time.iter().rev().fold(0, |all, byte| all << 7 | u64::from(byte & 0x7f))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(std::mem::take(&mut time), 1_700_000_000_000_000_000);
        assert_ne!(subnet_info([8; 32], CyclePrices::FREE).root_key, info.root_key);
    }
}
