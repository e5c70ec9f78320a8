//! Messages from outside: let in or not, and what became of them.
//!
//! Invariants:
//! - A message that was let in has a status until it is taken, and its reply is what its canister answered first.
//! - A message that was not let in leaves nothing, except the instructions that its inspection cost the subnet.

use bedstone_engine::{CallInfo, Entry, Error, Message, Outcome, Principal, Response};

use crate::calls::{CallId, Context, Ingress, Origin};
use crate::deliver::not_running;
use crate::reject::Reject;
use crate::subnet::{Call, Receipt, Subnet, no_such_canister, rejected};

/// Largest argument of a message from outside, in bytes.
const INGRESS_BYTES_MAX: usize = 2 << 20;
/// Most messages from outside that wait for one canister.
const INGRESS_QUEUE_MAX: usize = 10_000;
/// Rounds that may pass without a message while somebody waits for an answer: timers and heartbeats may bring it about.
const IDLE_ROUNDS_MAX: u32 = 20;
/// Rounds after which a call is taken for one that never ends: 7 trillion instructions, or 3.5 million messages.
const ROUNDS_MAX: u32 = 1_000;

/// Names a message from outside that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(crate) CallId);

/// What becomes of a message from outside.
#[derive(Debug, Default)]
pub(crate) struct Status {
    reply: Option<Result<Vec<u8>, Reject>>,
    receipt: Option<Receipt>,
}

impl Status {
    /// The receipt, complete.
    fn receipt(self) -> Receipt {
        let reply = self.reply.expect("asked for after the answer");
        match self.receipt {
            Some(receipt) => Receipt { reply, ..receipt },
            None => Receipt::of(reply),
        }
    }
}

impl Subnet {
    /// Lets an update call in, or says why not.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn submit(&mut self, call: &Call) -> Result<Result<MessageId, Reject>, Error> {
        if let Some(reject) = self.refuse(call)? {
            return Ok(Err(reject));
        }
        self.last_call += 1;
        let id = self.last_call;
        self.ingress.insert(id, Status::default());
        let ingress = Ingress { id, caller: call.caller, method: call.method.clone(), arg: call.arg.clone() };
        self.parties.entry(call.canister).or_default().mailbox.add_ingress(ingress);
        self.ready(call.canister);
        Ok(Ok(MessageId(id)))
    }

    /// Why a message from outside is not let in.
    fn refuse(&mut self, call: &Call) -> Result<Option<Reject>, Error> {
        let id = call.canister;
        if call.arg.len() > INGRESS_BYTES_MAX {
            let text =
                format!("the argument has {} bytes; a message may have {INGRESS_BYTES_MAX}", call.arg.len());
            return Ok(Some(Reject::new(402, text)));
        }
        if id == Principal::management_canister() {
            return Ok(self.refuse_management(call));
        }
        let time_nanos = self.time_nanos;
        let waiting = self.parties.get(&id).map_or(0, |party| party.mailbox.ingress_count());
        self.charge_upkeep(id)?;
        let ingress_price = self.engine.subnet().prices.ingress((call.method.len() + call.arg.len()) as u64);
        let Some(canister) = self.awake(id)? else { return Ok(Some(no_such_canister(id))) };
        if let Some(reject) = not_running(id, canister.system().settings.run_state) {
            return Ok(Some(reject));
        }
        if waiting >= INGRESS_QUEUE_MAX {
            let text = format!("Canister {id} has {waiting} messages waiting; try again later");
            return Ok(Some(Reject::new(202, text)));
        }
        let inspect = Entry::InspectMessage(&call.method);
        if canister.has_method(Entry::Update(&call.method)) && canister.has_method(inspect) {
            let caller = call.caller;
            let message =
                Message { entry: inspect, arg: &call.arg, caller, time_nanos, call: CallInfo::default() };
            match canister.execute(&message)?.response {
                Response::Trapped(fault) => return Ok(Some(Reject::of_fault(&fault, id))),
                Response::Reject(text) => return Ok(Some(Reject::new(406, text))),
                _ => {}
            }
        }
        let system = canister.system_mut();
        if system.cycles < ingress_price {
            return Ok(Some(Reject::new(207, format!("Canister {id} is out of cycles"))));
        }
        system.cycles -= ingress_price;
        Ok(None)
    }

    /// Whether a message was answered.
    pub fn is_answered(&self, message: MessageId) -> bool {
        self.ingress.get(&message.0).is_some_and(|status| status.reply.is_some())
    }

    /// What became of a message, once; `None` until it is answered, and after it was asked for.
    pub fn take_receipt(&mut self, message: MessageId) -> Option<Receipt> {
        if !self.is_answered(message) {
            return None;
        }
        self.ingress.remove(&message.0).map(Status::receipt)
    }

    /// Runs rounds until a message is answered. `None` if nothing more happens by itself, as it waits for time to pass or
    /// for somebody outside, and after 1000 rounds.
    ///
    /// # Errors
    /// If this machine or the store fails.
    pub fn await_receipt(&mut self, message: MessageId) -> Result<Option<Receipt>, Error> {
        let mut idle = 0;
        for _ in 0..ROUNDS_MAX {
            if let Some(receipt) = self.take_receipt(message) {
                return Ok(Some(receipt));
            }
            let round = self.tick()?;
            idle = if round.messages > 0 { 0 } else { idle + 1 };
            if idle > IDLE_ROUNDS_MAX || (idle > 0 && round.tasks == 0) {
                break;
            }
        }
        Ok(self.take_receipt(message))
    }

    /// Submits an update call and runs rounds until it is answered.
    pub(crate) fn update(&mut self, call: &Call) -> Result<Receipt, Error> {
        match self.submit(call)? {
            Err(reject) => Ok(rejected(reject)),
            Ok(message) => match self.await_receipt(message)? {
                Some(receipt) => Ok(receipt),
                None => {
                    let why = match self.ready.is_empty() {
                        true => "it waits for time to pass or for an HTTP response",
                        false => "after 1000 rounds canisters still send each other messages",
                    };
                    let (method, canister) = (&call.method, call.canister);
                    let text = format!("the call of {method} at {canister} is not answered: {why}");
                    Ok(rejected(Reject::new(UNANSWERED, text)))
                }
            },
        }
    }

    /// Adds what an execution cost to the receipt of the message from outside that it follows from.
    pub(crate) fn note_ingress(&mut self, context: &Context, outcome: &mut Outcome) {
        let Some(status) = self.ingress.get_mut(&context.root) else { return };
        let receipt = status.receipt.get_or_insert_with(|| Receipt::of(Ok(Vec::new())));
        receipt.tree_instructions += outcome.instructions;
        if context.origin != Origin::Ingress(context.root) {
            return;
        }
        receipt.instructions += outcome.instructions;
        receipt.heap_pages_dirtied += outcome.heap_pages_dirtied;
        receipt.stable_pages_read += outcome.stable_pages_accessed;
        receipt.stable_pages_dirtied += outcome.stable_pages_dirtied;
        receipt.log.append(&mut outcome.log);
    }

    /// The answer to a message from outside; nobody's, if the process that let it in has ended.
    pub(crate) fn answer_ingress(&mut self, ingress: CallId, reply: Result<Vec<u8>, Reject>) {
        if let Some(status) = self.ingress.get_mut(&ingress) {
            status.reply.get_or_insert(reply);
        }
    }
}

/// Of a call whose answer nobody can wait for: not one of the IC's codes.
const UNANSWERED: u16 = 600;
