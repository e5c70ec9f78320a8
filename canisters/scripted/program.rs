//! Programs for the scripted canister, which runs the bytes it is called with. This one file is the whole tool: pure
//! std, to be included by a test, as the canister itself includes it, with
//!
//! ```ignore
//! #[allow(dead_code, reason = "no test uses all of it")]
//! #[path = "../../../canisters/scripted/program.rs"]
//! mod program;
//! ```
//!
//! A program is a list of operations on a stack of byte strings. A number is a byte string too: its bytes,
//! little-endian, any of the missing ones zero. System functions take the numbers and addresses that are on the stack,
//! the last parameter on top, and leave their result there. For example, a canister that asks another one and passes the
//! answer on, saying so in register 0 first:
//!
//! ```ignore
//! let ask = Call::new(&other, "update")
//!     .argument(&Program::new().reply_with(b"hello"))
//!     .on_reply(Program::new().push(b"R").append(0).msg_arg_data().msg_reply_data_append().msg_reply())
//!     .on_reject(Program::new().push(b"r").append(0).reply_with_reject())
//!     .on_cleanup(Program::new().push(b"c").append(0));
//! network.update(canister, "update", Program::new().call(&ask).bytes());
//! ```
//!
//! - A method called like a system function does the same: it takes byte strings where the function takes ranges, leaves
//!   byte strings where the function fills a buffer, and 16-byte numbers where it takes or writes halves of 128 bits.
//! - [`Program::system`] calls any function with bare numbers, for ranges and callbacks that make no sense, and
//!   [`Program::operation`] adds what has no method of its own.
//! - Registers, stored programs and callbacks' programs are on the canister's heap: a trap takes them back, and an upgrade
//!   forgets them.

/// What the machine can do, with the effect on the stack: values before, then values after, the topmost last. Immediates,
/// which follow the operation in the program, stand in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// `→ bytes`, `[size: 4 bytes, bytes]`.
    Push,
    /// `→ copy`, `[depth: 1 byte]`: the value so far below the top; 0 is the top itself.
    Pick,
    /// `value →`.
    Drop,
    /// `below top → top below`.
    Swap,
    /// `left right → both`.
    Concatenate,
    /// `bytes offset size → part`.
    Slice,
    /// `bytes → size`, 4 bytes.
    Length,
    /// `byte size → bytes`, so many of that byte.
    Fill,
    /// `left right → sum`, as wide as the wider one, wrapping.
    Add,
    /// `left right → difference`, as wide as the wider one, wrapping.
    Subtract,
    /// `left right → 0 or 1`: whether they are the same bytes; 4 bytes.
    Equal,
    /// `left right → 0 or 1`: whether the left number is less; 4 bytes.
    Less,
    /// `number → high low`, 8 bytes each.
    Split,
    /// `bytes → address size`: keeps the bytes at an address until the entry point ends.
    Pin,
    /// `size → address size`: keeps so many zeros at an address.
    Reserve,
    /// `→ bytes`: what is now in the last buffer reserved of which this was not asked yet.
    Reserved,
    /// `→ index`: the table index of the callback that runs the program its environment names.
    CallbackFunction,
    /// `program → environment`.
    CallbackEnvironment,
    /// `parameters → result`, `[size: 1 byte, name]`: a system function.
    System,
    /// `program count → …`: runs a program so many times on this stack.
    Repeat,
    /// `→ bytes`, `[register: 1 byte]`: empty at first.
    Load,
    /// `bytes →`, `[register: 1 byte]`.
    Store,
    /// `bytes →`, `[register: 1 byte]`: adds to what is in the register.
    Append,
    /// `program →`, `[entry: 1 byte]`: what to run in an entry point that has no argument.
    SetProgram,
    /// `address size → bytes`.
    HeapRead,
    /// `address bytes →`.
    HeapWrite,
    /// `→ pages`, of 64 KiB; 4 bytes.
    HeapSize,
    /// `pages → before`, or 2^32 - 1 if it cannot grow; 4 bytes.
    HeapGrow,
    /// Traps by the Wasm instruction of that name.
    Unreachable,
}

impl Operation {
    /// Every operation, at the index that stands for it in a program.
    const ALL: [Self; 29] = [
        Self::Push,
        Self::Pick,
        Self::Drop,
        Self::Swap,
        Self::Concatenate,
        Self::Slice,
        Self::Length,
        Self::Fill,
        Self::Add,
        Self::Subtract,
        Self::Equal,
        Self::Less,
        Self::Split,
        Self::Pin,
        Self::Reserve,
        Self::Reserved,
        Self::CallbackFunction,
        Self::CallbackEnvironment,
        Self::System,
        Self::Repeat,
        Self::Load,
        Self::Store,
        Self::Append,
        Self::SetProgram,
        Self::HeapRead,
        Self::HeapWrite,
        Self::HeapSize,
        Self::HeapGrow,
        Self::Unreachable,
    ];

    /// The operation that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// The entry points that have no argument, and run the program stored for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Entry {
    /// `canister_heartbeat`.
    Heartbeat,
    /// `canister_global_timer`.
    GlobalTimer,
    /// `canister_on_low_wasm_memory`.
    OnLowWasmMemory,
    /// `canister_pre_upgrade`.
    PreUpgrade,
    /// `canister_inspect_message`: without a program it accepts everything.
    InspectMessage,
    /// `canister_query transform`: its argument is not a program but a response to an outcall.
    Transform,
}

/// A list of operations. See the module for what they work on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    bytes: Vec<u8>,
}

/// System functions without an address among their parameters: `parameters → result`, as they are.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        impl Program {
            $($(#[$doc])* pub fn $name(self) -> Self { self.system(stringify!($name)) })*
        }
    };
}

/// System functions that take one range, as their only parameter: `bytes → result`.
macro_rules! taking_bytes {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        impl Program {
            $($(#[$doc])* pub fn $name(self) -> Self {
                self.operation(Operation::Pin).system(stringify!($name))
            })*
        }
    };
}

/// Pairs of system functions that tell a size and copy: `→ bytes`, all of them.
macro_rules! giving_bytes {
    ($($(#[$doc:meta])* $name:ident = $size:ident, $copy:ident;)*) => {
        impl Program {
            $($(#[$doc])* pub fn $name(self) -> Self {
                self.system(stringify!($size)).copy_whole(stringify!($copy))
            })*
        }
    };
}

/// System functions that write cycles: `numbers → cycles`, 16 bytes.
macro_rules! giving_cycles {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        impl Program {
            $($(#[$doc])* pub fn $name(self) -> Self { self.cycles_out(stringify!($name)) })*
        }
    };
}

/// System functions that take an amount of cycles and write one: `cycles → cycles`, 16 bytes.
macro_rules! exchanging_cycles {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        impl Program {
            $($(#[$doc])* pub fn $name(self) -> Self {
                self.operation(Operation::Split).cycles_out(stringify!($name))
            })*
        }
    };
}

plain! {
    /// `→ size`.
    msg_arg_data_size;
    /// `→ size`.
    msg_caller_size;
    /// `→ code`: 0 in a reply callback.
    msg_reject_code;
    /// `→ size`.
    msg_reject_msg_size;
    /// `→ nanoseconds`, 8 bytes: 0 is none.
    msg_deadline;
    /// Replies with what was appended.
    msg_reply;
    /// `→ size`.
    msg_method_name_size;
    /// Accepts the message, in `canister_inspect_message`.
    accept_message;
    /// `→ cycles`, 8 bytes.
    msg_cycles_available;
    /// `→ cycles`, 8 bytes.
    msg_cycles_refunded;
    /// `at most → cycles`, 8 bytes.
    msg_cycles_accept;
    /// `→ cycles`, 8 bytes.
    canister_cycle_balance;
    /// `→ size`.
    canister_self_size;
    /// `→ size`.
    subnet_self_size;
    /// `→ status`: 1 running, 2 stopping, 3 stopped.
    canister_status;
    /// `→ version`, 8 bytes.
    canister_version;
    /// `→ size`.
    root_key_size;
    /// `→ 0 or 1`.
    in_replicated_execution;
    /// `seconds →`, to the call under construction.
    call_with_best_effort_response;
    /// `cycles →`, 8 bytes, to the call under construction.
    call_cycles_add;
    /// `→ 0 or an error`.
    call_perform;
    /// `→ pages`, 8 bytes.
    stable64_size;
    /// `pages → before`, 8 bytes.
    stable64_grow;
    /// `→ pages`, 4 bytes.
    stable_size;
    /// `pages → before`, 4 bytes.
    stable_grow;
    /// `→ 0 or 1`.
    data_certificate_present;
    /// `→ size`.
    data_certificate_size;
    /// `→ nanoseconds`, 8 bytes.
    time;
    /// `nanoseconds → before`, 8 bytes.
    global_timer_set;
    /// `type → instructions`, 8 bytes.
    performance_counter;
    /// `→ count`.
    env_var_count;
    /// `index → size`.
    env_var_name_size;
}

taking_bytes! {
    /// `bytes →`.
    msg_reply_data_append;
    /// `text →`.
    msg_reject;
    /// `bytes →`, to the argument of the call under construction.
    call_data_append;
    /// `bytes →`.
    certified_data_set;
    /// `name → 0 or 1`.
    env_var_name_exists;
    /// `name → size`.
    env_var_value_size;
    /// `text →`.
    debug_print;
    /// `text →`, and no further.
    trap;
}

giving_bytes! {
    /// `→ bytes`.
    msg_arg_data = msg_arg_data_size, msg_arg_data_copy;
    /// `→ principal`.
    msg_caller = msg_caller_size, msg_caller_copy;
    /// `→ text`.
    msg_reject_msg = msg_reject_msg_size, msg_reject_msg_copy;
    /// `→ text`.
    msg_method_name = msg_method_name_size, msg_method_name_copy;
    /// `→ principal`.
    canister_self = canister_self_size, canister_self_copy;
    /// `→ principal`.
    subnet_self = subnet_self_size, subnet_self_copy;
    /// `→ bytes`.
    root_key = root_key_size, root_key_copy;
    /// `→ bytes`.
    data_certificate = data_certificate_size, data_certificate_copy;
}

giving_cycles! {
    /// `→ cycles`.
    msg_cycles_available128;
    /// `→ cycles`.
    msg_cycles_refunded128;
    /// `→ cycles`.
    canister_cycle_balance128;
    /// `→ cycles`.
    canister_liquid_cycle_balance128;
    /// `size of the method's name, size of the payload → cycles`.
    cost_call;
    /// `→ cycles`.
    cost_create_canister;
    /// `size of the request, largest response → cycles`.
    cost_http_request;
}

exchanging_cycles! {
    /// `at most → accepted`.
    msg_cycles_accept128;
    /// `at most → burned`.
    cycles_burn128;
    /// `amount → minted`.
    mint_cycles128;
}

/// Values and control.
impl Program {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program as the canister takes it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an operation that has no immediates.
    pub fn operation(mut self, operation: Operation) -> Self {
        self.bytes.push(operation as u8);
        self
    }

    /// Calls the system function of this name with numbers from the stack, addresses too: `parameters → result`.
    pub fn system(mut self, name: &str) -> Self {
        self.bytes.push(Operation::System as u8);
        self.bytes.push(u8::try_from(name.len()).expect("names of system functions are short"));
        self.bytes.extend(name.as_bytes());
        self
    }

    /// `→ bytes`.
    pub fn push(mut self, bytes: &[u8]) -> Self {
        self.bytes.push(Operation::Push as u8);
        self.bytes.extend(u32::try_from(bytes.len()).expect("a program is less than 4 GiB").to_le_bytes());
        self.bytes.extend(bytes);
        self
    }

    /// `→ number`, 4 bytes.
    pub fn push_u32(self, number: u32) -> Self {
        self.push(&number.to_le_bytes())
    }

    /// `→ number`, 8 bytes.
    pub fn push_u64(self, number: u64) -> Self {
        self.push(&number.to_le_bytes())
    }

    /// `→ number`, 16 bytes.
    pub fn push_u128(self, number: u128) -> Self {
        self.push(&number.to_le_bytes())
    }

    /// `→ copy` of the value so far below the top; 0 is the top itself.
    pub fn pick(self, depth: u8) -> Self {
        self.with_immediate(Operation::Pick, depth)
    }

    /// `value →`.
    pub fn drop(self) -> Self {
        self.operation(Operation::Drop)
    }

    /// `below top → top below`.
    pub fn swap(self) -> Self {
        self.operation(Operation::Swap)
    }

    /// `left right → both`.
    pub fn concatenate(self) -> Self {
        self.operation(Operation::Concatenate)
    }

    /// `→ bytes`, so many of one byte: a large value that is small in the program.
    pub fn fill(self, byte: u8, size: u32) -> Self {
        self.push(&[byte]).push_u32(size).operation(Operation::Fill)
    }

    /// `left right → sum`.
    pub fn add(self) -> Self {
        self.operation(Operation::Add)
    }

    /// `left right → 0 or 1`: whether they are the same bytes.
    pub fn equal(self) -> Self {
        self.operation(Operation::Equal)
    }

    /// `left right → 0 or 1`: whether the left number is less.
    pub fn less(self) -> Self {
        self.operation(Operation::Less)
    }

    /// Runs a program so many times, on this stack.
    pub fn repeat(self, count: u64, body: &Self) -> Self {
        self.push(&body.bytes).push_u64(count).operation(Operation::Repeat)
    }

    /// `0 or 1 → …`: runs a program, on this stack, if the topmost value is 1.
    pub fn when(self, body: &Self) -> Self {
        self.push(&body.bytes).swap().operation(Operation::Repeat)
    }

    /// `→ bytes` of a register: empty at first.
    pub fn load(self, register: u8) -> Self {
        self.with_immediate(Operation::Load, register)
    }

    /// `bytes →` into a register.
    pub fn store(self, register: u8) -> Self {
        self.with_immediate(Operation::Store, register)
    }

    /// `bytes →` to the end of a register: what callbacks leave behind, in their order.
    pub fn append(self, register: u8) -> Self {
        self.with_immediate(Operation::Append, register)
    }

    /// Stores the program of an entry point that has no argument.
    pub fn set_program(self, entry: Entry, program: &Self) -> Self {
        self.push(&program.bytes).with_immediate(Operation::SetProgram, entry as u8)
    }

    /// `→ before`: grows the heap by pages of 64 KiB that nothing else uses.
    pub fn heap_grow(self, pages: u32) -> Self {
        self.push_u32(pages).operation(Operation::HeapGrow)
    }

    /// `→ bytes` from the heap.
    pub fn heap_read(self, address: u32, size: u32) -> Self {
        self.push_u32(address).push_u32(size).operation(Operation::HeapRead)
    }

    /// Writes to the heap, where nothing else may be: see [`Self::heap_grow`].
    pub fn heap_write(self, address: u32, bytes: &[u8]) -> Self {
        self.push_u32(address).push(bytes).operation(Operation::HeapWrite)
    }

    /// Traps by the Wasm instruction of that name.
    pub fn unreachable(self) -> Self {
        self.operation(Operation::Unreachable)
    }

    fn with_immediate(self, operation: Operation, immediate: u8) -> Self {
        let mut program = self.operation(operation);
        program.bytes.push(immediate);
        program
    }

    /// `offset size → bytes`: a system function whose parameters are destination, offset and size.
    fn copy_out(self, name: &str) -> Self {
        // offset, address, size → offset, address, offset, size; the first offset stays below what is reserved.
        let parameters = self.operation(Operation::Reserve).pick(2).swap();
        parameters.system(name).operation(Operation::Reserved).swap().drop()
    }

    /// `… size → bytes`: a system function whose last parameters are destination, offset and size, from offset 0 on.
    fn copy_whole(self, name: &str) -> Self {
        let parameters = self.operation(Operation::Reserve).push_u32(0).swap();
        parameters.system(name).operation(Operation::Reserved)
    }

    /// `numbers → cycles`: a system function whose last parameter is a destination of 16 bytes.
    fn cycles_out(self, name: &str) -> Self {
        self.push_u32(16).operation(Operation::Reserve).drop().system(name).operation(Operation::Reserved)
    }
}

/// Sentences: what almost every program says.
impl Program {
    /// `bytes →`: replies with the topmost value.
    pub fn reply(self) -> Self {
        self.msg_reply_data_append().msg_reply()
    }

    /// Replies with these bytes.
    pub fn reply_with(self, bytes: &[u8]) -> Self {
        self.push(bytes).reply()
    }

    /// Rejects with this text.
    pub fn reject_with(self, text: &str) -> Self {
        self.push(text.as_bytes()).msg_reject()
    }

    /// In a reply callback: passes the reply on.
    pub fn reply_with_reply(self) -> Self {
        self.msg_arg_data().reply()
    }

    /// In a reject callback: replies with the reject code in 4 bytes and then the text.
    pub fn reply_with_reject(self) -> Self {
        self.msg_reject_code().msg_reject_msg().concatenate().reply()
    }

    /// Traps with this text.
    pub fn trap_with(self, text: &str) -> Self {
        self.push(text.as_bytes()).trap()
    }

    /// Prints a line to the canister's log.
    pub fn print(self, line: &str) -> Self {
        self.push(line.as_bytes()).debug_print()
    }

    /// `→ 0 or an error`: makes a call, from `call_new` to `call_perform`.
    pub fn call(self, call: &Call) -> Self {
        self.construct(call).call_perform()
    }

    /// The same up to, but without, `call_perform`.
    pub fn construct(self, call: &Call) -> Self {
        let mut program = self.call_new(&call.callee, &call.method, &call.reply, &call.reject);
        if let Some(cleanup) = &call.cleanup {
            program = program.call_on_cleanup(cleanup);
        }
        if !call.argument.is_empty() {
            program = program.push(&call.argument).call_data_append();
        }
        if call.cycles > 0 {
            program = program.push_u128(call.cycles).call_cycles_add128();
        }
        if let Some(seconds) = call.best_effort_seconds {
            program = program.push_u32(seconds).call_with_best_effort_response();
        }
        program
    }
}

/// System functions with several ranges, with halves, or with callbacks.
impl Program {
    /// Begins a call with programs as its callbacks.
    pub fn call_new(self, callee: &[u8], method: &str, reply: &Self, reject: &Self) -> Self {
        let names =
            self.push(callee).operation(Operation::Pin).push(method.as_bytes()).operation(Operation::Pin);
        names.callback(reply).callback(reject).system("call_new")
    }

    /// Gives the call under construction a cleanup callback.
    pub fn call_on_cleanup(self, cleanup: &Self) -> Self {
        self.callback(cleanup).system("call_on_cleanup")
    }

    /// `→ function environment`: a callback as the system takes it.
    pub fn callback(self, program: &Self) -> Self {
        let function = self.operation(Operation::CallbackFunction);
        function.push(&program.bytes).operation(Operation::CallbackEnvironment)
    }

    /// `principal → 0 or 1`.
    #[allow(clippy::wrong_self_convention, reason = "it asks the system, not the program")]
    pub fn is_controller(self) -> Self {
        self.operation(Operation::Pin).system("is_controller")
    }

    /// `cycles →`, 16 bytes, to the call under construction.
    pub fn call_cycles_add128(self) -> Self {
        self.operation(Operation::Split).system("call_cycles_add128")
    }

    /// `offset size → bytes`.
    pub fn msg_arg_data_copy(self) -> Self {
        self.copy_out("msg_arg_data_copy")
    }

    /// `offset size → bytes`.
    pub fn msg_caller_copy(self) -> Self {
        self.copy_out("msg_caller_copy")
    }

    /// `offset size → bytes`.
    pub fn msg_reject_msg_copy(self) -> Self {
        self.copy_out("msg_reject_msg_copy")
    }

    /// `offset size → bytes`.
    pub fn msg_method_name_copy(self) -> Self {
        self.copy_out("msg_method_name_copy")
    }

    /// `offset size → bytes`.
    pub fn canister_self_copy(self) -> Self {
        self.copy_out("canister_self_copy")
    }

    /// `offset size → bytes`.
    pub fn subnet_self_copy(self) -> Self {
        self.copy_out("subnet_self_copy")
    }

    /// `offset size → bytes`.
    pub fn root_key_copy(self) -> Self {
        self.copy_out("root_key_copy")
    }

    /// `offset size → bytes`.
    pub fn data_certificate_copy(self) -> Self {
        self.copy_out("data_certificate_copy")
    }

    /// `offset size → bytes`.
    pub fn stable64_read(self) -> Self {
        self.copy_out("stable64_read")
    }

    /// `offset bytes →`.
    pub fn stable64_write(self) -> Self {
        self.operation(Operation::Pin).system("stable64_write")
    }

    /// `offset size → bytes`.
    pub fn stable_read(self) -> Self {
        self.copy_out("stable_read")
    }

    /// `offset bytes →`.
    pub fn stable_write(self) -> Self {
        self.operation(Operation::Pin).system("stable_write")
    }

    /// `index → name`.
    pub fn env_var_name(self) -> Self {
        self.pick(0).env_var_name_size().copy_whole("env_var_name_copy")
    }

    /// `name → value`.
    pub fn env_var_value(self) -> Self {
        // name, size → size, address and size of the name, size.
        let parameters = self.pick(0).env_var_value_size().swap().operation(Operation::Pin).pick(2);
        parameters.copy_whole("env_var_value_copy").swap().drop()
    }

    /// `name of the key, curve → code cycles`: 0 and the price, or an error.
    pub fn cost_sign_with_ecdsa(self) -> Self {
        self.cost_of_key("cost_sign_with_ecdsa")
    }

    /// `name of the key, algorithm → code cycles`: 0 and the price, or an error.
    pub fn cost_sign_with_schnorr(self) -> Self {
        self.cost_of_key("cost_sign_with_schnorr")
    }

    /// `name of the key, curve → code cycles`: 0 and the price, or an error.
    pub fn cost_vetkd_derive_key(self) -> Self {
        self.cost_of_key("cost_vetkd_derive_key")
    }

    fn cost_of_key(self, name: &str) -> Self {
        // name curve → curve, address and size of the name, curve.
        let parameters = self.swap().operation(Operation::Pin).pick(2);
        let code = parameters.push_u32(16).operation(Operation::Reserve).drop().system(name);
        code.swap().drop().operation(Operation::Reserved)
    }
}

/// A call to a method of a canister: guaranteed, with callbacks that do nothing, unless it is said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    callee: Vec<u8>,
    method: String,
    argument: Vec<u8>,
    cycles: u128,
    best_effort_seconds: Option<u32>,
    reply: Program,
    reject: Program,
    cleanup: Option<Program>,
}

impl Call {
    /// To the method of the canister with this principal, with no argument.
    pub fn new(callee: &[u8], method: &str) -> Self {
        Self {
            callee: callee.to_vec(),
            method: method.to_string(),
            argument: Vec::new(),
            cycles: 0,
            best_effort_seconds: None,
            reply: Program::new(),
            reject: Program::new(),
            cleanup: None,
        }
    }

    /// With a program for another scripted canister.
    pub fn argument(self, argument: &Program) -> Self {
        self.argument_bytes(&argument.bytes)
    }

    /// With these bytes.
    pub fn argument_bytes(mut self, argument: &[u8]) -> Self {
        self.argument = argument.to_vec();
        self
    }

    /// With cycles attached.
    pub fn cycles(mut self, cycles: u128) -> Self {
        self.cycles = cycles;
        self
    }

    /// With a best-effort response.
    pub fn best_effort(mut self, seconds: u32) -> Self {
        self.best_effort_seconds = Some(seconds);
        self
    }

    /// What the reply callback does.
    pub fn on_reply(mut self, program: Program) -> Self {
        self.reply = program;
        self
    }

    /// What the reject callback does.
    pub fn on_reject(mut self, program: Program) -> Self {
        self.reject = program;
        self
    }

    /// What the cleanup callback does; there is none otherwise.
    pub fn on_cleanup(mut self, program: Program) -> Self {
        self.cleanup = Some(program);
        self
    }

    /// Passes on what comes back: the reply, or the reject code in 4 bytes and then the text.
    pub fn passing_on(self) -> Self {
        self.on_reply(Program::new().reply_with_reply()).on_reject(Program::new().reply_with_reject())
    }
}

/// The module without one of its exports, such as `canister_heartbeat`, whose mere presence the system acts on: the name
/// becomes one that means nothing.
pub fn without_export(module: &[u8], export: &str) -> Vec<u8> {
    let tail =
        export.strip_prefix("canister").expect("an export that the system knows begins with `canister`");
    let nameless = format!("disabled{tail}");
    let mut module = module.to_vec();
    let found = |module: &[u8]| module.windows(export.len()).position(|window| window == export.as_bytes());
    let mut start = found(&module).expect("the module has no export of this name");
    loop {
        module[start..start + nameless.len()].copy_from_slice(nameless.as_bytes());
        // The section with the functions' names may have it once more.
        match found(&module) {
            Some(next) => start = next,
            None => return module,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_byte_of_its_index() {
        for (index, operation) in (0..).zip(Operation::ALL) {
            assert_eq!((operation as u8, Operation::from_byte(index)), (index, Some(operation)));
        }
        assert_eq!(Operation::from_byte(Operation::ALL.len() as u8), None);
    }

    #[test]
    fn immediates_follow_their_operation() {
        let program =
            Program::new().push(b"ab").append(7).set_program(Entry::PreUpgrade, &Program::new().drop());
        assert_eq!(
            program.bytes(),
            [&[0, 2, 0, 0, 0, b'a', b'b'][..], &[22, 7], &[0, 1, 0, 0, 0, 2], &[23, 3]].concat()
        );
        assert_eq!(Program::new().time().bytes(), b"\x12\x04time");
    }

    #[test]
    fn a_call_is_constructed_in_the_order_of_the_interface() {
        let call =
            Call::new(&[1], "m").argument_bytes(b"x").cycles(5).best_effort(9).on_cleanup(Program::new());
        let bytes = Program::new().call(&call).bytes;
        let mut rest = &bytes[..];
        for name in [
            "call_new",
            "call_on_cleanup",
            "call_data_append",
            "call_cycles_add128",
            "call_with_best_effort_response",
            "call_perform",
        ] {
            let at = rest.windows(name.len()).position(|window| window == name.as_bytes());
            rest = &rest[at.unwrap_or_else(|| panic!("{name} is missing")) + name.len()..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn an_export_without_a_name_keeps_its_length() {
        let module = b"\x12canister_heartbeat\0..canister_heartbeat canister_init";
        assert_eq!(
            without_export(module, "canister_heartbeat"),
            b"\x12disabled_heartbeat\0..disabled_heartbeat canister_init"
        );
    }
}
