//! One message, from the mailbox to everything that follows from it: execution, answers, calls of its own.
//!
//! Where every message is kept, all of that is one change of the store: a message is gone from the mailbox exactly if what it
//! did is there. Invariants:
//! - A context is in the map while it waits for answers, and only then.
//! - Cycles are conserved: attached ones are with the caller, in a letter, in a context, or accepted.

use bedstone_engine::store::Room;
use bedstone_engine::{
    CallInfo, Callback, Entry, Error, LowWasmMemoryHook, Message, Outcome, OutgoingCall, Principal, Response,
    RunState,
};

use crate::calls::{
    Answer, CallId, Context, Ingress, Input, Letter, OpenCall, Origin, Refusal, Request, Sent,
};
use crate::journal::Journal;
use crate::reject::Reject;
use crate::subnet::{Subnet, no_such_canister};

/// Reject codes of the IC's specification.
pub(crate) mod code {
    pub const CANISTER_REJECT: u32 = 4;
    pub const UNKNOWN: u32 = 6;
}

/// What a canister works on while one of its messages runs.
struct Work {
    context: Context,
    /// Its number, if it waited for answers before.
    number: Option<CallId>,
}

impl Subnet {
    /// Lets a canister work on the next message in its mailbox; returns the instructions used, `None` if there is none.
    pub(crate) fn take_turn(&mut self, id: Principal) -> Result<Option<u64>, Error> {
        if let Some(store) = self.keeper()
            && store.room().map_err(Error::store)? == Room::Low
        {
            return Err(Error::full());
        }
        let Some(input) = self.parties.get_mut(&id).and_then(|party| party.mailbox.take()) else {
            return Ok(None);
        };
        let mut journal = Journal::begin(self.keeper());
        let used = match input {
            Input::Ingress(ingress) => self.work_on_ingress(id, ingress, &mut journal)?,
            Input::Sent(Sent { number, letter }) => {
                journal.delete_letter(number);
                match letter {
                    Letter::Request(request) => self.work_on_request(id, request, &mut journal)?,
                    Letter::Answer(answer) => self.work_on_answer(id, answer, &mut journal)?,
                }
            }
        };
        self.append_journal(id, journal)?;
        Ok(Some(used))
    }

    /// Runs an entry point that nobody called.
    pub(crate) fn run_task(&mut self, id: Principal, entry: Entry<'_>) -> Result<(), Error> {
        let caller = Principal::management_canister();
        let mut journal = Journal::begin(self.keeper());
        let time_nanos = self.time_nanos;
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        if canister.system().settings.run_state != RunState::Running || !canister.has_method(entry) {
            return Ok(());
        }
        match entry {
            Entry::GlobalTimer => canister.deactivate_timer(),
            Entry::LowWasmMemory => {
                canister.system_mut().settings.low_wasm_memory_hook = LowWasmMemoryHook::Executed;
            }
            _ => {}
        }
        let message = Message { entry, arg: &[], caller, time_nanos, call: CallInfo::default() };
        let outcome = self.execute(id, &message, &mut journal)?;
        let work = Work { context: Context::new(Origin::Task, caller), number: None };
        self.follow_up(id, work, outcome, &mut journal)?;
        self.append_journal(id, journal)
    }

    fn work_on_ingress(
        &mut self,
        id: Principal,
        ingress: Ingress,
        journal: &mut Journal,
    ) -> Result<u64, Error> {
        let context = Context::new(Origin::Ingress(ingress.id), ingress.caller);
        let call = CallInfo::default();
        self.work_on_call(id, context, &ingress.method, &ingress.arg, call, journal)
    }

    fn work_on_request(
        &mut self,
        id: Principal,
        request: Request,
        journal: &mut Journal,
    ) -> Result<u64, Error> {
        let Request { from, open_call, method, arg, cycles, deadline_nanos, root } = request;
        let origin = Origin::Canister { id: from, open_call };
        let context = Context { cycles, deadline_nanos, root, ..Context::new(origin, from) };
        if deadline_nanos > 0 && self.time_nanos > deadline_nanos {
            let refusal = Refusal { code: code::UNKNOWN, text: "IC0601: Message has expired.".to_owned() };
            self.answer_context(id, &context, Err(refusal), journal);
            return Ok(0);
        }
        let call = CallInfo { cycles, deadline_nanos, ..CallInfo::default() };
        self.work_on_call(id, context, &method, &arg, call, journal)
    }

    /// Executes an update method for a new context.
    fn work_on_call(
        &mut self,
        id: Principal,
        context: Context,
        method: &str,
        arg: &[u8],
        call: CallInfo<'_>,
        journal: &mut Journal,
    ) -> Result<u64, Error> {
        let (time_nanos, caller) = (self.time_nanos, context.caller);
        let reject = match self.awake(id)? {
            None => Some(no_such_canister(id)),
            Some(canister) => not_running(id, canister.system().settings.run_state),
        };
        if let Some(reject) = reject {
            self.reject_context(id, &context, reject, journal);
            return Ok(0);
        }
        let message = Message { entry: Entry::Update(method), arg, caller, time_nanos, call };
        let outcome = self.execute(id, &message, journal)?;
        let used = outcome.instructions;
        self.follow_up(id, Work { context, number: None }, outcome, journal)?;
        Ok(used)
    }

    /// Runs the callback that an answer is for.
    fn work_on_answer(&mut self, id: Principal, answer: Answer, journal: &mut Journal) -> Result<u64, Error> {
        let time_nanos = self.time_nanos;
        let open = self.parties.get_mut(&id).and_then(|party| party.open_calls.remove(&answer.open_call));
        if let Some(open) = &open {
            self.deadlines.remove(&(open.deadline_nanos, id, answer.open_call));
        }
        let returned = answer.refund
            + open.as_ref().map_or(0, |open| {
                self.engine.subnet().prices.response_refund(open.prepaid_response, answer.bytes())
            });
        let Some(canister) = self.awake(id)? else { return Ok(0) };
        canister.system_mut().cycles += returned;
        let Some(open) = open else {
            // Answered before, at its deadline. The cycles are back, the rest is nobody's.
            journal.save(canister)?;
            return Ok(0);
        };
        journal.delete_open_call(answer.open_call);
        let open_calls = &mut canister.system_mut().open_calls;
        if let Some(count) = open_calls.get_mut(&open.callee) {
            *count -= 1;
            if *count == 0 {
                open_calls.remove(&open.callee);
            }
        }
        let party = self.parties.get_mut(&id).expect("it had an open call");
        let mut context = party.contexts.remove(&open.context).expect("an open call has a context");
        context.open_calls -= 1;
        let closure = if answer.payload.is_ok() { open.on_reply } else { open.on_reject };
        let callback = Callback { closure, cleanup: open.on_cleanup, composite: false };
        let (arg, reject) = match &answer.payload {
            Ok(bytes) => (bytes.as_slice(), None),
            Err(refusal) => (&[][..], Some((refusal.code, refusal.text.as_str()))),
        };
        let call = CallInfo {
            cycles: context.cycles,
            refunded: answer.refund,
            deadline_nanos: context.deadline_nanos,
            reject,
            answered: context.answered,
            instructions: context.instructions,
            prepaid: Some(open.prepaid_execution),
            ..CallInfo::default()
        };
        let entry = Entry::Callback(callback);
        let message = Message { entry, arg, caller: context.caller, time_nanos, call };
        let outcome = self.execute(id, &message, journal)?;
        let used = outcome.instructions;
        self.follow_up(id, Work { context, number: Some(open.context) }, outcome, journal)?;
        Ok(used)
    }

    /// Executes a message; what it changed goes into the journal, if there is one.
    fn execute(
        &mut self,
        id: Principal,
        message: &Message<'_>,
        journal: &mut Journal,
    ) -> Result<Outcome, Error> {
        self.charge_upkeep(id)?;
        let canister = self.awake(id)?.ok_or_else(|| Error::damaged("a canister that was there is gone"))?;
        let result = match journal.parts() {
            Some((store, change)) => canister.execute_into(message, store, change),
            None => canister.execute(message),
        };
        let outcome = self.or_reload(id, result)?;
        self.watch(id)?;
        Ok(outcome)
    }

    /// Sends what an execution asked for, and answers what it answered.
    fn follow_up(
        &mut self,
        id: Principal,
        work: Work,
        mut outcome: Outcome,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let Work { mut context, mut number } = work;
        context.cycles -= outcome.cycles_accepted;
        context.instructions += outcome.instructions;
        self.note_ingress(&context, &mut outcome);
        for call in std::mem::take(&mut outcome.calls) {
            let number = *number.get_or_insert_with(|| {
                self.last_call += 1;
                self.last_call
            });
            self.send_call(id, (number, context.root), call, journal)?;
            context.open_calls += 1;
        }
        let mut failure = None;
        match outcome.response {
            Response::Reply(bytes) => {
                self.answer_context(id, &context, Ok(bytes), journal);
                (context.answered, context.cycles) = (true, 0);
            }
            Response::Reject(text) => {
                let refusal = Refusal { code: code::CANISTER_REJECT, text };
                self.answer_context(id, &context, Err(refusal), journal);
                (context.answered, context.cycles) = (true, 0);
            }
            Response::None => {}
            Response::Trapped(fault) => failure = Some(Reject::of_fault(&fault, id)),
        }
        if context.open_calls > 0 {
            let number = number.expect("it made calls");
            journal.put_context(number, id, &context);
            self.parties.entry(id).or_default().contexts.insert(number, context);
            return Ok(());
        }
        if !context.answered {
            let reject = failure.unwrap_or_else(|| no_answer(id, context.origin));
            self.reject_context(id, &context, reject, journal);
        }
        if let Some(number) = number {
            journal.delete_context(number);
        }
        self.context_ended(id, journal)
    }

    /// Puts a call on its way.
    fn send_call(
        &mut self,
        id: Principal,
        (context, root): (CallId, CallId),
        call: OutgoingCall,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        self.last_call += 1;
        let open_call = self.last_call;
        let deadline_nanos =
            call.timeout_seconds.map_or(0, |seconds| self.time_nanos + u64::from(seconds) * 1_000_000_000);
        if deadline_nanos > 0 {
            self.deadlines.insert((deadline_nanos, id, open_call));
        }
        let open = OpenCall {
            context,
            callee: call.callee,
            on_reply: call.on_reply,
            on_reject: call.on_reject,
            on_cleanup: call.on_cleanup,
            prepaid_execution: call.prepaid_execution,
            prepaid_response: call.prepaid_response,
            deadline_nanos,
        };
        journal.put_open_call(open_call, id, &open);
        self.parties.entry(id).or_default().open_calls.insert(open_call, open);
        let canister = self.awake(id)?.expect("it just ran");
        *canister.system_mut().open_calls.entry(call.callee).or_default() += 1;
        let OutgoingCall { callee, method, arg, cycles, .. } = call;
        let request = Request { from: id, open_call, method, arg, cycles, deadline_nanos, root };
        self.send(id, callee, Letter::Request(request), journal);
        Ok(())
    }

    /// Puts a letter into a mailbox.
    pub(crate) fn send(&mut self, from: Principal, to: Principal, letter: Letter, journal: &mut Journal) {
        self.last_call += 1;
        let number = self.last_call;
        journal.put_letter(number, from, to, &letter);
        self.parties.entry(to).or_default().mailbox.add(from, Sent { number, letter });
        self.ready(to);
    }

    /// Answers whoever called, if somebody did; a reject is put into the words for whom it is.
    pub(crate) fn reject_context(
        &mut self,
        id: Principal,
        context: &Context,
        reject: Reject,
        journal: &mut Journal,
    ) {
        match context.origin {
            Origin::Ingress(ingress) => self.answer_ingress(ingress, Err(reject)),
            Origin::Canister { .. } => {
                let text = format!("{}: {}", reject.error_code_text(), reject.message);
                self.answer_context(id, context, Err(Refusal { code: reject.code.into(), text }), journal);
            }
            Origin::Task => {}
        }
    }

    /// Answers whoever called, if somebody did.
    pub(crate) fn answer_context(
        &mut self,
        id: Principal,
        context: &Context,
        payload: Result<Vec<u8>, Refusal>,
        journal: &mut Journal,
    ) {
        match context.origin {
            Origin::Ingress(ingress) => {
                let reply = payload.map_err(|refusal| match refusal.code {
                    code::CANISTER_REJECT => Reject::new(406, refusal.text),
                    other => Reject::new(u16::try_from(other * 100).expect("a digit"), refusal.text),
                });
                self.answer_ingress(ingress, reply);
            }
            Origin::Canister { id: caller, open_call } => {
                let answer = Answer { open_call, refund: context.cycles, payload };
                self.send(id, caller, Letter::Answer(answer), journal);
            }
            Origin::Task => {}
        }
    }

    /// Answers best-effort calls whose time is over.
    pub(crate) fn expire_calls(&mut self) -> Result<(), Error> {
        while let Some((deadline, id, open_call)) = self.deadlines.first().copied() {
            if deadline > self.time_nanos {
                break;
            }
            self.deadlines.pop_first();
            let party = self.parties.get(&id);
            let Some(open) = party.and_then(|party| party.open_calls.get(&open_call)) else { continue };
            let callee = open.callee;
            let refusal = Refusal { code: code::UNKNOWN, text: "IC0601: Call has timed out.".to_owned() };
            let answer = Answer { open_call, refund: 0, payload: Err(refusal) };
            let mut journal = Journal::begin(self.keeper());
            self.send(callee, id, Letter::Answer(answer), &mut journal);
            self.append_journal(id, journal)?;
        }
        Ok(())
    }

    /// Appends what a message changed, if every message is kept.
    pub(crate) fn append_journal(&mut self, id: Principal, journal: Journal) -> Result<(), Error> {
        let Some((store, change)) = journal.finish() else { return Ok(()) };
        // A change that was not taken did happen in memory.
        let appended = self.append(&store, change);
        self.or_reload(id, appended)?;
        self.shed(id)
    }
}

/// A call that ends without an answer.
fn no_answer(id: Principal, origin: Origin) -> Reject {
    match origin {
        Origin::Ingress(_) => Reject::new(506, format!("Canister {id} did not reply to the call")),
        _ => Reject::new(506, "No response"),
    }
}

/// Why a canister takes no calls, if it takes none.
pub(crate) fn not_running(id: Principal, state: RunState) -> Option<Reject> {
    match state {
        RunState::Running => None,
        RunState::Stopping => Some(Reject::new(509, format!("Canister {id} is stopping"))),
        RunState::Stopped => Some(Reject::new(508, format!("Canister {id} is stopped"))),
    }
}
