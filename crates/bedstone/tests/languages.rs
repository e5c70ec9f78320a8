//! Rust and Motoko canisters that call each other, as applications do: each thing holds in both directions, and for both of
//! Motoko's ways of persisting.

use std::time::Duration;

use bedstone::{CallKind, Network, Principal};
use candid::{CandidType, Decode, Deserialize, Encode, Nat};

use crate::support::{Stage, languages, send, wasm};

#[derive(CandidType, Deserialize, Debug, PartialEq)]
struct Failure {
    code: u32,
    text: String,
}

#[derive(CandidType, Deserialize, Debug, PartialEq)]
struct Payment {
    accepted: Nat,
    refunded: Nat,
}

#[derive(CandidType, Deserialize, Debug, PartialEq, Default)]
struct Counters {
    pings: u64,
    before: u64,
    after: u64,
    ended: u64,
    ticks: u64,
}

const MOTOKO: [&str; 2] = ["motoko-counterpart", "motoko-counterpart-classic"];

/// A counter of `relay`, 0 if it never counted.
fn counter(network: &Network, relay: Principal, name: &str) -> u64 {
    let (counters,): (Vec<(String, u64)>,) = network.query(relay, "counters", ()).unwrap();
    counters.iter().find(|(counter, _)| counter == name).map_or(0, |(_, count)| *count)
}

fn counters(network: &Network, motoko: Principal) -> Counters {
    network.query::<(Counters,)>(motoko, "counters", ()).unwrap().0
}

/// One call through `relay`.
fn forward(
    network: &Network,
    relay: Principal,
    callee: Principal,
    method: &str,
    arg: &[u8],
) -> Result<Vec<u8>, Failure> {
    let args = (callee, method, arg.to_vec(), Nat::from(0_u8));
    let (reply,): (Result<Vec<u8>, Failure>,) = network.update(relay, "forward", args).unwrap();
    reply
}

fn pings(network: &Network, canister: Principal) -> u64 {
    network.query::<(u64,)>(canister, "value", ()).unwrap().0
}

/// A stage with one `relay` and one Motoko canister, for each way of persisting.
fn pairs() -> (Stage, Vec<(Principal, Principal)>) {
    let stage = languages();
    let pairs = MOTOKO.map(|name| (stage.canister("relay"), stage.canister(name))).to_vec();
    (stage, pairs)
}

#[test]
fn each_language_pings_the_other_one_call_after_the_other() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let (last,): (Nat,) = stage.update(motoko, "relay", (relay, Nat::from(7_u8))).unwrap();
        assert_eq!((last, pings(&stage, relay)), (Nat::from(7_u8), 7));
        for expected in 1..=3_u64 {
            let reply = forward(&stage, relay, motoko, "ping", &Encode!().unwrap()).unwrap();
            assert_eq!(Decode!(&reply, u64).unwrap(), expected);
        }
        assert_eq!(pings(&stage, motoko), 3);
    }
}

#[test]
fn calls_at_once_are_each_answered_once() {
    let (stage, pairs) = pairs();
    let (relay, motoko) = pairs[0];
    // Answers 1 to 30, in whatever order.
    let (sum,): (Nat,) = stage.update(motoko, "parallel", (relay, Nat::from(30_u8))).unwrap();
    assert_eq!((sum, pings(&stage, relay)), (Nat::from(465_u32), 30));
    let callees = vec![motoko, pairs[1].1, pairs[1].0, relay];
    let (answered,): (u64,) = stage.update(relay, "fan_out", (callees.clone(), 25_u32)).unwrap();
    assert_eq!(answered, 100);
    let counted: Vec<u64> = callees.iter().map(|callee| pings(&stage, *callee)).collect();
    assert_eq!(counted, [25, 25, 25, 55]);
}

#[test]
fn a_ring_passes_a_message_on_and_the_answers_come_back() {
    let stage = languages();
    let relays = [(); 3].map(|()| stage.canister("relay"));
    let members = vec![relays[1], relays[2], relays[0]];
    let (hops,): (u32,) = stage.update(relays[0], "ring", (members, 60_u32)).unwrap();
    assert_eq!(hops, 60);
    assert_eq!(relays.map(|relay| counter(&stage, relay, "hops")), [20, 20, 20]);
}

/// 500 calls to one canister may wait; the one after those is not made, and everybody up the chain learns of it.
#[test]
fn a_ring_of_one_ends_where_its_queue_is_full() {
    let stage = languages();
    let relay = stage.canister("relay");
    let error = stage.update::<(u32,)>(relay, "ring", (vec![relay], 600_u32)).unwrap_err();
    let reject = error.reject().unwrap();
    assert_eq!((reject.code, reject.error_code), (5, 503), "{reject}");
    // What 500 counted before they called stays, though they trapped in their callbacks. The last one trapped before it
    // had called.
    assert_eq!(counter(&stage, relay, "hops"), 500);
    let (hops,): (u32,) = stage.update(relay, "ring", (vec![relay], 400_u32)).unwrap();
    assert_eq!(hops, 400);
}

#[test]
fn a_trap_is_reject_code_5_with_its_text_in_both_languages() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let (result,): (Result<(), Failure>,) = stage.update(motoko, "callFail", (relay, "boom")).unwrap();
        let Failure { code, text } = result.unwrap_err();
        assert_eq!(code, 5);
        let start =
            format!("IC0503: Error from Canister {relay}: Canister called `ic0.trap` with message: 'boom'");
        assert!(text.starts_with(&start), "{text}");
        let Failure { code, text } =
            forward(&stage, relay, motoko, "fail", &Encode!(&"boom").unwrap()).unwrap_err();
        assert_eq!(code, 5);
        assert!(text.starts_with(&format!("IC0503: Error from Canister {motoko}: ")), "{text}");
        assert!(text.contains("boom"), "{text}");
    }
}

#[test]
fn a_reject_is_code_4_with_the_callees_own_words_in_both_languages() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let no = || Failure { code: 4, text: "not today".to_owned() };
        let (result,): (Result<(), Failure>,) =
            stage.update(motoko, "callRefuse", (relay, "not today")).unwrap();
        assert_eq!(result, Err(no()));
        let arg = Encode!(&"not today").unwrap();
        assert_eq!(forward(&stage, relay, motoko, "refuse", &arg), Err(no()));
        // From outside: the same words and the IC's own code for them.
        let error = stage.update::<()>(motoko, "refuse", ("not today",)).unwrap_err();
        let reject = error.reject().unwrap();
        assert_eq!((reject.code, reject.error_code, reject.message.as_str()), (4, 406, "not today"));
    }
}

#[test]
fn nobody_there_is_code_3_and_no_such_method_code_5() {
    let (stage, pairs) = pairs();
    let (relay, motoko) = pairs[0];
    let nobody = Principal::from_slice(&[0, 0, 0, 0, 0, 15, 1, 1, 1, 1]);
    let failure = forward(&stage, relay, nobody, "ping", &[]).unwrap_err();
    assert_eq!(failure, Failure { code: 3, text: format!("IC0301: Canister {nobody} not found") });
    let failure = forward(&stage, relay, motoko, "pong", &[]).unwrap_err();
    assert_eq!(failure.code, 5);
    assert!(failure.text.contains("Canister has no update method 'pong'"), "{failure:?}");
    let failure = forward(&stage, relay, stage.empty(), "ping", &[]).unwrap_err();
    assert_eq!(failure.code, 5);
    assert!(failure.text.contains("IC0537"), "{failure:?}");
    // Motoko sees the same: it catches what its callee does not have.
    let (result,): (Result<(), Failure>,) = stage.update(motoko, "callFail", (nobody, "")).unwrap();
    assert_eq!(result.unwrap_err().code, 3);
}

/// What Candid cannot read is a trap of the callee, in its decoder.
#[test]
fn an_argument_of_another_type_is_the_callees_trap() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        for (callee, method) in [(motoko, "accept"), (relay, "timer_in")] {
            for arg in [&b"DIDL"[..], b"", &Encode!(&"text").unwrap(), &[0xff; 1000]] {
                let failure = forward(&stage, relay, callee, method, arg).unwrap_err();
                assert_eq!(failure.code, 5, "{failure:?}");
                assert!(failure.text.starts_with("IC0503: "), "{failure:?}");
            }
        }
    }
}

#[test]
fn a_trap_after_an_await_leaves_what_stood_before_and_runs_the_cleanup() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let error = stage.update::<()>(relay, "trap_after_await", (motoko,)).unwrap_err();
        assert!(error.to_string().contains("trapped after the await"), "{error}");
        let of = |name| counter(&stage, relay, name);
        let counted = ["before", "started", "after", "finished", "cleaned_up"].map(of);
        assert_eq!(counted, [1, 1, 0, 0, 1]);
        assert_eq!(pings(&stage, motoko), 1, "the callee did its part");

        let error = stage.update::<()>(motoko, "trapAfterAwait", (relay,)).unwrap_err();
        assert!(error.to_string().contains("trapped after the await"), "{error}");
        let expected = Counters { pings: 1, before: 1, after: 0, ended: 1, ticks: 0 };
        assert_eq!(counters(&stage, motoko), expected);
        assert_eq!(pings(&stage, relay), 1);
    }
}

#[test]
fn without_a_trap_both_sides_of_an_await_stay() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let (pinged,): (Result<u64, Failure>,) = stage.update(relay, "twice", (motoko,)).unwrap();
        assert_eq!(pinged, Ok(1));
        let of = |name| counter(&stage, relay, name);
        assert_eq!(["before", "started", "after", "finished", "cleaned_up"].map(of), [1, 1, 1, 1, 0]);
        let (pinged,): (u64,) = stage.update(motoko, "twice", (relay,)).unwrap();
        assert_eq!(pinged, 1);
        assert_eq!(
            counters(&stage, motoko),
            Counters { pings: 1, before: 1, after: 1, ended: 1, ..Default::default() }
        );
    }
}

/// An error that nobody catches ends the method; `finally` and guards run all the same.
#[test]
fn a_failed_call_runs_finally_and_drops_guards() {
    let (stage, pairs) = pairs();
    let nothing = stage.empty();
    for (relay, motoko) in pairs {
        let (pinged,): (Result<u64, Failure>,) = stage.update(relay, "twice", (nothing,)).unwrap();
        assert_eq!(pinged.unwrap_err().code, 5);
        let of = |name| counter(&stage, relay, name);
        assert_eq!(["before", "after", "finished", "cleaned_up"].map(of), [1, 0, 1, 0]);
        let error = stage.update::<(u64,)>(motoko, "twice", (nothing,)).unwrap_err();
        assert!(error.to_string().contains("IC0537"), "{error}");
        assert_eq!(counters(&stage, motoko), Counters { before: 1, ended: 1, ..Default::default() });
    }
}

#[test]
fn cycles_are_accepted_as_far_as_wanted_and_the_rest_is_refunded() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        for (sent, wanted, accepted) in [(1000_u32, 400_u32, 400_u32), (1000, 5000, 1000), (0, 10, 0)] {
            let paid = Payment { accepted: accepted.into(), refunded: (sent - accepted).into() };
            let (payment,): (Result<Payment, Failure>,) =
                stage.update(relay, "pay", (motoko, Nat::from(sent), Nat::from(wanted))).unwrap();
            assert_eq!(payment.as_ref(), Ok(&paid));
            let (payment,): (Payment,) =
                stage.update(motoko, "pay", (relay, Nat::from(sent), Nat::from(wanted))).unwrap();
            assert_eq!(payment, paid);
        }
    }
}

/// A callee that fails has accepted nothing: everything comes back.
#[test]
fn cycles_sent_to_a_failing_callee_come_back() {
    let (stage, pairs) = pairs();
    let (relay, _) = pairs[0];
    let balance = || stage.status(relay).unwrap().unwrap().cycles;
    let sent: u128 = 20_000_000_000_000;
    let before = balance();
    let args = (stage.empty(), Nat::from(sent), Nat::from(sent));
    let (payment,): (Result<Payment, Failure>,) = stage.update(relay, "pay", args).unwrap();
    assert_eq!(payment.unwrap_err().code, 5);
    // Its own execution costs a few million.
    assert!(before - balance() < 1_000_000_000, "{}", before - balance());
}

#[test]
fn cycles_that_a_canister_does_not_have_are_not_sent() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let riches = Nat::from(10_u128.pow(30));
        let (payment,): (Result<Payment, Failure>,) =
            stage.update(relay, "pay", (motoko, riches.clone(), Nat::from(0_u8))).unwrap();
        assert_eq!(payment.unwrap_err().code, 0);
        let error = stage.update::<(Payment,)>(motoko, "pay", (relay, riches, Nat::from(0_u8))).unwrap_err();
        assert!(error.to_string().contains(&format!("Canister {motoko} is out of cycles")), "{error}");
        assert_eq!(counter(&stage, relay, "accepted"), 0);
    }
}

#[test]
fn composite_queries_add_up_across_languages() {
    let (stage, pairs) = pairs();
    let (relay, motoko) = pairs[0];
    let all = vec![relay, motoko, pairs[1].0, pairs[1].1];
    for (times, canister) in (1..).zip(&all) {
        for _ in 0..times {
            stage.update::<(u64,)>(*canister, "ping", ()).unwrap();
        }
    }
    assert_eq!(stage.query::<(u64,)>(relay, "composite_sum", (all.clone(),)).unwrap(), (10,));
    // Oneself among them, twice: each query finds its canister as it was before all of this.
    for canister in [motoko, pairs[1].1] {
        let twice = [all.clone(), all.clone()].concat();
        assert_eq!(stage.query::<(u64,)>(canister, "compositeSum", (twice,)).unwrap(), (20,));
    }
    let with_nobody = vec![relay, stage.empty()];
    let error = stage.query::<(u64,)>(relay, "composite_sum", (with_nobody.clone(),)).unwrap_err();
    assert!(error.to_string().contains("IC0537"), "{error}");
    let error = stage.query::<(u64,)>(motoko, "compositeSum", (with_nobody,)).unwrap_err();
    assert!(error.to_string().contains("IC0537"), "{error}");
}

#[test]
fn composite_queries_are_no_updates() {
    let (stage, pairs) = pairs();
    let (relay, motoko) = pairs[0];
    let arg = Encode!(&vec![motoko]).unwrap();
    let reply = send(&stage, relay, "composite_sum", &arg, CallKind::Update).reply.unwrap_err();
    assert_eq!((reply.code, reply.error_code), (5, 527), "{reply}");
    let failure = forward(&stage, relay, motoko, "compositeSum", &arg).unwrap_err();
    assert!(failure.text.contains("IC0527"), "{failure:?}");
}

#[test]
fn a_best_effort_call_is_answered_in_time_and_its_callee_knows_until_when() {
    let (stage, pairs) = pairs();
    for (relay, motoko) in pairs {
        let (pinged,): (Result<u64, Failure>,) =
            stage.update(motoko, "pingBestEffort", (relay, 20_u32)).unwrap();
        assert_eq!(pinged, Ok(1));
        let other = stage.canister("relay");
        let deadline = |seconds: Option<u32>| -> u64 {
            let arg = Encode!().unwrap();
            let (reply,): (Result<Vec<u8>, Failure>,) = match seconds {
                None => stage.update(relay, "forward", (other, "deadline", arg, Nat::from(0_u8))),
                Some(seconds) => stage.update(
                    relay,
                    "forward_best_effort",
                    (other, "deadline", arg, Nat::from(0_u8), seconds),
                ),
            }
            .unwrap();
            Decode!(&reply.unwrap(), u64).unwrap()
        };
        let now = stage.time_nanos();
        assert_eq!(deadline(None), 0);
        assert_eq!(deadline(Some(20)), now + 20_000_000_000);
        assert_eq!(deadline(Some(1_000_000)), now + 300_000_000_000, "five minutes are the most");
    }
}

#[test]
fn inspect_message_keeps_people_out_and_lets_canisters_in() {
    let (stage, pairs) = pairs();
    let (relay, _) = pairs[0];
    let error = stage.update::<(u64,)>(relay, "forbidden", ()).unwrap_err();
    let reject = error.reject().unwrap();
    assert_eq!((reject.code, reject.error_code), (4, 406), "{reject}");
    let reply = forward(&stage, pairs[1].0, relay, "forbidden", &Encode!().unwrap()).unwrap();
    assert_eq!(Decode!(&reply, u64).unwrap(), 1);
}

#[test]
fn the_caller_is_who_called_last() {
    #[derive(CandidType, Deserialize)]
    struct Who {
        caller: Principal,
        canister: Principal,
        is_controller: bool,
    }
    let (stage, pairs) = pairs();
    let (relay, other) = (pairs[0].0, pairs[1].0);
    let (who,): (Who,) = stage.query(other, "who", ()).unwrap();
    assert_eq!((who.caller, who.canister, who.is_controller), (Principal::anonymous(), other, true));
    let reply = forward(&stage, relay, other, "who", &Encode!().unwrap()).unwrap();
    let who = Decode!(&reply, Who).unwrap();
    assert_eq!((who.caller, who.canister, who.is_controller), (relay, other, false));
}

#[test]
fn a_line_is_in_the_log_of_whoever_printed_it() {
    let (stage, pairs) = pairs();
    let (relay, other) = (pairs[0].0, pairs[1].0);
    forward(&stage, relay, other, "log", &Encode!(&"hello").unwrap()).unwrap();
    let lines = |canister| -> Vec<Vec<u8>> {
        stage.log(canister).unwrap().into_iter().map(|record| record.content).collect()
    };
    assert_eq!((lines(relay), lines(other)), (vec![], vec![b"hello".to_vec()]));
}

/// One canister answers many calls while its own method waits in between.
#[test]
fn a_method_that_awaits_lets_others_in() {
    let stage = languages();
    let relay = stage.canister("relay");
    stage.update::<()>(relay, "take_rounds", (50_u32,)).unwrap();
    assert_eq!(pings(&stage, relay), 50);
}

#[test]
fn an_upgrade_of_one_side_keeps_its_data_and_the_calls_go_on() {
    let (stage, pairs) = pairs();
    for ((relay, motoko), name) in pairs.into_iter().zip(MOTOKO) {
        for round in 1..=3_u64 {
            let (last,): (Nat,) = stage.update(motoko, "relay", (relay, Nat::from(2_u8))).unwrap();
            assert_eq!(last, Nat::from(2 * round));
            stage.upgrade(relay, &wasm("relay"), ()).unwrap();
            let (pinged,): (Result<u64, Failure>,) = stage.update(relay, "twice", (motoko,)).unwrap();
            assert_eq!(pinged, Ok(round));
            stage.upgrade(motoko, &wasm(name), ()).unwrap();
        }
        assert_eq!((pings(&stage, relay), pings(&stage, motoko)), (6, 3));
        assert_eq!(counter(&stage, relay, "finished"), 3);
        // A reinstallation forgets.
        stage.reinstall(relay, &wasm("relay"), ()).unwrap();
        stage.reinstall(motoko, &wasm(name), ()).unwrap();
        assert_eq!((pings(&stage, relay), counters(&stage, motoko)), (0, Counters::default()));
    }
}

/// Timers of both languages are made of the one that the system has, and of calls to oneself. Time moves, so all of it is
/// in one network.
#[test]
fn timers_fire_when_time_comes_and_an_upgrade_forgets_or_renews_them() {
    let network = Network::new().unwrap();
    let make = |name: &str| {
        let canister = network.create_canister().unwrap();
        network.install(canister, &wasm(name), ()).unwrap();
        canister
    };
    let (relay, motoko, classic) = (make("relay"), make(MOTOKO[0]), make(MOTOKO[1]));
    let ticks = || {
        let [eop, classic] = [motoko, classic].map(|canister| counters(&network, canister).ticks);
        [network.query::<(u64,)>(relay, "ticks", ()).unwrap().0, eop, classic]
    };
    let pass = |seconds| network.advance_time(Duration::from_secs(seconds)).unwrap();
    let start = || {
        network.update::<()>(relay, "timer_in", (10_u64,)).unwrap();
        for canister in [motoko, classic] {
            network.update::<()>(canister, "timerIn", (Nat::from(10_u8),)).unwrap();
        }
    };
    start();
    pass(9);
    assert_eq!(ticks(), [0, 0, 0]);
    pass(2);
    assert_eq!(ticks(), [1, 1, 1]);
    pass(100);
    assert_eq!(ticks(), [1, 1, 1], "once is once");
    // A timer that has not fired is forgotten by an upgrade.
    start();
    for (canister, name) in [(relay, "relay"), (motoko, MOTOKO[0]), (classic, MOTOKO[1])] {
        network.upgrade(canister, &wasm(name), ()).unwrap();
    }
    pass(20);
    assert_eq!(ticks(), [1, 1, 1]);
    // An interval fires again and again, and `post_upgrade` starts it anew.
    network.update::<()>(relay, "interval", (60_u64,)).unwrap();
    for expected in 2..5 {
        pass(60);
        assert_eq!(ticks()[0], expected);
    }
    network.upgrade(relay, &wasm("relay"), ()).unwrap();
    pass(60);
    assert_eq!(ticks()[0], 5);
    network.update::<()>(relay, "clear_interval", ()).unwrap();
    pass(600);
    assert_eq!(ticks()[0], 5);
    // A timer that calls another canister, in the other language.
    network.update::<()>(relay, "ping_in", (5_u64, motoko)).unwrap();
    pass(5);
    assert_eq!((ticks()[0], pings(&network, motoko)), (6, 1));
}

/// The test is the internet: it sees what is asked, and answers.
#[test]
fn an_http_request_waits_until_the_test_answers_it() {
    let network = Network::new().unwrap();
    let relay = network.create_canister().unwrap();
    network.install(relay, &wasm("relay"), ()).unwrap();
    let arg = candid::encode_one("https://example.com/price").unwrap();
    let message = network
        .submit(bedstone::Call {
            canister: relay,
            method: "fetch".to_owned(),
            arg,
            caller: Principal::anonymous(),
            kind: bedstone::CallKind::Update,
        })
        .unwrap();
    assert!(network.await_call(message).unwrap().is_none(), "nothing answers by itself");
    let [request] = &network.http_requests()[..] else { panic!("one request") };
    assert_eq!((request.url.as_str(), request.canister), ("https://example.com/price", relay));
    let response = bedstone::HttpResponse { status: 200, headers: Vec::new(), body: b"42".to_vec() };
    assert!(network.answer_http(request.id, Ok(response.clone())).unwrap());
    assert!(!network.answer_http(request.id, Ok(response)).unwrap(), "it was answered");
    let reply = network.await_call(message).unwrap().expect("answered").reply.unwrap();
    assert!(reply.windows(2).any(|bytes| bytes == b"42"), "{reply:?}");
}
