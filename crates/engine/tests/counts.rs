//! Instruction counts equal to production's: the worked examples of the IC's price list "2025-10", each measured with
//! production's own embedder. `first` and `again` are the counts of two update calls `t` on a fresh install.

use bedstone_engine::Response;

use crate::support::{Subject, in_every_mode};

/// One worked example: its counts stand in its first line.
fn check(name: &'static str, wat: &'static str) {
    let number = |key: &str| -> u64 {
        let from = wat.find(key).unwrap() + key.len();
        wat[from..].split_whitespace().next().unwrap().parse().unwrap()
    };
    let expected = (number("first="), number("again="));
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::installed(engine, wat);
        let (first, again) = (subject.update("t", &[]), subject.update("t", &[]));
        assert!(matches!(first.response, Response::Reply(_)), "{name}, {mode}: {:?}", first.response);
        assert_eq!((first.instructions, again.instructions), expected, "{name}, {mode}");
    });
}

macro_rules! examples {
    ($($test:ident $file:literal)*) => {
        $(
            #[test]
            fn $test() {
                check($file, include_str!(concat!("counts/", $file, ".wat")));
            }
        )*
    };
}

examples! {
    g01_an_empty_method "G01"
    g02_a_loop "G02"
    g03_untaken_branches "G03"
    g04_calls "G04"
    g05_br_table "G05"
    g06_call_indirect "G06"
    g07_tail_calls "G07"
    g08_bulk_memory "G08"
    g09_memory_grow "G09"
    g10_stores_across_a_border "G10"
    g11_floats "G11"
    g12_simd "G12"
    g13_globals "G13"
    g14_stable_grow "G14"
    g15_stable_reads "G15"
    g16_stable_writes "G16"
    g17_the_32_bit_functions "G17"
    g18_reply_data "G18"
    g19_a_64_bit_heap "G19"
    g20_segments_and_tables "G20"
    g21_performance_counter "G21"
    g22_debug_print "G22"
    g23_writes_to_fresh_pages "G23"
    g24_reads_of_fresh_pages "G24"
}
