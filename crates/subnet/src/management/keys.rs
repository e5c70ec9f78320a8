//! Keys for signatures: local ones, derived from the subnet's seed, in place of the IC's threshold keys.
//!
//! A canister's key is derived from a master key by its id and the path that it names, as on the IC. Who knows the seed
//! knows all keys: they are for tests.
//!
//! Invariants:
//! - The same seed, name, canister and path give the same key, and the public key that is told verifies its signatures.

use bedstone_engine::Principal;
use ic_management_canister_types::{
    EcdsaCurve, EcdsaKeyId, EcdsaPublicKeyArgs, EcdsaPublicKeyResult, SchnorrAlgorithm, SchnorrAux,
    SchnorrKeyId, SchnorrPublicKeyArgs, SchnorrPublicKeyResult, SignWithEcdsaArgs, SignWithEcdsaResult,
    SignWithSchnorrArgs, SignWithSchnorrResult,
};

use super::codec::encode;
use super::{ManagementCall, Reply};
use crate::reject::Reject;
use crate::subnet::Subnet;

/// Names of keys: the local one of development networks, and those of the IC.
const KEY_NAMES: [&str; 3] = ["dfx_test_key", "test_key_1", "key_1"];
/// Longest path.
const PATH_MAX: usize = 255;
const ECDSA_HASH_BYTES: usize = 32;

/// Whose key: a canister's, by a path of its own.
struct Owner<'a> {
    canister: Principal,
    path: &'a [Vec<u8>],
}

impl Subnet {
    pub(super) fn manage_ecdsa_public_key(&mut self, call: &mut ManagementCall) -> Reply {
        let args: EcdsaPublicKeyArgs = call.decode()?;
        let owner = owner(args.canister_id.unwrap_or(call.caller), &args.derivation_path)?;
        let (key, chain_code) = self.ecdsa_key(&args.key_id, &owner)?;
        let public_key = key.public_key().serialize_sec1(true);
        Ok(encode(EcdsaPublicKeyResult { public_key, chain_code: chain_code.to_vec() }))
    }

    pub(super) fn manage_ecdsa_signature(&mut self, call: &mut ManagementCall) -> Reply {
        let args: SignWithEcdsaArgs = call.decode()?;
        if args.message_hash.len() != ECDSA_HASH_BYTES {
            let text = format!("message_hash has {} bytes; it must have 32", args.message_hash.len());
            return Err(Reject::new(408, text).into());
        }
        let owner = owner(call.caller, &args.derivation_path)?;
        let (key, _) = self.ecdsa_key(&args.key_id, &owner)?;
        call.charge(self.engine.subnet().prices.signature)?;
        let signature = key.sign_digest_with_ecdsa(&args.message_hash).to_vec();
        Ok(encode(SignWithEcdsaResult { signature }))
    }

    pub(super) fn manage_schnorr_public_key(&mut self, call: &mut ManagementCall) -> Reply {
        let args: SchnorrPublicKeyArgs = call.decode()?;
        let owner = owner(args.canister_id.unwrap_or(call.caller), &args.derivation_path)?;
        let (public_key, chain_code) = match args.key_id.algorithm {
            SchnorrAlgorithm::Bip340secp256k1 => {
                let (key, chain_code) = self.bip340_key(&args.key_id, &owner)?;
                (key.public_key().serialize_sec1(true), chain_code)
            }
            SchnorrAlgorithm::Ed25519 => {
                let (key, chain_code) = self.ed25519_key(&args.key_id, &owner)?;
                (key.public_key().serialize_raw().to_vec(), chain_code)
            }
        };
        Ok(encode(SchnorrPublicKeyResult { public_key, chain_code: chain_code.to_vec() }))
    }

    pub(super) fn manage_schnorr_signature(&mut self, call: &mut ManagementCall) -> Reply {
        let args: SignWithSchnorrArgs = call.decode()?;
        let owner = owner(call.caller, &args.derivation_path)?;
        let signature = match (args.key_id.algorithm, args.aux) {
            (SchnorrAlgorithm::Bip340secp256k1, None) => {
                let (key, _) = self.bip340_key(&args.key_id, &owner)?;
                key.sign_message_with_bip340_no_rng(&args.message).to_vec()
            }
            (SchnorrAlgorithm::Bip340secp256k1, Some(SchnorrAux::Bip341(aux))) => {
                let (key, _) = self.bip340_key(&args.key_id, &owner)?;
                let signed = key.sign_message_with_bip341_no_rng(&args.message, &aux.merkle_root_hash);
                signed.map_err(|_| Reject::new(408, "merkle_root_hash must have 0 or 32 bytes"))?.to_vec()
            }
            (SchnorrAlgorithm::Ed25519, None) => {
                let (key, _) = self.ed25519_key(&args.key_id, &owner)?;
                key.sign_message(&args.message).to_vec()
            }
            (SchnorrAlgorithm::Ed25519, Some(_)) => {
                return Err(Reject::new(408, "bip341 aux is for bip340secp256k1 alone").into());
            }
        };
        call.charge(self.engine.subnet().prices.signature)?;
        Ok(encode(SignWithSchnorrResult { signature }))
    }

    fn ecdsa_key(
        &self,
        id: &EcdsaKeyId,
        owner: &Owner<'_>,
    ) -> Result<(ic_secp256k1::PrivateKey, [u8; 32]), Reject> {
        let name = match id.curve {
            EcdsaCurve::Secp256k1 => format!("ecdsa:Secp256k1:{}", id.name),
            EcdsaCurve::Secp256r1 => format!("ecdsa:Secp256r1:{}", id.name),
        };
        self.secp256k1_key(&name, id.curve == EcdsaCurve::Secp256k1, &id.name, owner)
    }

    fn bip340_key(
        &self,
        id: &SchnorrKeyId,
        owner: &Owner<'_>,
    ) -> Result<(ic_secp256k1::PrivateKey, [u8; 32]), Reject> {
        self.secp256k1_key(&format!("schnorr:Bip340Secp256k1:{}", id.name), true, &id.name, owner)
    }

    fn secp256k1_key(
        &self,
        purpose: &str,
        is_known: bool,
        name: &str,
        owner: &Owner<'_>,
    ) -> Result<(ic_secp256k1::PrivateKey, [u8; 32]), Reject> {
        if !is_known || !KEY_NAMES.contains(&name) {
            return Err(unknown_key(purpose));
        }
        let master = ic_secp256k1::PrivateKey::generate_from_seed(&self.randomness.secret(purpose));
        let path =
            ic_secp256k1::DerivationPath::from_canister_id_and_path(owner.canister.as_slice(), owner.path);
        Ok(master.derive_subkey(&path))
    }

    fn ed25519_key(
        &self,
        id: &SchnorrKeyId,
        owner: &Owner<'_>,
    ) -> Result<(ic_ed25519::DerivedPrivateKey, [u8; 32]), Reject> {
        let purpose = format!("schnorr:Ed25519:{}", id.name);
        if !KEY_NAMES.contains(&id.name.as_str()) {
            return Err(unknown_key(&purpose));
        }
        let master = ic_ed25519::PrivateKey::generate_from_seed(&self.randomness.secret(&purpose));
        let path =
            ic_ed25519::DerivationPath::from_canister_id_and_path(owner.canister.as_slice(), owner.path);
        Ok(master.derive_subkey(&path))
    }
}

fn owner(canister: Principal, path: &[Vec<u8>]) -> Result<Owner<'_>, Reject> {
    if path.len() > PATH_MAX {
        let text = format!("Deserialize error: The number of elements exceeds maximum allowed {PATH_MAX}");
        return Err(super::codec::bad_candid(text));
    }
    Ok(Owner { canister, path })
}

fn unknown_key(name: &str) -> Reject {
    let known = KEY_NAMES.join(", ");
    Reject::new(408, format!("Requested unknown threshold key: {name}, existing keys have the names {known}"))
}
