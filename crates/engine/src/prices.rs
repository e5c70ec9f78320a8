//! What things cost in cycles: the price list of a subnet, and what a canister must keep.
//!
//! Instructions are counted elsewhere ([`CostTable`](bedstone_instrument::CostTable)); here they become cycles. Invariants:
//! - Prices are those of a subnet of 13 nodes, from the IC's `CyclesAccountManager` of 2025-10.
//! - With prices of zero nothing is ever refused for want of cycles.

use std::sync::Arc;

use ic_principal::Principal;

use crate::system::SystemState;

/// Longest answer of a call, in bytes: what is set aside for its transmission.
const RESPONSE_BYTES_MAX: u128 = 2 << 20;
const NODES: u128 = 13;

/// See the module's documentation. All in cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CyclePrices {
    /// Each execution.
    pub execution: u128,
    /// An instruction of a 32-bit module; of a 64-bit one it costs twice as much.
    pub instruction: u128,
    /// A message from outside.
    pub ingress: u128,
    /// Each byte of its method's name and argument.
    pub ingress_byte: u128,
    /// A call to a canister.
    pub call: u128,
    /// Each byte of its method's name, its argument and its answer.
    pub call_byte: u128,
    /// A GiB of memory for a second.
    pub gib_second: u128,
    /// A percent of compute allocation for a second.
    pub compute_percent_second: u128,
    /// Making a canister.
    pub creation: u128,
    /// A signature with a threshold key.
    pub signature: u128,
    /// An HTTP outcall.
    pub http_request: u128,
    /// Each byte of its request.
    pub http_request_byte: u128,
    /// Each byte of the largest response that it allows.
    pub http_response_byte: u128,
}

impl CyclePrices {
    /// An application subnet's.
    pub const APPLICATION: Self = Self {
        execution: 5_000_000,
        instruction: 1,
        ingress: 1_200_000,
        ingress_byte: 2_000,
        call: 260_000,
        call_byte: 1_000,
        gib_second: 127_000,
        compute_percent_second: 10_000_000,
        creation: 500_000_000_000,
        signature: 10_000_000_000,
        http_request: (3_000_000 + 60_000 * NODES) * NODES,
        http_request_byte: 400 * NODES,
        http_response_byte: 800 * NODES,
    };

    /// Nothing costs anything, as on system subnets.
    pub const FREE: Self = Self {
        execution: 0,
        instruction: 0,
        ingress: 0,
        ingress_byte: 0,
        call: 0,
        call_byte: 0,
        gib_second: 0,
        compute_percent_second: 0,
        creation: 0,
        signature: 0,
        http_request: 0,
        http_request_byte: 0,
        http_response_byte: 0,
    };

    /// An execution of so many instructions.
    pub fn executed(&self, instructions: u64, memory64: bool) -> u128 {
        self.execution + u128::from(instructions) * self.instruction * if memory64 { 2 } else { 1 }
    }

    /// The transmission of a request of so many bytes, name and argument.
    pub fn request(&self, bytes: u64) -> u128 {
        self.call + u128::from(bytes) * self.call_byte
    }

    /// What is set aside for the transmission of an answer.
    pub fn response_max(&self) -> u128 {
        RESPONSE_BYTES_MAX * self.call_byte
    }

    /// Of [`CyclePrices::response_max`], what comes back after an answer of so many bytes.
    pub fn response_refund(&self, prepaid: u128, bytes: u64) -> u128 {
        prepaid.saturating_sub(u128::from(bytes) * self.call_byte)
    }

    /// A message from outside with so many bytes, name and argument.
    pub fn ingress(&self, bytes: u64) -> u128 {
        self.ingress + u128::from(bytes) * self.ingress_byte
    }

    /// An HTTP outcall with a request of so many bytes, and a response of at most so many.
    pub fn http_outcall(&self, request: u64, response: u64) -> u128 {
        let bytes =
            u128::from(request) * self.http_request_byte + u128::from(response) * self.http_response_byte;
        self.http_request + bytes
    }

    /// Idle: storage of so many bytes and the compute allocation, for so many seconds.
    pub fn idle(&self, system: &SystemState, memory_bytes: u64, seconds: u64) -> u128 {
        let bytes = memory_bytes.max(system.settings.memory_allocation);
        let storage = (u128::from(bytes) * self.gib_second * u128::from(seconds)) >> 30;
        let compute = u128::from(system.settings.compute_allocation) * self.compute_percent_second;
        storage + compute * u128::from(seconds)
    }

    /// The balance below which a canister is frozen.
    pub fn freezing_limit(&self, system: &SystemState, memory_bytes: u64) -> u128 {
        let idle = self.idle(system, memory_bytes, system.settings.freezing_threshold);
        idle.saturating_sub(system.settings.reserved_cycles)
    }
}

/// Makes the certificate of a canister's certified data, from the canister's id, the data, and the time in nanoseconds since
/// 1970. Asked only when a query wants it.
#[derive(Clone)]
pub struct Certifier(Arc<Certify>);

type Certify = dyn Fn(Principal, &[u8], u64) -> Vec<u8> + Send + Sync;

impl Certifier {
    /// From a function that gives the same bytes for the same arguments.
    pub fn new(certify: impl Fn(Principal, &[u8], u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(certify))
    }

    pub(crate) fn certificate(&self, canister: Principal, data: &[u8], time_nanos: u64) -> Vec<u8> {
        self.0(canister, data, time_nanos)
    }
}

impl std::fmt::Debug for Certifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certifier")
    }
}

impl PartialEq for Certifier {
    /// It goes with the key, which is compared.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Certifier {}

/// What canisters are told of the subnet that they are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetInfo {
    /// Its id.
    pub id: Principal,
    /// The key by which its answers are certified, in DER.
    pub root_key: Vec<u8>,
    /// Its price list.
    pub prices: CyclePrices,
    /// Certifies what canisters want certified; without it queries find no certificate.
    pub certifier: Option<Certifier>,
}

impl Default for SubnetInfo {
    /// One where nothing costs anything, with an id and a key made up of zeros.
    fn default() -> Self {
        let id = Principal::self_authenticating([0; 133]);
        Self { id, root_key: vec![0; 133], prices: CyclePrices::FREE, certifier: None }
    }
}
