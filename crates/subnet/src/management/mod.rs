//! The management canister: calls to it wait their turn like any other's, and are answered at once or when something else
//! has happened.
//!
//! Invariants:
//! - A letter stays in the store until it is answered: whoever opens the store again finds the request, not its half.

use bedstone_engine::{Error, Principal};

use crate::calls::{CallId, Context, Ingress, Input, Letter, Origin, Request, Sent};
use crate::journal::Journal;
use crate::query::no_management_query;
use crate::reject::Reject;
use crate::subnet::{Call, Receipt, Subnet};

/// A call of the management canister that is not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub context: Context,
    /// The letter that it came with, if it came from a canister.
    letter: Option<CallId>,
}

/// What became of a call.
pub(crate) enum Managed {
    /// It is answered.
    Now(Result<Vec<u8>, Reject>),
    /// Somebody has taken it, and answers it later with [`Subnet::answer_management`].
    #[expect(dead_code, reason = "nothing takes long yet")]
    Later,
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
            Input::Sent(Sent { number, letter: Letter::Request(request) }) => {
                let Request { from, open_call, method, arg, cycles, deadline_nanos, root } = request;
                let origin = Origin::Canister { id: from, open_call };
                let context = Context { cycles, deadline_nanos, root, ..Context::new(origin, from) };
                (Waiting { context, letter: Some(number) }, method, arg)
            }
            Input::Sent(Sent { letter: Letter::Answer(_), .. }) => {
                unreachable!("the management canister calls nobody")
            }
        };
        self.manage(waiting, &method, &arg)?;
        Ok(Some(0))
    }

    /// Does what a call asks for.
    fn manage(&mut self, waiting: Waiting, method: &str, _arg: &[u8]) -> Result<(), Error> {
        let managed =
            Managed::Now(Err(Reject::new(536, format!("Management canister has no method '{method}'"))));
        match managed {
            Managed::Now(answer) => {
                let mut journal = Journal::begin(self.keeper());
                self.answer_management(&waiting, answer, &mut journal);
                self.append_journal(Principal::management_canister(), journal)
            }
            Managed::Later => Ok(()),
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
        if let Some(letter) = waiting.letter {
            journal.delete_letter(letter);
        }
        match (waiting.context.origin, answer) {
            (Origin::Ingress(ingress), answer) => self.answer_ingress(ingress, answer),
            (_, Ok(bytes)) => self.answer_context(management, &waiting.context, Ok(bytes), journal),
            (_, Err(reject)) => self.reject_context(management, &waiting.context, reject, journal),
        }
    }

    /// A query call of the management canister.
    pub(crate) fn query_management(&mut self, call: &Call) -> Result<Receipt, Error> {
        Ok(no_management_query(&call.method))
    }
}
