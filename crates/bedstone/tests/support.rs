//! What several of these test files share: prebuilt canisters, networks that compile each of them once, and programs for the
//! scripted canister.
//!
//! - A test has canisters of its own, which are gone when it ends.
//! - Time stands still in the shared networks: a test that moves it makes a network for itself.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use bedstone::{Call, CallKind, Install, InstallMode, Network, NetworkBuilder, Principal, Receipt, Reject};

pub use self::program::{Call as Ask, Entry, Operation, Program};

#[allow(dead_code, reason = "no test uses all of it")]
#[path = "../../../canisters/scripted/program.rs"]
mod program;

/// The bytes of a prebuilt module.
pub fn wasm(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../canisters/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The scripted canister without the entry point that every round would run.
pub fn scripted_wasm() -> Vec<u8> {
    program::without_export(&wasm("scripted"), "canister_heartbeat")
}

/// An empty program.
pub fn script() -> Program {
    Program::new()
}

/// A network as one test sees it.
pub struct Stage {
    network: &'static Network,
    made: Mutex<Vec<Principal>>,
}

impl Deref for Stage {
    type Target = Network;

    fn deref(&self) -> &Network {
        self.network
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for canister in self.made.get_mut().unwrap() {
            // A network that broke has said why.
            let _ = self.network.delete_canister(*canister);
        }
    }
}

/// The network that all tests of languages share.
pub fn languages() -> Stage {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    Stage { network: NETWORK.get_or_init(|| Network::new().unwrap()), made: Mutex::default() }
}

/// The network that all tests with programs share.
pub fn scripts() -> Stage {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    Stage { network: NETWORK.get_or_init(|| Network::new().unwrap()), made: Mutex::default() }
}

impl Stage {
    /// A new canister with a prebuilt module.
    pub fn canister(&self, name: &str) -> Principal {
        let canister = self.empty();
        self.network.install(canister, &wasm(name), ()).unwrap();
        canister
    }

    /// A new canister without a module.
    pub fn empty(&self) -> Principal {
        let canister = self.network.create_canister().unwrap();
        self.made.lock().unwrap().push(canister);
        canister
    }

    /// A new scripted canister.
    pub fn scripted(&self) -> Principal {
        let canister = self.empty();
        install_scripted(self.network, canister, &script());
        canister
    }
}

/// Installs the scripted canister with a program as its argument.
pub fn install_scripted(network: &Network, canister: Principal, init: &Program) {
    let receipt = change_scripted(network, canister, InstallMode::Install, init);
    assert_eq!(receipt.reply, Ok(Vec::new()));
}

/// Installs or upgrades the scripted canister with a program as its argument.
pub fn change_scripted(network: &Network, canister: Principal, mode: InstallMode, arg: &Program) -> Receipt {
    let (module, arg) = (scripted_wasm(), arg.bytes().to_vec());
    network.install_code(Install { canister, mode, module, arg, caller: Principal::anonymous() }).unwrap()
}

/// Whatever is called and however: the whole receipt.
pub fn send(network: &Network, canister: Principal, method: &str, arg: &[u8], kind: CallKind) -> Receipt {
    let (method, arg, caller) = (method.to_owned(), arg.to_vec(), Principal::anonymous());
    network.call(Call { canister, method, arg, caller, kind }).unwrap()
}

/// Runs a program in an update.
pub fn run(network: &Network, canister: Principal, program: &Program) -> Result<Vec<u8>, Reject> {
    send(network, canister, "update", program.bytes(), CallKind::Update).reply
}

/// Runs a program in a query.
pub fn ask(network: &Network, canister: Principal, program: &Program) -> Result<Vec<u8>, Reject> {
    send(network, canister, "query", program.bytes(), CallKind::Query).reply
}

/// What is in a register.
pub fn register(network: &Network, canister: Principal, register: u8) -> Vec<u8> {
    ask(network, canister, &script().load(register).reply()).unwrap()
}

/// A call to the `update` method of a scripted canister.
pub fn to(callee: Principal, program: &Program) -> Ask {
    Ask::new(callee.as_slice(), "update").argument(program)
}

/// A directory that is removed at the end.
pub struct Room(pub PathBuf);

impl Room {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bedstone-ends-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    pub fn builder(&self) -> NetworkBuilder {
        Network::builder().state_dir(&self.0)
    }

    /// The files as they are now, elsewhere: what is left of a process that ends in this moment.
    pub fn as_after_a_kill(&self) -> Self {
        let copy = Self::new();
        copy_directory(&self.0, &copy.0);
        copy
    }
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
