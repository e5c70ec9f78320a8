//! The IC's limits: numbers only, in three groups: what a module may be, what a message may use, what a canister may
//! keep.
//!
//! Invariants:
//! - Every value is inclusive: the limit itself is allowed.
//! - The unit stands in the name. "Pages" without more are operating-system pages of 4 KiB; Wasm pages of 64 KiB are
//!   called so.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE_BYTES: u64 = 4 * KIB;
const WASM_PAGE_BYTES: u64 = 64 * KIB;
const MILLION: u64 = 1_000_000;
const BILLION: u64 = 1_000_000_000;

// What a module may be.

/// An uncompressed module: 100 MiB.
pub const MODULE_BYTES_MAX: u64 = 100 * MIB;
/// The code section of a module, without its count of functions: 11 MiB.
pub const CODE_SECTION_BYTES_MAX: u64 = 11 * MIB;
/// Functions that a module defines; imported ones don't count.
pub const FUNCTIONS_MAX: u64 = 50_000;
/// Globals that a module defines.
pub const GLOBALS_MAX: u64 = 1000;
/// Tables, whether imported or defined.
pub const TABLES_MAX: u64 = 1;
/// Memories that a module declares where several are allowed, which the IC does not: 100 by wasmparser, less the two that
/// are injected.
pub const MEMORIES_MAX: u64 = 98;
/// Elements with which a table starts. Tables never grow.
pub const TABLE_ELEMENTS_MAX: u64 = MILLION;
/// Operators of one function, the final `end` included. Each adds at least 1 to the function's complexity, so
/// [`FUNCTION_COMPLEXITY_MAX`] holds this limit too.
pub const FUNCTION_OPERATORS_MAX: u64 = MILLION;
/// Sum of [`crate::cost::complexity`] over the operators of one function.
pub const FUNCTION_COMPLEXITY_MAX: u64 = MILLION;
/// Exported methods of all three kinds together.
pub const METHODS_MAX: u64 = 1000;
/// Bytes of the names of all methods together.
pub const METHOD_NAME_BYTES_MAX: u64 = 20_000;
/// Custom sections called `icp:public …` or `icp:private …`.
pub const METADATA_SECTIONS_MAX: u64 = 16;
/// Payloads and names (without the `icp:…` prefix) of those sections together: 1 MiB.
pub const METADATA_BYTES_MAX: u64 = MIB;
/// Stack on which Wasm code runs: 5 MiB.
pub const STACK_BYTES_MAX: u64 = 5 * MIB;

// What a message may use.

/// Update, heartbeat, timer or callback on an application subnet.
pub const MESSAGE_INSTRUCTIONS_MAX: u64 = 40 * BILLION;
/// Query, replicated or not; also all queries of a composite query's call graph together.
pub const QUERY_INSTRUCTIONS_MAX: u64 = 5 * BILLION;
/// Install, upgrade or reinstall: all their phases and the compile charge together.
pub const INSTALL_INSTRUCTIONS_MAX: u64 = 300 * BILLION;
/// `canister_inspect_message`.
pub const INSPECT_MESSAGE_INSTRUCTIONS_MAX: u64 = 200 * MILLION;
/// One slice of a message that runs over several rounds; no single memory operation may exceed it by more than the
/// following slices can carry.
pub const SLICE_INSTRUCTIONS_MAX: u64 = 2 * BILLION;
/// Share of a message's instructions for a callback that may be followed by a cleanup, in percent.
pub const CALLBACK_INSTRUCTIONS_PERCENT: u64 = 95;
/// Charged for each call of a composite query's call graph.
pub const COMPOSITE_CALL_INSTRUCTIONS: u64 = 50 * MILLION;
/// Depth of a composite query's call graph, in calls.
pub const COMPOSITE_DEPTH_CALLS_MAX: u64 = 6;
/// Stable pages that a message may access, and those that it may write: 2 GiB each.
pub const MESSAGE_STABLE_PAGES_MAX: u64 = 2 * GIB / PAGE_BYTES;
/// The same for `canister_init`, `canister_pre_upgrade` and `canister_post_upgrade`: 8 GiB.
pub const UPGRADE_STABLE_PAGES_MAX: u64 = 8 * GIB / PAGE_BYTES;
/// The same for queries, `canister_inspect_message` and callbacks of composite queries: 1 GiB.
pub const QUERY_STABLE_PAGES_MAX: u64 = GIB / PAGE_BYTES;
/// Ingress message, reply and payload of a call: 2 MiB.
pub const PAYLOAD_BYTES_MAX: u64 = 2 * MIB;
/// Reply to a query that runs on one node only: 3 MiB.
pub const QUERY_REPLY_BYTES_MAX: u64 = 3 * MIB;
/// Method name and payload of a call before it is known where it goes: 10 MiB.
pub const CALL_BYTES_MAX: u64 = 10 * MIB;
/// Method name that `call_new` takes.
pub const CALL_METHOD_NAME_BYTES_MAX: u64 = 20_000;
/// Timeout of `call_with_best_effort_response`; longer ones are clamped.
pub const BEST_EFFORT_TIMEOUT_SECONDS_MAX: u64 = 300;
/// Text of a reject or an error: 8 KiB.
pub const ERROR_BYTES_MAX: u64 = 8 * KIB;
/// Part of a text that `debug_print` and `trap` look at: 32 KiB.
pub const PRINT_BYTES_MAX: u64 = 32 * KIB;

// What a canister may keep.

/// Heap of a 32-bit canister: 4 GiB.
pub const HEAP32_BYTES_MAX: u64 = 4 * GIB;
/// Heap of a 64-bit canister: 6 GiB.
pub const HEAP64_BYTES_MAX: u64 = 6 * GIB;
/// [`HEAP64_BYTES_MAX`] in Wasm pages: 98,304.
pub const HEAP64_WASM_PAGES_MAX: u64 = HEAP64_BYTES_MAX / WASM_PAGE_BYTES;
/// `wasm_memory_limit` of a canister that did not set it: 3 GiB.
pub const WASM_MEMORY_LIMIT_DEFAULT_BYTES: u64 = 3 * GIB;
/// Stable memory: 500 GiB.
pub const STABLE_BYTES_MAX: u64 = 500 * GIB;
/// [`STABLE_BYTES_MAX`] in Wasm pages: 8,192,000.
pub const STABLE_WASM_PAGES_MAX: u64 = STABLE_BYTES_MAX / WASM_PAGE_BYTES;
/// Stable memory that the 32-bit functions can reach, in Wasm pages: 4 GiB.
pub const STABLE32_WASM_PAGES_MAX: u64 = 4 * GIB / WASM_PAGE_BYTES;
/// Certified data.
pub const CERTIFIED_DATA_BYTES_MAX: u64 = 32;
/// The canister's log, each record counting [`LOG_RECORD_BYTES`] besides its text: 4 KiB.
pub const LOG_BYTES_MAX: u64 = 4 * KIB;
/// What a log record counts besides its text.
pub const LOG_RECORD_BYTES: u64 = 40;
/// Controllers of a canister.
pub const CONTROLLERS_MAX: u64 = 10;
/// Snapshots of a canister.
pub const SNAPSHOTS_MAX: u64 = 10;
/// Environment variables of a canister.
pub const ENVIRONMENT_VARIABLES_MAX: u64 = 20;
/// Name of an environment variable, and its value.
pub const ENVIRONMENT_VARIABLE_BYTES_MAX: u64 = 128;
/// Name of an environment variable that the system functions look up.
pub const ENVIRONMENT_VARIABLE_LOOKUP_BYTES_MAX: u64 = 100;

const _: () = assert!(CODE_SECTION_BYTES_MAX == 11_534_336);
const _: () = assert!(HEAP64_WASM_PAGES_MAX == 98_304);
const _: () = assert!(STABLE_WASM_PAGES_MAX == 8_192_000);
const _: () = assert!(MESSAGE_STABLE_PAGES_MAX == 524_288);
const _: () = assert!(UPGRADE_STABLE_PAGES_MAX == 2_097_152);
const _: () = assert!(QUERY_STABLE_PAGES_MAX == 262_144);
const _: () = assert!(FUNCTION_COMPLEXITY_MAX <= FUNCTION_OPERATORS_MAX);

// Room for what the rewriter adds. Engines refuse modules beyond these sizes whatever the IC says, so a module that would
// pass them only after rewriting is refused by name, not turned into something that does not validate.

/// Most types. Wasm engines take 1,000,000 and turn each into some 250 bytes while they validate; the smallest takes 3 in
/// the module. This many keep the memory for a module within 16 times its size and 16 MiB, and are more than functions can
/// have.
pub const TYPES_MAX: u64 = 60_000;
const _: () = assert!(TYPES_MAX > FUNCTIONS_MAX);
/// Most exports, of which only [`METHODS_MAX`] can be methods; bounded for the same reason, at some 180 bytes each.
pub const EXPORTS_MAX: u64 = 100_000;
/// Most locals of a function, parameters included: 50,000 by wasmparser, less the temporaries of the rewriting.
pub const FUNCTION_LOCALS_MAX: u64 = 49_980;
/// Largest function body after rewriting, in bytes: wasmparser's limit.
pub const REWRITTEN_FUNCTION_BYTES_MAX: u64 = 7_654_321;
