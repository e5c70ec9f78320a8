//! The same messages to the same module in three networks that differ in how stable memory is reached.
//!
//! - A message goes to all three before the next one, each time in another order, so that the machine's moods hit all
//!   alike.
//! - Time is what the execution took inside the network: encoding, decoding and the hand-over between threads don't count.
//! - Replies and instruction counts are compared message by message.

use std::time::Duration;

use bedstone::{Call, CallKind, Install, InstallMode, Network, Principal, StableAccess, StableMemory};

use crate::output;

/// A way to reach stable memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Host functions that look the canister's heap up at each access.
    UsualHost,
    /// Host functions that keep it at hand: what `--stable host` is.
    BestHost,
    /// Direct Wasm operations: what `--stable native` is.
    Native,
}

/// All ways; measurements are kept in this order.
pub const WAYS: [Way; 3] = [Way::UsualHost, Way::BestHost, Way::Native];

impl Way {
    fn network(self) -> Result<Network, bedstone::Error> {
        let builder = Network::builder();
        match self {
            Self::UsualHost => builder.stable(StableAccess::Host).usual_host_functions(true),
            Self::BestHost => builder.stable(StableAccess::Host),
            Self::Native => builder.stable(StableAccess::Native),
        }
        .build()
    }
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Message {
    /// The method.
    pub method: String,
    /// Candid bytes.
    pub arg: Vec<u8>,
    /// Update or query.
    pub kind: CallKind,
}

/// Three networks with one canister each, of the same module.
pub struct SideBySide {
    lanes: Vec<Lane>,
    messages: usize,
    instructions_equal: bool,
    replies_equal: bool,
}

/// One of the three.
struct Lane {
    way: Way,
    network: Network,
    canister: Principal,
    wall: Vec<Duration>,
    instructions: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// In the order of [`WAYS`].
    pub lanes: Vec<MeasuredLane>,
    /// Whether every message, the installation and the upgrade cost the same number of instructions in all lanes.
    pub instructions_equal: bool,
    /// Whether every message got the same reply in all lanes.
    pub replies_equal: bool,
}

/// What was measured in one network.
#[derive(Debug)]
pub struct MeasuredLane {
    /// Which.
    pub way: Way,
    /// Time of each message.
    pub wall: Vec<Duration>,
    /// Instructions of all messages together.
    pub instructions: u64,
    /// The stable memory at the end.
    pub stable: StableMemory,
}

impl SideBySide {
    /// Three networks, each with an empty canister.
    pub fn new() -> anyhow::Result<Self> {
        let lanes = WAYS.iter().map(|way| -> anyhow::Result<Lane> {
            let network = way.network()?;
            let canister = network.create_canister()?;
            Ok(Lane { way: *way, network, canister, wall: Vec::new(), instructions: 0 })
        });
        let lanes = lanes.collect::<anyhow::Result<_>>()?;
        Ok(Self { lanes, messages: 0, instructions_equal: true, replies_equal: true })
    }

    /// One of the networks; what it compiles need not be compiled again.
    pub fn any_network(&self) -> &Network {
        &self.lanes[0].network
    }

    /// Installs the module in the empty canisters.
    pub fn install(&mut self, module: &[u8], init: &[u8]) -> anyhow::Result<()> {
        self.install_all(InstallMode::Install, module, init)
    }

    /// Upgrades all canisters to the module they have.
    pub fn upgrade(&mut self, module: &[u8], arg: &[u8]) -> anyhow::Result<()> {
        let lane = &self.lanes[0];
        let wasm_memory_persistence = lane.network.both_persist_heap(lane.canister, module)?;
        let mode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence };
        self.install_all(mode, module, arg)
    }

    fn install_all(&mut self, mode: InstallMode, module: &[u8], arg: &[u8]) -> anyhow::Result<()> {
        let what =
            if mode == InstallMode::Install { "the installation failed" } else { "the upgrade failed" };
        let mut counts = Vec::with_capacity(self.lanes.len());
        for lane in &mut self.lanes {
            let (canister, caller) = (lane.canister, Principal::anonymous());
            let install = Install { canister, mode, module: module.to_vec(), arg: arg.to_vec(), caller };
            let receipt = lane.network.install_code(install)?;
            receipt.reply.map_err(|reject| output::rejected(what, reject))?;
            counts.push(receipt.instructions);
        }
        self.instructions_equal &= all_equal(&counts);
        Ok(())
    }

    /// Sends a message to all three and measures.
    pub fn send(&mut self, message: &Message) -> anyhow::Result<()> {
        let first = self.messages % self.lanes.len();
        self.messages += 1;
        let mut results = Vec::with_capacity(self.lanes.len());
        for offset in 0..self.lanes.len() {
            let index = (first + offset) % self.lanes.len();
            let lane = &mut self.lanes[index];
            let receipt = lane.network.call(lane.call(message))?;
            lane.wall.push(receipt.wall);
            lane.instructions += receipt.instructions;
            results.push((receipt.instructions, receipt.reply));
        }
        let (counts, replies): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        self.instructions_equal &= all_equal(&counts);
        self.replies_equal &= all_equal(&replies);
        for reply in replies {
            let what = || format!("message {}, a call of {}, gave no reply", self.messages, message.method);
            reply.map_err(|reject| output::rejected(what(), reject))?;
        }
        Ok(())
    }

    /// Sends a message to all three without measuring, and returns the replies.
    pub fn ask(&mut self, message: &Message) -> anyhow::Result<Vec<Vec<u8>>> {
        let what = || format!("a call of {} gave no reply", message.method);
        let ask = |lane: &Lane| -> anyhow::Result<Vec<u8>> {
            lane.network.call(lane.call(message))?.reply.map_err(|reject| output::rejected(what(), reject))
        };
        let replies = self.lanes.iter().map(ask).collect::<anyhow::Result<Vec<_>>>()?;
        self.replies_equal &= all_equal(&replies);
        Ok(replies)
    }

    /// The end: hashes the stable memories.
    pub fn finish(self) -> anyhow::Result<Measured> {
        let (instructions_equal, replies_equal) = (self.instructions_equal, self.replies_equal);
        let lanes = self.lanes.into_iter().map(|lane| -> anyhow::Result<MeasuredLane> {
            let stable = lane.network.stable_memory(lane.canister)?;
            Ok(MeasuredLane { way: lane.way, wall: lane.wall, instructions: lane.instructions, stable })
        });
        Ok(Measured { lanes: lanes.collect::<anyhow::Result<_>>()?, instructions_equal, replies_equal })
    }
}

impl Lane {
    fn call(&self, message: &Message) -> Call {
        Call {
            canister: self.canister,
            method: message.method.clone(),
            arg: message.arg.clone(),
            caller: Principal::anonymous(),
            kind: message.kind,
        }
    }
}

impl Measured {
    /// One of the three.
    pub fn lane(&self, way: Way) -> &MeasuredLane {
        self.lanes.iter().find(|lane| lane.way == way).expect("all ways are measured")
    }

    /// Whether all stable memories have the same bytes.
    pub fn stable_equal(&self) -> bool {
        self.lanes.windows(2).all(|pair| pair[0].stable == pair[1].stable)
    }

    /// How many times faster native is than `other`: the median over the messages.
    pub fn ratio(&self, other: Way) -> f64 {
        let pairs = self.lane(other).wall.iter().zip(&self.lane(Way::Native).wall);
        median(pairs.map(|(other, native)| quotient(*other, *native)).collect())
    }

    /// The same for the time of all messages together.
    pub fn ratio_of_sums(&self, other: Way) -> f64 {
        quotient(self.lane(other).wall.iter().sum(), self.lane(Way::Native).wall.iter().sum())
    }
}

impl MeasuredLane {
    /// Milliseconds of each message.
    pub fn milliseconds(&self) -> Vec<f64> {
        self.wall.iter().map(|wall| wall.as_secs_f64() * 1e3).collect()
    }

    /// Milliseconds of the median message.
    pub fn median_milliseconds(&self) -> f64 {
        median(self.milliseconds())
    }
}

fn quotient(dividend: Duration, divisor: Duration) -> f64 {
    // A clock may be too coarse for a small message; its tick is not.
    dividend.as_secs_f64() / divisor.max(Duration::from_nanos(1)).as_secs_f64()
}

/// The middle one, or between the two in the middle; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
