//! The management canister: calls to it wait their turn like any other's, and are answered at once or when something else
//! has happened.
//!
//! Here a call is taken, handed to the method that it names, and answered; each group of methods has a file: `creation`,
//! `settings`, `install`, `chunks`, `status`, `snapshots`, `http`, `keys`, `randomness`. `codec` is Candid, `history` what
//! canisters went through.
//!
//! Invariants:
//! - What a call changes, its answer and the end of its letter are one change of the store: whoever opens the store again
//!   finds the request or its effect, not its half. Snapshots are the exception, see there.
//! - A method checks everything before it changes anything; what a rejected call leaves is a log, where code ran.
//! - Attached cycles that a method does not take go back with the answer.

mod chunks;
mod codec;
mod creation;
mod history;
mod http;
mod install;
mod keys;
mod randomness;
mod settings;
mod snapshots;
mod status;

pub(crate) use chunks::ChunkStores;
pub(crate) use history::{Actor, Happening, Histories};
pub(crate) use http::Outcalls;
pub use http::{HttpHeader, HttpResponse, PendingHttp, Transform};
pub(crate) use randomness::Randomness;

use bedstone_engine::store::Room;
use bedstone_engine::{Canister, Error, Principal};
use candid::CandidType;
use serde::de::DeserializeOwned;

use crate::calls::{CallId, Context, Ingress, Input, Letter, Origin, Request, Sent};
use crate::journal::Journal;
use crate::reject::{Failure, Reject};
use crate::subnet::{Call, Receipt, Subnet, not_a_controller, rejected};

/// What a method replies, in Candid.
type Reply = Result<Vec<u8>, Failure>;

/// Methods that only canisters may call, because only they carry cycles or because only they are told.
const FOR_CANISTERS: [&str; 12] = [
    "canister_info",
    "canister_metadata",
    "create_canister",
    "deposit_cycles",
    "ecdsa_public_key",
    "http_request",
    "raw_rand",
    "schnorr_public_key",
    "sign_with_ecdsa",
    "sign_with_schnorr",
    "vetkd_derive_key",
    "vetkd_public_key",
];

/// Methods that are not begun when the disk is nearly full. The others make room, or little difference.
const FILLING: [&str; 9] = [
    "create_canister",
    "install_chunked_code",
    "install_code",
    "load_canister_snapshot",
    "provisional_create_canister_with_cycles",
    "take_canister_snapshot",
    "upload_canister_snapshot_data",
    "upload_canister_snapshot_metadata",
    "upload_chunk",
];

/// Methods that the IC has and a subnet of one node in one process does not.
const UNSUPPORTED: [(&str, &str); 18] = [
    ("bitcoin_get_balance", "there is no Bitcoin network"),
    ("bitcoin_get_block_headers", "there is no Bitcoin network"),
    ("bitcoin_get_current_fee_percentiles", "there is no Bitcoin network"),
    ("bitcoin_get_successors", "there is no Bitcoin network"),
    ("bitcoin_get_utxos", "there is no Bitcoin network"),
    ("bitcoin_send_transaction", "there is no Bitcoin network"),
    ("bitcoin_send_transaction_internal", "there is no Bitcoin network"),
    ("canister_metrics", "nothing is counted for it"),
    ("flexible_http_request", "there is one node; call http_request"),
    ("list_canisters", "there are no subnet administrators"),
    ("node_metrics_history", "there are no nodes"),
    ("rename_canister", "there is one subnet"),
    ("reshare_chain_key", "there is one subnet"),
    ("setup_initial_dkg", "there is one subnet"),
    ("subnet_info", "there is no registry"),
    ("subnet_metrics", "nothing is counted for it"),
    ("vetkd_derive_key", "vetKeys are not derived locally"),
    ("vetkd_public_key", "vetKeys are not derived locally"),
];

/// A call of the management canister that is not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub context: Context,
    /// The letter that it came with, if it came from a canister.
    letter: Option<Sent>,
}

impl Waiting {
    /// The letter that it came with: it stays in the store as long as this waits.
    pub fn letter(&self) -> Option<(Principal, &Sent)> {
        self.letter.as_ref().map(|sent| (self.context.caller, sent))
    }
}

/// A call while a method works on it.
struct ManagementCall {
    method: String,
    arg: Vec<u8>,
    caller: Principal,
    /// Who is answered; taken by a method that answers later.
    waiting: Option<Waiting>,
    journal: Journal,
    /// Used by code that ran.
    instructions: u64,
    /// A canister of which something is in the journal.
    changed: Option<Principal>,
    /// That canister was made by this call.
    created: bool,
}

impl ManagementCall {
    /// The argument.
    fn decode<T: CandidType + DeserializeOwned>(&self) -> Result<T, Reject> {
        codec::decode(&self.arg)
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.as_mut().expect("a method takes it last")
    }

    /// Attached cycles that were not taken yet.
    fn cycles(&mut self) -> &mut u128 {
        &mut self.waiting().context.cycles
    }

    /// The message from outside that this is.
    fn ingress(&self) -> Option<CallId> {
        match self.waiting.as_ref()?.context.origin {
            Origin::Ingress(id) => Some(id),
            _ => None,
        }
    }

    /// The call from a canister that this is.
    fn request(&self) -> Option<&Request> {
        match self.waiting.as_ref()?.letter.as_ref()?.letter {
            Letter::Request(ref request) => Some(request),
            Letter::Answer(_) => None,
        }
    }

    /// Who does it, for the history.
    fn actor(&self, version: Option<u64>) -> Actor {
        match self.ingress() {
            Some(_) => Actor::User(self.caller),
            None => Actor::Canister { id: self.caller, version },
        }
    }

    /// Keeps what this call did to a canister.
    fn keep(&mut self, id: Principal, canister: &mut Canister) -> Result<(), Error> {
        self.changed = Some(id);
        self.journal.save(canister)
    }

    /// Takes attached cycles for a service.
    fn charge(&mut self, price: u128) -> Result<(), Reject> {
        let method = self.method.clone();
        let sent = self.cycles();
        if *sent < price {
            let (sent, price) = (codec::grouped(*sent), codec::grouped(price));
            let text = format!("{method} request sent with {sent} cycles, but {price} cycles are required.");
            return Err(Reject::new(406, text));
        }
        *sent -= price;
        Ok(())
    }
}

impl Subnet {
    /// Works on the next call of the management canister; returns the instructions used, `None` if there is none.
    pub(crate) fn take_management_turn(&mut self) -> Result<Option<u64>, Error> {
        let id = Principal::management_canister();
        let Some(input) = self.parties.get_mut(&id).and_then(|party| party.mailbox.take()) else {
            return Ok(None);
        };
        let (waiting, method, arg) = match input {
            Input::Ingress(Ingress { id, caller, method, arg }) => {
                let context = Context::new(Origin::Ingress(id), caller);
                (Waiting { context, letter: None }, method, arg)
            }
            Input::Sent(sent) => {
                let Letter::Request(request) = &sent.letter else {
                    unreachable!("the management canister calls nobody")
                };
                let origin = Origin::Canister { id: request.from, open_call: request.open_call };
                let context = Context {
                    cycles: request.cycles,
                    deadline_nanos: request.deadline_nanos,
                    root: request.root,
                    ..Context::new(origin, request.from)
                };
                let (method, arg) = (request.method.clone(), request.arg.clone());
                (Waiting { context, letter: Some(sent) }, method, arg)
            }
        };
        self.manage(waiting, method, arg).map(Some)
    }

    /// Does what a call asks for; returns the instructions used.
    fn manage(&mut self, waiting: Waiting, method: String, arg: Vec<u8>) -> Result<u64, Error> {
        let caller = waiting.context.caller;
        let mut call = ManagementCall {
            method,
            arg,
            caller,
            waiting: Some(waiting),
            journal: Journal::begin(self.keeper()),
            instructions: 0,
            changed: None,
            created: false,
        };
        let answer = match self.dispatch(&mut call) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Reject(reject)) => Ok(Err(reject)),
            Err(Failure::Error(error)) => Err(error),
        };
        let appended = answer.and_then(|answer| {
            if let Some(waiting) = call.waiting.take() {
                self.answer_management(&waiting, answer, &mut call.journal);
            }
            self.append_journal(caller, call.journal)
        });
        if appended.is_err()
            && let Some(id) = call.changed
        {
            if call.created {
                self.canisters.remove(&id);
            } else {
                self.reload(id);
            }
        }
        appended.map(|()| call.instructions)
    }

    fn dispatch(&mut self, call: &mut ManagementCall) -> Reply {
        if let Some(reject) = refuse(&call.method, call.ingress().is_some()) {
            return Err(reject.into());
        }
        if FILLING.contains(&call.method.as_str())
            && let Some(store) = self.keeper()
            && store.room().map_err(Error::store)? == Room::Low
        {
            return Err(Reject::new(101, Error::full().to_string()).into());
        }
        match call.method.as_str() {
            "create_canister" => self.manage_creation(call),
            "provisional_create_canister_with_cycles" => self.manage_provisional_creation(call),
            "provisional_top_up_canister" => self.manage_provisional_top_up(call),
            "deposit_cycles" => self.manage_deposit(call),
            "start_canister" => self.manage_start(call),
            "stop_canister" => self.manage_stop(call),
            "uninstall_code" => self.manage_uninstall(call),
            "delete_canister" => self.manage_deletion(call),
            "update_settings" => self.manage_settings(call),
            "install_code" => self.manage_install(call),
            "install_chunked_code" => self.manage_chunked_install(call),
            "upload_chunk" => self.manage_chunk_upload(call),
            "stored_chunks" => self.manage_stored_chunks(call),
            "clear_chunk_store" => self.manage_chunk_clearing(call),
            "canister_status" => self.manage_status(call),
            "canister_info" => self.manage_info(call),
            "canister_metadata" => self.manage_metadata(call),
            "fetch_canister_logs" => self.manage_logs(call),
            "raw_rand" => self.manage_raw_rand(call),
            "http_request" => self.manage_http_request(call),
            "ecdsa_public_key" => self.manage_ecdsa_public_key(call),
            "sign_with_ecdsa" => self.manage_ecdsa_signature(call),
            "schnorr_public_key" => self.manage_schnorr_public_key(call),
            "sign_with_schnorr" => self.manage_schnorr_signature(call),
            "take_canister_snapshot" => self.manage_snapshot_taking(call),
            "load_canister_snapshot" => self.manage_snapshot_loading(call),
            "list_canister_snapshots" => self.manage_snapshot_list(call),
            "delete_canister_snapshot" => self.manage_snapshot_deletion(call),
            "read_canister_snapshot_metadata" => self.manage_snapshot_metadata(call),
            "read_canister_snapshot_data" => self.manage_snapshot_reading(call),
            "upload_canister_snapshot_metadata" => self.manage_snapshot_metadata_upload(call),
            "upload_canister_snapshot_data" => self.manage_snapshot_upload(call),
            method => Err(no_method(method).into()),
        }
    }

    /// Answers a call of the management canister.
    pub(crate) fn answer_management(
        &mut self,
        waiting: &Waiting,
        answer: Result<Vec<u8>, Reject>,
        journal: &mut Journal,
    ) {
        let management = Principal::management_canister();
        if let Some(letter) = &waiting.letter {
            journal.delete_letter(letter.number);
        }
        match (waiting.context.origin, answer) {
            (Origin::Ingress(ingress), answer) => self.answer_ingress(ingress, answer),
            (_, Ok(bytes)) => self.answer_context(management, &waiting.context, Ok(bytes), journal),
            (_, Err(reject)) => self.reject_context(management, &waiting.context, reject, journal),
        }
    }

    /// Why a message from outside is not let in, if it calls the management canister.
    pub(crate) fn refuse_management(&self, call: &Call) -> Option<Reject> {
        refuse(&call.method, true)
    }

    /// A query call of the management canister.
    pub(crate) fn query_management(&mut self, call: &Call) -> Result<Receipt, Error> {
        let reply = match call.method.as_str() {
            "canister_status" => self.status_reply(&call.arg, call.caller),
            "fetch_canister_logs" => self.logs_reply(&call.arg, call.caller),
            method => {
                let text = format!("Management canister has no query method '{method}'");
                return Ok(rejected(Reject::new(536, text)));
            }
        };
        match reply {
            Ok(reply) => Ok(Receipt::of(Ok(reply))),
            Err(Failure::Reject(reject)) => Ok(rejected(reject)),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    /// A canister that there is.
    fn existing(&mut self, id: Principal) -> Result<&mut Canister, Failure> {
        match self.awake(id)? {
            Some(canister) => Ok(canister),
            None => Err(Reject::new(301, format!("Canister {id} not found.")).into()),
        }
    }

    /// A canister that the caller controls.
    fn controlled(&mut self, id: Principal, caller: Principal) -> Result<&mut Canister, Failure> {
        let canister = self.existing(id)?;
        if !canister.system().controllers.contains(&caller) {
            return Err(not_a_controller(id, &canister.system().controllers, caller).into());
        }
        Ok(canister)
    }

    /// As [`Subnet::controlled`], for what a canister may also do to itself.
    fn controlled_or_self(&mut self, id: Principal, caller: Principal) -> Result<&mut Canister, Failure> {
        if id == caller { self.existing(id) } else { self.controlled(id, caller) }
    }

    /// The IC asks canisters that name their version to tell the truth: it cannot be one that they have not reached.
    fn check_version(&mut self, call: &ManagementCall, version: Option<u64>) -> Result<(), Failure> {
        let (Some(told), Some(_)) = (version, call.request()) else { return Ok(()) };
        let caller = call.caller;
        match self.awake(caller)? {
            Some(canister) if told > canister.system().version => {
                let version = canister.system().version;
                let text = format!(
                    "sender_canister_version is {told}, but canister {caller} has version {version}; pass \
                     ic0.canister_version or nothing"
                );
                Err(Reject::new(408, text).into())
            }
            _ => Ok(()),
        }
    }
}

/// Why a method is not called, whoever calls and whatever the argument.
fn refuse(method: &str, from_outside: bool) -> Option<Reject> {
    if from_outside && FOR_CANISTERS.contains(&method) {
        return Some(Reject::new(406, format!("Only canisters can call ic00 method {method}")));
    }
    let (_, why) = UNSUPPORTED.iter().find(|(name, _)| *name == method)?;
    Some(Reject::new(406, format!("{method} is not supported here: {why}")))
}

/// A method that there is not.
fn no_method(method: &str) -> Reject {
    Reject::new(536, format!("Management canister has no method '{method}'"))
}
