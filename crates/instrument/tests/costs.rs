//! The price list against a transcription of the published tables, and the complexity weights likewise.

use std::collections::{BTreeMap, BTreeSet};

use bedstone_instrument::CostTable;
use bedstone_instrument::cost::{SystemCharge, complexity};
use bedstone_instrument::system_api;
use wasmparser::{BinaryReader, Operator, OperatorsReader};

/// Prices on wasm32 other than 1. `a{b,c}` stands for `ab ac`.
const PRICES: &[(u64, &str)] = &[
    (0, "block loop else end"),
    (2, "f{32,64}.{add,sub,mul,ceil,floor,trunc,nearest} f32.copysign global.{get,set} if br br_if br_table"),
    (3, "f32.div f64.copysign f{32,64}.{eq,ne,lt,gt,le,ge} f{32,64}.convert_i{32,64}_s return_call"),
    (5, "f64.div f32.sqrt call table.get table.set ref.is_null"),
    (8, "f64.sqrt"),
    (10, "i{32,64}.{div,rem}_{s,u} call_indirect"),
    (16, "f{32,64}.convert_i{32,64}_u"),
    (18, "f{32,64}.{min,max}"),
    (20, "i{32,64}.trunc_f{32,64}_{s,u} i{32,64}.trunc_sat_f{32,64}_{s,u} memory.size"),
    (60, "return_call_indirect"),
    (100, "memory.{fill,copy,init} table.{size,fill,copy,init}"),
    (130, "ref.func"),
    (300, "memory.grow data.drop elem.drop table.grow"),
    (2, "{i8x16,i16x8,i32x4}.{lt_u,gt_u} i8x16.shr_u {i16x8,i32x4}.{shl,shr_s,shr_u} i64x2.{shl,shr_u}"),
    (2, "i32x4.mul i16x8.extadd_pairwise_i8x16_u i16x8.extmul_high_i8x16_{s,u}"),
    (2, "i32x4.extmul_{low,high}_i16x8_{s,u} {f32x4,f64x2}.{abs,neg,ceil,floor,trunc,nearest,add,sub,mul}"),
    (2, "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f64x2_s_zero"),
    (3, "i8x16.shuffle i8x16.popcnt i8x16.shl i8x16.shr_s i64x2.shr_s i32x4.extadd_pairwise_i16x8_u"),
    (3, "i32x4.trunc_sat_f64x2_u_zero"),
    (4, "i64x2.mul f32x4.{min,max} f64x2.min i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_u"),
    (5, "f64x2.max f32x4.sqrt"),
    (10, "f32x4.div"),
    (12, "f64x2.div"),
    (14, "f64x2.sqrt"),
];

/// Complexities other than 1.
const COMPLEXITIES: &[(u64, &str)] = &[
    (50, "block loop if br br_if br_table call call_indirect memory.grow"),
    (14, "table.get"),
    (8, "ref.func"),
    (6, "ref.is_null"),
    (5, "i{32,64}.trunc_f{32,64}_{s,u} f{32,64}.convert_i{32,64}_{s,u} i64.extend_i32_{s,u} f32.demote_f64"),
    (4, "f{32,64}.{neg,abs} memory.copy"),
    (3, "i{32,64}.{div,rem}_{s,u} f{32,64}.copysign f64.eq memory.fill i{32,64}.trunc_sat_f{32,64}_{s,u}"),
    (3, "{i32,i64,f32,f64}.load {i32,i64}.load{8,16}_{s,u} i64.load32_{s,u}"),
    (2, "{i32,i64,f32,f64}.store {i32,i64}.store{8,16} i64.store32"),
    (2, "i{32,64}.{eqz,eq,ne,lt_s,lt_u,gt_s,gt_u,le_s,le_u,ge_s,ge_u} f32.eq f{32,64}.{ne,lt,gt,le,ge}"),
    (2, "f{32,64}.{ceil,floor,trunc,sqrt} i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32"),
    (2, "f64.reinterpret_i64 i32.wrap_i64 i{32,64}.extend{8,16}_s i64.extend32_s f64.promote_f32"),
    (2, "i{32,64}.popcnt select global.get memory.size"),
];

/// Fixed price, price per byte, and the parameters that hold sizes.
const SYSTEM_CHARGES: &[(u64, u64, &[u8], &str)] = &[
    (
        500,
        0,
        &[],
        "msg_{arg_data,caller,reject_msg,method_name}_size {canister,subnet}_self_size root_key_size",
    ),
    (
        500,
        1,
        &[2],
        "msg_{arg_data,caller,reject_msg,method_name}_copy {canister,subnet}_self_copy root_key_copy",
    ),
    (500, 0, &[], "msg_reject_code msg_deadline msg_reply accept_message canister_status canister_version"),
    (500, 50, &[1], "msg_reply_data_append msg_reject call_data_append"),
    (500, 0, &[], "msg_cycles_{available,refunded,accept}{128,} cycles_burn128 canister_cycle_balance{128,}"),
    (500, 0, &[], "canister_liquid_cycle_balance128 call_on_cleanup call_with_best_effort_response"),
    (0, 0, &[], "mint_cycles128 stable64_size stable_size"),
    (1500, 1, &[1, 3], "call_new"),
    (
        500,
        0,
        &[],
        "call_cycles_add{128,} data_certificate_present data_certificate_size time global_timer_set",
    ),
    (5000, 0, &[], "call_perform"),
    (100, 0, &[], "stable64_grow stable_grow debug_print"),
    (20, 1, &[2], "stable64_{read,write} stable_{read,write}"),
    (500, 1, &[1], "certified_data_set cost_sign_with_{ecdsa,schnorr} cost_vetkd_derive_key trap"),
    (500, 1, &[2], "data_certificate_copy"),
    (200, 0, &[], "performance_counter"),
    (1000, 1, &[1], "is_controller"),
    (500, 0, &[], "in_replicated_execution cost_call cost_create_canister cost_http_request"),
    (500, 0, &[], "env_var_count env_var_name_size env_var_name_exists env_var_value_size"),
    (500, 1, &[3], "env_var_name_copy"),
    (500, 1, &[4], "env_var_value_copy"),
];

/// Expands `a{b,c} d` to `ab`, `ac`, `d`.
fn expand(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let mut prefixes = vec![String::new()];
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('{') {
            let (choices, after) = after.split_once('}').expect("a brace is closed");
            prefixes = prefixes
                .iter()
                .flat_map(|prefix| choices.split(',').map(move |choice| format!("{prefix}{before}{choice}")))
                .collect();
            rest = after;
        }
        words.extend(prefixes.iter().map(|prefix| format!("{prefix}{rest}")));
    }
    words
}

/// One operator of each kind that the IC knows, by its name with `_` for `.`.
fn operators() -> Vec<(&'static str, Operator<'static>)> {
    let one_byte = (0..=0xd2_u8).map(|opcode| vec![opcode]);
    let numeric = (0..=17).map(|opcode| vec![0xfc, opcode]);
    let vector = (0..=0xff_u8).map(|opcode| vec![0xfd, opcode | 0x80, opcode >> 7]);
    let mut operators = Vec::new();
    for mut bytes in one_byte.chain(numeric).chain(vector) {
        match bytes[0] {
            0x05 => bytes.splice(0..0, [0x04, 0x40]).count(), // `else` wants an `if` before it
            0x1c => bytes.splice(1.., [1, 0x7f]).count() + 1, // typed `select` wants one type
            _ => 0,
        };
        bytes.extend([0; 20]);
        let mut reader = OperatorsReader::new(BinaryReader::new(bytes.leak(), 0));
        let mut operator = reader.read();
        if matches!(operator, Ok(Operator::If { .. })) && operators.iter().any(|(name, _)| *name == "if") {
            operator = reader.read();
        }
        if let Ok(operator) = operator {
            operators.push((name(&operator), operator));
        }
    }
    operators
}

fn name(operator: &Operator<'_>) -> &'static str {
    macro_rules! names {
        ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match operator {
                $(Operator::$op { .. } => stringify!($visit),)*
                _ => unreachable!(),
            }
        };
    }
    wasmparser::for_each_operator!(names).strip_prefix("visit_").expect("visitor methods start so")
}

fn is_memory_access(name: &str) -> bool {
    name.contains("_load") || name.contains("_store")
}

/// Holds a function of operators against its transcription.
fn check(transcription: &[(u64, &str)], price: impl Fn(&str, &Operator<'_>) -> u64) {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (price, names) in transcription {
        for name in expand(names) {
            assert_eq!(expected.insert(name.replace('.', "_"), *price), None, "{name} is listed twice");
        }
    }
    let operators = operators();
    for (name, operator) in &operators {
        let expected = expected.remove(*name).unwrap_or(1);
        assert_eq!(price(name, operator), expected, "{name}");
    }
    assert!(operators.len() > 430, "{} operators met", operators.len());
    assert!(expected.is_empty(), "listed but not met: {expected:?}");
}

#[test]
fn operators_cost_what_the_table_says_on_wasm32() {
    check(PRICES, |_, operator| CostTable::ic_2025_10().operator(operator, false));
}

#[test]
fn loads_and_stores_cost_one_more_on_wasm64() {
    check(PRICES, |name, operator| {
        let price = CostTable::ic_2025_10().operator(operator, true);
        price - u64::from(is_memory_access(name))
    });
    let accesses = operators().iter().filter(|(name, _)| is_memory_access(name)).count();
    assert_eq!(accesses, 23 + 22, "scalar and vector");
}

#[test]
fn complexities_are_those_of_the_table() {
    check(COMPLEXITIES, |_, operator| complexity(operator));
}

#[test]
fn system_functions_cost_what_the_table_says() {
    let mut met = BTreeSet::new();
    for (fixed, per_byte, size_params, names) in SYSTEM_CHARGES {
        for name in expand(names) {
            let function = system_api::lookup(&name).unwrap_or_else(|| panic!("{name} is unknown"));
            let expected = SystemCharge { fixed: *fixed, per_byte: *per_byte, size_params };
            assert_eq!(CostTable::ic_2025_10().system_call(function), expected, "{name}");
            assert!(met.insert(name.clone()), "{name} is listed twice");
        }
    }
    assert_eq!(met.len(), system_api::all().len());
}

#[test]
fn log_lines_cost_what_was_measured() {
    let prices = CostTable::ic_2025_10();
    // `trap` with 4 and 70,000 bytes, less call, entry and the price of the function.
    assert_eq!(prices.log(4, 4096), 720 - 500 - 4 - 8);
    assert_eq!(prices.log(70_000, 4096), 283_500 - 500 - 70_000 - 8);
    assert_eq!(prices.log(0, 4096), 0);
    // Three `debug_print` of 4000 bytes: the first leaves 56 bytes of the log.
    assert_eq!(prices.log(4000, 4096), 208_100 - 100);
    assert_eq!(prices.log(4000, 56), 10_900 - 100);
}

#[test]
fn compile_charges_are_those_measured() {
    let prices = CostTable::ic_2025_10();
    assert_eq!(prices.compile(0, 0), 432_000, "(module)");
    assert_eq!(prices.compile(0, 1 + 10), 498_000, "(module (func))");
    assert_eq!(prices.compile(0, 2 + 10), 504_000, "(module (func nop))");
    assert_eq!(prices.compile(0, 3 + 20), 570_000, "(module (func loop end))");
    let imports = system_api::all().iter().map(|function| prices.compiled_stable_import(function.name));
    assert_eq!(imports.sum::<u64>(), 2 + 21 + 119 + 107 + 10 + 24 + 106 + 91);
}

#[test]
fn pages_cost_what_the_table_says() {
    let prices = CostTable::IC_2025_10;
    assert_eq!((prices.heap_dirty_page(false), prices.heap_dirty_page(true)), (1000, 4000));
    assert_eq!(
        (prices.stable_dirty_page(), prices.stable_access_fixed(), prices.stable_grow()),
        (1000, 20, 100)
    );
    assert_eq!((prices.bulk_per_byte(), prices.version()), (1, "ic-2025-10"));
}
