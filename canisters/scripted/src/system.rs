//! The system functions, called by name with numbers from the stack.
//!
//! - The list is the 32-bit system interface itself: 62 functions that every module may import, then the 9 that only
//!   32-bit ones may.
//! - Arguments are taken as they are, addresses too: a program may pass any number, and what the system makes of it is
//!   what the test is about.

use crate::machine::{self, Value};

macro_rules! system_functions {
    ($($name:ident($($parameter:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[link(wasm_import_module = "ic0")]
        unsafe extern "C" {
            $(fn $name($($parameter: $type),*) $(-> $result)?;)*
        }

        /// Pops the arguments of a function, the last one first, calls it, and pushes its result if it has one.
        pub fn call(name: &[u8], stack: &mut Vec<Vec<u8>>) {
            $(if name == stringify!($name).as_bytes() {
                const PARAMETERS: &[&str] = &[$(stringify!($parameter)),*];
                #[allow(unused_mut, unused_variables, reason = "some functions have no parameters")]
                let mut arguments = machine::pop_many(stack, PARAMETERS.len()).into_iter();
                $(let $parameter: $type = machine::number(arguments.next()) as $type;)*
                // SAFETY: the system checks every range and writes nothing outside of it. Programs that name a range
                // of their own choice answer for what is there.
                let result = unsafe { $name($($parameter),*) };
                return result.push(stack);
            })*
            machine::mistake(&format!("there is no function {}", String::from_utf8_lossy(name)))
        }
    };
}

system_functions! {
    msg_arg_data_size() -> u32;
    msg_arg_data_copy(dst: u32, offset: u32, size: u32);
    msg_caller_size() -> u32;
    msg_caller_copy(dst: u32, offset: u32, size: u32);
    msg_reject_code() -> u32;
    msg_reject_msg_size() -> u32;
    msg_reject_msg_copy(dst: u32, offset: u32, size: u32);
    msg_deadline() -> u64;
    msg_reply_data_append(src: u32, size: u32);
    msg_reply();
    msg_reject(src: u32, size: u32);
    msg_method_name_size() -> u32;
    msg_method_name_copy(dst: u32, offset: u32, size: u32);
    accept_message();

    msg_cycles_available128(dst: u32);
    msg_cycles_refunded128(dst: u32);
    msg_cycles_accept128(max_high: u64, max_low: u64, dst: u32);
    cycles_burn128(amount_high: u64, amount_low: u64, dst: u32);
    mint_cycles128(amount_high: u64, amount_low: u64, dst: u32);
    canister_cycle_balance128(dst: u32);
    canister_liquid_cycle_balance128(dst: u32);

    canister_self_size() -> u32;
    canister_self_copy(dst: u32, offset: u32, size: u32);
    subnet_self_size() -> u32;
    subnet_self_copy(dst: u32, offset: u32, size: u32);
    canister_status() -> u32;
    canister_version() -> u64;
    root_key_size() -> u32;
    root_key_copy(dst: u32, offset: u32, size: u32);
    is_controller(src: u32, size: u32) -> u32;
    in_replicated_execution() -> u32;

    call_new(
        callee_src: u32, callee_size: u32, name_src: u32, name_size: u32,
        reply_function: u32, reply_environment: u32, reject_function: u32, reject_environment: u32
    );
    call_on_cleanup(function: u32, environment: u32);
    call_data_append(src: u32, size: u32);
    call_with_best_effort_response(timeout_seconds: u32);
    call_cycles_add128(amount_high: u64, amount_low: u64);
    call_perform() -> u32;

    stable64_size() -> u64;
    stable64_grow(new_pages: u64) -> u64;
    stable64_read(dst: u64, offset: u64, size: u64);
    stable64_write(offset: u64, src: u64, size: u64);

    certified_data_set(src: u32, size: u32);
    data_certificate_present() -> u32;
    data_certificate_size() -> u32;
    data_certificate_copy(dst: u32, offset: u32, size: u32);

    time() -> u64;
    global_timer_set(timestamp: u64) -> u64;
    performance_counter(counter_type: u32) -> u64;

    cost_call(method_name_size: u64, payload_size: u64, dst: u32);
    cost_create_canister(dst: u32);
    cost_http_request(request_size: u64, max_res_bytes: u64, dst: u32);
    cost_sign_with_ecdsa(src: u32, size: u32, ecdsa_curve: u32, dst: u32) -> u32;
    cost_sign_with_schnorr(src: u32, size: u32, algorithm: u32, dst: u32) -> u32;
    cost_vetkd_derive_key(src: u32, size: u32, vetkd_curve: u32, dst: u32) -> u32;

    env_var_count() -> u32;
    env_var_name_size(index: u32) -> u32;
    env_var_name_copy(index: u32, dst: u32, offset: u32, size: u32);
    env_var_name_exists(name_src: u32, name_size: u32) -> u32;
    env_var_value_size(name_src: u32, name_size: u32) -> u32;
    env_var_value_copy(name_src: u32, name_size: u32, dst: u32, offset: u32, size: u32);

    debug_print(src: u32, size: u32);
    trap(src: u32, size: u32);

    msg_cycles_available() -> u64;
    msg_cycles_refunded() -> u64;
    msg_cycles_accept(max_amount: u64) -> u64;
    canister_cycle_balance() -> u64;
    call_cycles_add(amount: u64);
    stable_size() -> u32;
    stable_grow(new_pages: u32) -> u32;
    stable_read(dst: u32, offset: u32, size: u32);
    stable_write(offset: u32, src: u32, size: u32);
}

/// The bytes that the entry point was entered with.
pub fn argument() -> Vec<u8> {
    // SAFETY: it takes and writes no address.
    let mut bytes = vec![0; unsafe { msg_arg_data_size() } as usize];
    // SAFETY: `bytes` is as long as it says, and ours.
    unsafe { msg_arg_data_copy(bytes.as_mut_ptr() as u32, 0, bytes.len() as u32) };
    bytes
}

pub fn accept() {
    // SAFETY: it takes and writes no address.
    unsafe { accept_message() }
}

pub fn trap_with(text: &str) -> ! {
    // SAFETY: the text is as long as it says, and only read.
    unsafe { trap(text.as_ptr() as u32, text.len() as u32) };
    unreachable!("the system does not return from a trap")
}
