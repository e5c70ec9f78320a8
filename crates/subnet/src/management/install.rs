//! Installing code, whole or from chunks.
//!
//! Invariants:
//! - Who sent an installation from outside learns what it cost, whether it succeeded or not.

use bedstone_engine::{InstallMode, Principal, WasmMemoryPersistence};
use ic_management_canister_types::{
    CanisterInstallMode, InstallChunkedCodeArgs, InstallCodeArgs, UpgradeFlags,
    WasmMemoryPersistence as Asked,
};
use sha2::{Digest, Sha256};

use super::chunks::{CHUNK_BYTES_MAX, Hash, chunk_error};
use super::{ManagementCall, Reply};
use crate::lifecycle::EMPTY_REPLY;
use crate::reject::{Failure, Reject};
use crate::subnet::{Install, Subnet, installed};

/// Largest module, as it comes: what a chunk store holds.
const MODULE_BYTES_MAX: usize = 100 * CHUNK_BYTES_MAX;

impl Subnet {
    pub(super) fn manage_install(&mut self, call: &mut ManagementCall) -> Reply {
        let args: InstallCodeArgs = call.decode()?;
        let id = args.canister_id;
        self.controlled(id, call.caller)?;
        let install = Install {
            canister: id,
            mode: mode(args.mode),
            module: args.wasm_module,
            arg: args.arg,
            caller: call.caller,
        };
        self.install_for(call, &install, args.sender_canister_version)
    }

    pub(super) fn manage_chunked_install(&mut self, call: &mut ManagementCall) -> Reply {
        let args: InstallChunkedCodeArgs = call.decode()?;
        let id = args.target_canister;
        self.controlled(id, call.caller)?;
        let from = args.store_canister.unwrap_or(id);
        self.controlled_or_self(from, call.caller)?;
        let expected: Hash = args
            .wasm_module_hash
            .as_slice()
            .try_into()
            .map_err(|_| Reject::new(504, format!("Invalid wasm hash {:?}", args.wasm_module_hash)))?;
        let mut module = Vec::new();
        for chunk in &args.chunk_hashes_list {
            let hash: &Hash = (chunk.hash.as_slice())
                .try_into()
                .map_err(|_| chunk_error("Chunk hash is invalid. The length is not 32"))?;
            let bytes = self.chunk(from, hash)?;
            let bytes = bytes.ok_or_else(|| chunk_error(format!("Chunk hash {hash:?} was not found")))?;
            if module.len() + bytes.len() > MODULE_BYTES_MAX {
                let text = format!("Wasm module of more than {MODULE_BYTES_MAX} bytes");
                return Err(chunk_error(text).into());
            }
            module.extend_from_slice(&bytes);
        }
        let hash: Hash = Sha256::digest(&module).into();
        if hash != expected {
            let text = format!("Wasm module hash {hash:?} does not match given hash {expected:?}");
            return Err(chunk_error(text).into());
        }
        let install =
            Install { canister: id, mode: mode(args.mode), module, arg: args.arg, caller: call.caller };
        self.install_for(call, &install, args.sender_canister_version)
    }

    fn install_for(&mut self, call: &mut ManagementCall, install: &Install, version: Option<u64>) -> Reply {
        self.check_version(call, version)?;
        let (id, actor): (Principal, _) = (install.canister, call.actor(version));
        call.changed = Some(id);
        let mut outcome = self.install_code(install, actor, &mut call.journal)?;
        call.instructions = outcome.instructions;
        self.note_ingress(&call.waiting().context, &mut outcome);
        installed(id, &outcome.response).map_err(Failure::from)?;
        Ok(EMPTY_REPLY.to_vec())
    }
}

fn mode(asked: CanisterInstallMode) -> InstallMode {
    match asked {
        CanisterInstallMode::Install => InstallMode::Install,
        CanisterInstallMode::Reinstall => InstallMode::Reinstall,
        CanisterInstallMode::Upgrade(flags) => {
            let UpgradeFlags { skip_pre_upgrade, wasm_memory_persistence } = flags.unwrap_or_default();
            InstallMode::Upgrade {
                skip_pre_upgrade: skip_pre_upgrade.unwrap_or(false),
                wasm_memory_persistence: wasm_memory_persistence.map(|asked| match asked {
                    Asked::Keep => WasmMemoryPersistence::Keep,
                    Asked::Replace => WasmMemoryPersistence::Replace,
                }),
            }
        }
    }
}
