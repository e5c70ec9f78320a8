//! Messages that are sent now and awaited later, rounds, and copies of the network.

use std::time::{Duration, Instant};

use bedstone_subnet::{Call, HttpResponse, MessageId, PendingHttp, Reject, Round};

use crate::error::Error;
use crate::network::{Network, Receipt, timed_since};
use crate::worker::Worker;

impl Network {
    /// Sends an update call without running it: [`Network::tick`] does, or [`Network::await_call`].
    ///
    /// # Errors
    /// [`Error::Rejected`] if it is not let in: there is no such canister, it is stopped, or it refuses the message.
    pub fn submit(&self, call: Call) -> Result<MessageId, Error> {
        let submitted = self.run(move |subnet| Ok(subnet.submit(&call)?))?;
        Ok(submitted?)
    }

    /// Runs rounds until a message is answered; `None` if it waits for something that rounds do not bring about: time, or an
    /// HTTP response. A message is answered once.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn await_call(&self, message: MessageId) -> Result<Option<Receipt>, Error> {
        self.run(move |subnet| {
            let start = Instant::now();
            let receipt = subnet.await_receipt(message)?;
            Ok(receipt.map(|receipt| timed_since(start, receipt)))
        })
    }

    /// Runs one round: calls whose time is over end; timers, heartbeats and hooks run; canisters work on their messages.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn tick(&self) -> Result<Round, Error> {
        self.run(|subnet| Ok(subnet.tick()?))
    }

    /// HTTP requests of canisters that wait for an answer, oldest first.
    pub fn http_requests(&self) -> Vec<PendingHttp> {
        self.worker().run(|subnet| subnet.http_requests())
    }

    /// Answers an HTTP request: its canister goes on in the next round, with what its transform function makes of the
    /// response, or with the reject. Whether there was such a request.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn answer_http(&self, id: u64, response: Result<HttpResponse, Reject>) -> Result<bool, Error> {
        self.run(move |subnet| Ok(subnet.answer_http(id, response)?))
    }

    /// Moves time to a moment, in nanoseconds since 1970, unless it is later already, and runs nothing.
    ///
    /// # Errors
    /// If the disk fails or is full.
    pub fn set_time_nanos(&self, time: u64) -> Result<(), Error> {
        self.run(move |subnet| Ok(subnet.set_time(time)?))
    }

    /// How long until something happens by itself: a timer, or the end of a best-effort call.
    pub fn next_event(&self) -> Option<Duration> {
        let (now, next) = self.worker().run(|subnet| (subnet.time_nanos(), subnet.next_event_nanos()));
        next.map(|next| Duration::from_nanos(next.saturating_sub(now)))
    }

    /// A hash over all that the network is. Two networks that were treated alike have the same. Reads every byte.
    ///
    /// # Errors
    /// If what was saved of a canister cannot be read.
    pub fn state_hash(&self) -> Result<[u8; 32], Error> {
        self.run(|subnet| Ok(subnet.state_hash()?))
    }

    /// A copy of the whole network, in memory: canisters with all their data, calls under way, names, time. Neither sees the
    /// other from then on. Memory is shared until one of them writes it, so that a baseline that took long to prepare
    /// serves any number of tests: the first copy of a canister takes as long as copying its pages, later ones hardly
    /// anything, until it changes.
    ///
    /// # Errors
    /// If this machine has no memory left, and of a network with a state directory: copy the directory instead.
    pub fn fork(&self) -> Result<Network, Error> {
        let twin = self.worker().run(|subnet| subnet.twin())?;
        let twin = twin.ok_or_else(|| {
            Error::Machine(
                "a network with a state directory cannot be forked; close it, copy the directory and open the copy"
                    .to_owned(),
            )
        })?;
        Ok(Network::of(Worker::start(move || Ok(twin))?))
    }
}
