//! Queries, and trees of them: a composite query may call queries of other canisters, and those again.
//!
//! Invariants:
//! - Nothing of a query stays: what it and its callbacks did to their canister is taken back when it ends.
//! - Every query of a tree finds its canister as it was before the tree, whatever other queries of the tree do there.
//! - A tree ends at its depth, its instructions, or when nothing of it is open.

use std::collections::{BTreeMap, VecDeque};

use bedstone_engine::{
    CallInfo, Callback, Entry, Error, Message, Outcome, OutgoingCall, Principal, Replica, Response, RunState,
};

use crate::calls::Refusal;
use crate::deliver::{code, not_running};
use crate::reject::Reject;
use crate::saved::Slot;
use crate::subnet::{Call, Receipt, Subnet, no_such_canister, receipt};

/// How deep calls may go, the first query included.
const DEPTH_MAX: u32 = 6;
/// Instructions of a whole tree.
const TREE_INSTRUCTIONS: u64 = 5_000_000_000;
/// What each call counts besides its instructions.
const CALL_OVERHEAD: u64 = 50_000_000;

/// A tree of queries.
struct Tree {
    /// Instructions left.
    left: u64,
    /// Instructions of all its canisters.
    used: u64,
}

/// A query, as its canister gets it.
struct Asked<'a> {
    canister: Principal,
    method: &'a str,
    arg: &'a [u8],
    caller: Principal,
    depth: u32,
}

impl Subnet {
    /// Executes a query call.
    pub(crate) fn query(&mut self, call: &Call) -> Result<Receipt, Error> {
        if call.canister == Principal::management_canister() {
            return self.query_management(call);
        }
        let mut tree = Tree { left: TREE_INSTRUCTIONS, used: 0 };
        let asked = Asked {
            canister: call.canister,
            method: &call.method,
            arg: &call.arg,
            caller: call.caller,
            depth: 1,
        };
        let mut receipt = Receipt::of(Ok(Vec::new()));
        let answer = self.answer_query(&asked, &mut tree, &mut receipt);
        receipt.tree_instructions = tree.used;
        receipt.reply = answer?;
        Ok(receipt)
    }

    /// Runs a query and everything that it calls, on its canister as it was before the tree.
    fn answer_query(
        &mut self,
        asked: &Asked<'_>,
        tree: &mut Tree,
        receipt: &mut Receipt,
    ) -> Result<Result<Vec<u8>, Reject>, Error> {
        let id = asked.canister;
        let aside = match self.awake(id)? {
            Some(canister) => canister.lay_query_aside()?,
            None => None,
        };
        let answer = self.answer_afresh(asked, tree, receipt);
        if let Some(canister) = self.awake(id)? {
            canister.end_query_tree()?;
            if let Some(aside) = aside {
                canister.resume_query(aside)?;
            }
        }
        answer
    }

    /// Runs a query and everything that it calls. What canister `asked.canister` itself used goes into the receipt.
    fn answer_afresh(
        &mut self,
        asked: &Asked<'_>,
        tree: &mut Tree,
        receipt: &mut Receipt,
    ) -> Result<Result<Vec<u8>, Reject>, Error> {
        let (id, time_nanos) = (asked.canister, self.time_nanos);
        let Some(canister) = self.awake(id)? else { return Ok(Err(no_such_canister(id))) };
        let state = canister.system().settings.run_state;
        if state != RunState::Running
            && let Some(reject) = not_running(id, state)
        {
            return Ok(Err(reject));
        }
        let call = CallInfo {
            instructions_max: Some(tree.left),
            certified: asked.depth == 1,
            ..CallInfo::default()
        };
        let (entry, caller) = (Entry::Query(asked.method), asked.caller);
        let outcome = canister.execute(&Message { entry, arg: asked.arg, caller, time_nanos, call })?;
        let mut answer = None;
        let mut used = outcome.instructions;
        let mut open = VecDeque::new();
        take(outcome, id, tree, receipt, &mut answer, &mut open);
        while let Some(call) = open.pop_front() {
            let OutgoingCall { callee, method, arg, on_reply, on_reject, on_cleanup, .. } = call;
            let payload = self.answer_call(id, callee, &method, &arg, asked.depth, tree)?;
            let (closure, arg, reject) = match &payload {
                Ok(bytes) => (on_reply, bytes.as_slice(), None),
                Err(refusal) => (on_reject, &[][..], Some((refusal.code, refusal.text.as_str()))),
            };
            let call = CallInfo {
                reject,
                answered: answer.as_ref().is_some_and(Result::is_ok),
                instructions: used,
                instructions_max: Some(tree.left),
                certified: asked.depth == 1,
                ..CallInfo::default()
            };
            let entry = Entry::Callback(Callback { closure, cleanup: on_cleanup, composite: true });
            let canister = self.awake(id)?.expect("it just ran");
            let outcome = canister.execute(&Message { entry, arg, caller, time_nanos, call })?;
            used += outcome.instructions;
            take(outcome, id, tree, receipt, &mut answer, &mut open);
        }
        Ok(answer.unwrap_or_else(|| Err(silent(id))))
    }

    /// Answers one call of a composite query.
    fn answer_call(
        &mut self,
        caller: Principal,
        callee: Principal,
        method: &str,
        arg: &[u8],
        depth: u32,
        tree: &mut Tree,
    ) -> Result<Result<Vec<u8>, Refusal>, Error> {
        let refuse = |number: u16, text: String| {
            let reject = Reject::new(number, text);
            Refusal {
                code: reject.code.into(),
                text: format!("{}: {}", reject.error_code_text(), reject.message),
            }
        };
        if depth >= DEPTH_MAX {
            let text = "Composite query calls exceeded the maximum call depth.".to_owned();
            return Ok(Err(refuse(525, text)));
        }
        if tree.left <= CALL_OVERHEAD {
            let text = "Composite query calls exceeded the instruction limit.".to_owned();
            return Ok(Err(refuse(526, text)));
        }
        tree.left -= CALL_OVERHEAD;
        let asked = Asked { canister: callee, method, arg, caller, depth: depth + 1 };
        let mut elsewhere = Receipt::of(Ok(Vec::new()));
        let answer = self.answer_query(&asked, tree, &mut elsewhere)?;
        Ok(answer.map_err(|reject| match reject.error_code {
            406 => Refusal { code: code::CANISTER_REJECT, text: reject.message },
            number => refuse(number, reject.message),
        }))
    }
}

/// Takes over what one execution of a tree's canister did.
fn take(
    outcome: Outcome,
    id: Principal,
    tree: &mut Tree,
    receipt: &mut Receipt,
    answer: &mut Option<Result<Vec<u8>, Reject>>,
    open: &mut VecDeque<OutgoingCall>,
) {
    tree.left = tree.left.saturating_sub(outcome.instructions);
    tree.used += outcome.instructions;
    receipt.instructions += outcome.instructions;
    receipt.heap_pages_dirtied += outcome.heap_pages_dirtied;
    receipt.stable_pages_read += outcome.stable_pages_accessed;
    receipt.stable_pages_dirtied += outcome.stable_pages_dirtied;
    receipt.log.extend(outcome.log);
    open.extend(outcome.calls);
    match outcome.response {
        Response::Reply(bytes) => *answer = Some(Ok(bytes)),
        Response::Reject(text) => *answer = Some(Err(Reject::new(406, text))),
        Response::None => {}
        // Counts only if nothing else answers.
        Response::Trapped(fault) => {
            if open.is_empty() && answer.is_none() {
                *answer = Some(Err(Reject::of_fault(&fault, id)));
            }
        }
    }
}

/// Copies of canisters that one thread answers queries with.
#[derive(Debug, Default)]
pub struct Replicas {
    /// With the number of the use.
    by_canister: BTreeMap<Principal, (Replica, u64)>,
    uses: u64,
}

/// Most copies that a thread keeps.
const REPLICAS_MAX: usize = 16;

impl Replicas {
    fn take(&mut self, id: Principal) -> Option<Replica> {
        self.by_canister.remove(&id).map(|(replica, _)| replica)
    }

    fn keep(&mut self, id: Principal, replica: Replica) {
        self.uses += 1;
        self.by_canister.insert(id, (replica, self.uses));
        if self.by_canister.len() > REPLICAS_MAX {
            let oldest = self.by_canister.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.map(|id| self.by_canister.remove(&id));
        }
    }
}

impl Subnet {
    /// Answers a query beside others: while nobody has the subnet to change it, any number of threads may, each with
    /// replicas of its own. `None` if the query has to be given to [`Subnet::call`].
    ///
    /// # Errors
    /// If this machine fails.
    pub fn query_beside(&self, call: &Call, replicas: &mut Replicas) -> Result<Option<Receipt>, Error> {
        let id = call.canister;
        let Some(Slot::Awake { canister, .. }) = self.canisters.get(&id) else { return Ok(None) };
        if canister.system().settings.run_state != RunState::Running {
            return Ok(None);
        }
        let replica = match replicas.take(id) {
            Some(replica) => Some(replica),
            None => canister.replica()?,
        };
        let Some(mut replica) = replica else { return Ok(None) };
        let message = Message {
            entry: Entry::Query(&call.method),
            arg: &call.arg,
            caller: call.caller,
            time_nanos: self.time_nanos,
            call: CallInfo { certified: true, ..CallInfo::default() },
        };
        let outcome = canister.query_on(&mut replica, &message)?;
        replicas.keep(id, replica);
        Ok(outcome.map(|outcome| {
            receipt(outcome, |response| match response {
                Response::Reply(bytes) => Ok(bytes),
                Response::Reject(text) => Err(Reject::new(406, text)),
                Response::None => Err(silent(id)),
                Response::Trapped(fault) => Err(Reject::of_fault(&fault, id)),
            })
        }))
    }
}

/// Of a query that did not answer.
fn silent(id: Principal) -> Reject {
    Reject::new(506, format!("Canister {id} did not produce a response"))
}
