//! Corner cases of answering, calling and paying, each as a program that the scripted canister runs: what the system allows,
//! what it refuses, and what is left afterwards.

use bedstone::{CallKind, Network, Principal, Reject};

use crate::support::{Ask, Operation, Program, ask, register, run, script, scripts, send, to};

/// Register 0, in which programs leave their traces.
fn traces(network: &Network, canister: Principal) -> String {
    String::from_utf8(register(network, canister, 0)).unwrap()
}

/// A program that leaves a trace.
fn trace(text: &str) -> Program {
    script().push(text.as_bytes()).append(0)
}

/// Whether a call failed with this code, and a text that has this part.
fn assert_fails(reply: Result<Vec<u8>, Reject>, error_code: u16, part: &str) {
    let reject = reply.expect_err("it should fail");
    assert!(reject.error_code == error_code && reject.message.contains(part), "{reject}");
}

/// What a callback gets: the reject code and the text.
fn failure(reply: Result<Vec<u8>, Reject>) -> (u32, String) {
    let reply = reply.unwrap();
    let (code, text) = reply.split_first_chunk().unwrap();
    (u32::from_le_bytes(*code), String::from_utf8(text.to_vec()).unwrap())
}

fn cycles(network: &Network, canister: Principal) -> u128 {
    network.status(canister).unwrap().unwrap().cycles
}

#[test]
fn a_second_answer_traps_and_takes_the_first_back() {
    let stage = scripts();
    let a = stage.scripted();
    let program = trace("once").reply_with(b"first").reply_with(b"second");
    assert_fails(run(&stage, a, &program), 504, "ic0.msg_reply_data_append: the call is already replied");
    let program = trace("twice").reply_with(b"first").msg_reply();
    assert_fails(run(&stage, a, &program), 504, "ic0.msg_reply: the call is already replied");
    let program = trace("thrice").reject_with("no").msg_reply();
    assert_fails(run(&stage, a, &program), 504, "ic0.msg_reply: the call is already rejected");
    let program = trace("four times").reply_with(b"yes").reject_with("no");
    assert_fails(run(&stage, a, &program), 504, "ic0.msg_reject: the call is already replied");
    assert_eq!(traces(&stage, a), "");
}

#[test]
fn data_without_a_reply_is_no_answer_and_a_reply_without_data_is_one() {
    let stage = scripts();
    let a = stage.scripted();
    let reply = run(&stage, a, &script().push(b"data").msg_reply_data_append());
    assert_fails(reply, 506, "did not reply to the call");
    assert_eq!(run(&stage, a, &script().msg_reply()), Ok(vec![]));
    assert_fails(run(&stage, a, &script().push(&[0xff]).msg_reject()), 504, "invalid UTF-8");
    let program = script().push(b"a").msg_reply_data_append().push(b"b").msg_reply_data_append().msg_reply();
    assert_eq!(run(&stage, a, &program), Ok(b"ab".to_vec()));
    // A reject forgets the data.
    let reply = run(&stage, a, &script().push(b"data").msg_reply_data_append().reject_with("no"));
    assert_fails(reply, 406, "no");
}

/// The caller has its answer before the callee is done; what the callee does wrong later is its own affair.
#[test]
fn an_answer_given_before_the_await_stays_when_the_callback_traps() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &script().reply_with(b"late"))
        .on_reply(trace("callback").reply_with_reply())
        .on_cleanup(trace("cleanup"));
    assert_eq!(run(&stage, a, &trace("first ").call(&call).reply_with(b"early")), Ok(b"early".to_vec()));
    assert_eq!(traces(&stage, a), "first cleanup");
    let log = stage.log(a).unwrap();
    let line = String::from_utf8_lossy(&log.last().unwrap().content).into_owned();
    assert!(line.starts_with("[TRAP]: ") && line.contains("the call is already replied"), "{line}");
}

#[test]
fn a_callback_knows_the_reject_code_and_the_text() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let tell = |call: Ask| run(&stage, a, &script().call(&call.passing_on()));
    // 0 is a reply.
    let call = to(b, &script().reply_with(b"")).on_reply(script().msg_reject_code().reply());
    assert_eq!(run(&stage, a, &script().call(&call)), Ok(vec![0; 4]));
    assert_eq!(failure(tell(to(b, &script().reject_with("no")))), (4, "no".to_owned()));
    assert_eq!(failure(tell(to(b, &script()))), (5, "IC0506: No response".to_owned()));
    let (code, text) = failure(tell(to(b, &script().trap_with("ouch"))));
    let start = format!("IC0503: Error from Canister {b}: Canister called `ic0.trap` with message: 'ouch'");
    assert!(code == 5 && text.starts_with(&start), "{code} {text}");
    let (code, text) = failure(tell(to(b, &script().unreachable())));
    let start = format!("IC0502: Error from Canister {b}: Canister trapped: unreachable");
    assert!(code == 5 && text.starts_with(&start), "{code} {text}");
    let (code, text) = failure(tell(Ask::new(b.as_slice(), "nothing")));
    assert!(code == 5 && text.contains("Canister has no update method 'nothing'"), "{code} {text}");
    // There is no text without a reject.
    let call = to(b, &script().reply_with(b"")).on_reply(script().msg_reject_msg().reply());
    assert_fails(run(&stage, a, &script().call(&call)), 504, "reply callback mode");
}

#[test]
fn whoever_is_not_there_is_told_apart() {
    let stage = scripts();
    let a = stage.scripted();
    let tell =
        |callee: &[u8]| failure(run(&stage, a, &script().call(&Ask::new(callee, "update").passing_on())));
    let nobody = Principal::from_slice(&[0, 0, 0, 0, 0, 15, 1, 1, 1, 1]);
    assert_eq!(tell(nobody.as_slice()), (3, format!("IC0301: Canister {nobody} not found")));
    let empty = stage.empty();
    let (code, text) = tell(empty.as_slice());
    assert!(code == 5 && text.contains("IC0537") && text.contains("no Wasm module"), "{text}");
    // Principals that are no canister's at all.
    for id in [&[4][..], &[7; 29]] {
        assert_eq!(tell(id).0, 3);
    }
    let reply = run(&stage, a, &script().call(&Ask::new(&[7; 30], "update")));
    assert_fails(reply, 504, "Canister provided invalid principal id");
}

#[test]
fn a_query_called_by_an_update_keeps_nothing_and_a_composite_query_cannot_be_called() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let program = trace("gone").in_replicated_execution().reply();
    let call = Ask::new(b.as_slice(), "query").argument(&program).passing_on();
    assert_eq!(run(&stage, a, &script().call(&call)), Ok(vec![1, 0, 0, 0]), "it is replicated");
    assert_eq!(traces(&stage, b), "");
    let call = Ask::new(b.as_slice(), "composite_query").argument(&program).passing_on();
    let (code, text) = failure(run(&stage, a, &script().call(&call)));
    assert_eq!((code, text.contains("IC0527")), (5, true), "{text}");
}

/// 500 calls to one canister may wait for their answers; calls to others are not concerned.
#[test]
fn the_501st_call_to_one_canister_is_not_performed() {
    let stage = scripts();
    let (a, b, c) = (stage.scripted(), stage.scripted(), stage.scripted());
    let call = to(b, &script().msg_reply()).on_reply(trace("r"));
    let other = to(c, &script().msg_reply()).on_reply(trace("o"));
    let program = script()
        .repeat(503, &script().call(&call).append(1))
        .repeat(2, &script().call(&other).append(1))
        .load(1)
        .reply();
    let results = run(&stage, a, &program).unwrap();
    let results: Vec<u8> = results.chunks(4).map(|result| result[0]).collect();
    assert_eq!(results, [vec![0; 500], vec![2; 3], vec![0; 2]].concat());
    let came = traces(&stage, a);
    assert_eq!((came.matches('r').count(), came.matches('o').count()), (500, 2));
    // Answered calls make room again.
    let reply = run(&stage, a, &script().call(&call).reply());
    assert_eq!(reply, Ok(vec![0; 4]));
}

#[test]
fn calls_arrive_in_the_order_in_which_they_were_made() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let mut program = script();
    for letter in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let call = to(b, &trace(letter).msg_reply()).on_reply(trace(&letter.to_uppercase()));
        program = program.call(&call);
    }
    run(&stage, a, &program.msg_reply()).unwrap();
    assert_eq!((traces(&stage, b).as_str(), traces(&stage, a).as_str()), ("abcdefgh", "ABCDEFGH"));
}

#[test]
fn a_trap_discards_the_calls_of_its_message_and_only_those() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = |letter: &str| to(b, &trace(letter).msg_reply());
    assert_fails(run(&stage, a, &script().call(&call("x")).unreachable()), 502, "unreachable");
    // The callback calls and traps: the call before the await happened, this one did not.
    let first = call("y").on_reply(script().call(&call("z")).trap_with("late"));
    assert_fails(run(&stage, a, &script().call(&first)), 503, "late");
    assert_eq!(traces(&stage, b), "y");
}

/// Every await commits: three in a row, and a trap in the third callback takes back what only that one did.
#[test]
fn each_await_commits_what_went_before() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let answer = script().msg_reply();
    let third = to(b, &answer).on_reply(trace("4").trap_with("at last")).on_cleanup(trace("c"));
    let second = to(b, &answer).on_reply(trace("3").call(&third)).on_cleanup(trace("never"));
    let first = to(b, &answer).on_reply(trace("2").call(&second)).on_cleanup(trace("never"));
    assert_fails(run(&stage, a, &trace("1").call(&first)), 503, "at last");
    assert_eq!(traces(&stage, a), "123c");
}

#[test]
fn a_reject_callback_that_traps_is_cleaned_up_too() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &trace("undone").reject_with("no"))
        .on_reject(trace("rejected").unreachable())
        .on_cleanup(trace("cleaned"));
    assert_fails(run(&stage, a, &script().call(&call)), 502, "unreachable");
    assert_eq!(traces(&stage, a), "cleaned");
    // An explicit reject is no trap: what the callee did stays.
    assert_eq!(traces(&stage, b), "undone");
}

#[test]
fn a_cleanup_that_traps_is_taken_back_and_told_with_the_callbacks_error() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &script().msg_reply())
        .on_reply(trace("callback").trap_with("first"))
        .on_cleanup(trace("cleanup").trap_with("second"));
    let reject = run(&stage, a, &trace("kept").call(&call)).unwrap_err();
    assert_eq!(reject.error_code, 503);
    let (first, second) = reject.message.split_once("\n\ncall_on_cleanup also failed:\n\n").unwrap();
    assert!(first.contains("'first'") && second.contains("'second'"), "{reject}");
    assert_eq!(traces(&stage, a), "kept");
}

#[test]
fn a_cleanup_may_neither_answer_nor_call() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let other = to(b, &trace("called").msg_reply());
    for forbidden in [script().msg_reply(), script().reject_with("no"), script().call(&other)] {
        let call = to(b, &script().msg_reply()).on_reply(script().unreachable()).on_cleanup(forbidden);
        let reject = run(&stage, a, &script().call(&call)).unwrap_err();
        assert!(reject.message.contains("cannot be executed in cleanup mode"), "{reject}");
    }
    assert_eq!(traces(&stage, b), "");
}

/// Of several calls at once, one whose callback traps does not keep another from answering.
#[test]
fn a_trap_in_one_callback_leaves_the_answer_to_another() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let answer = script().msg_reply();
    let bad = to(b, &answer).on_reply(script().trap_with("bad"));
    let good = to(b, &answer).on_reply(script().reply_with(b"good"));
    assert_eq!(run(&stage, a, &script().call(&bad).call(&good)), Ok(b"good".to_vec()));
    // The first one to answer is heard; the second traps.
    assert_eq!(run(&stage, a, &script().call(&good).call(&good)), Ok(b"good".to_vec()));
    // If none answers, the call has no answer; the last trap is told only if it was the last thing to happen.
    let silent = to(b, &answer);
    assert_fails(run(&stage, a, &script().call(&bad).call(&silent)), 506, "did not reply");
    assert_fails(run(&stage, a, &script().call(&silent).call(&bad)), 503, "bad");
}

#[test]
fn a_callback_that_is_no_function_fails_the_call() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    // Function 1,000,000 with environment 0, for both callbacks.
    let program = script()
        .push(b.as_slice())
        .operation(Operation::Pin)
        .push(b"update")
        .operation(Operation::Pin)
        .push_u32(1_000_000)
        .push_u32(0)
        .push_u32(1_000_000)
        .push_u32(0)
        .system("call_new")
        .call_perform();
    assert_fails(run(&stage, a, &program), 513, "non-existent Wasm function 1000000 from table 0");
}

#[test]
fn a_call_is_put_together_in_order() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &script().msg_reply());
    for early in [
        script().push(b"x").call_data_append(),
        script().push_u128(1).call_cycles_add128(),
        script().push_u32(1).call_with_best_effort_response(),
        script().call_on_cleanup(&script()),
        script().call_perform(),
        // Performed once is no longer under construction.
        script().call(&call).call_perform(),
    ] {
        assert_fails(run(&stage, a, &early), 504, "no call under construction");
    }
    let twice = script().construct(&call).call_on_cleanup(&script()).call_on_cleanup(&script());
    assert_fails(run(&stage, a, &twice), 504, "at most once");
    let twice = script().construct(&call.clone().best_effort(1)).push_u32(1).call_with_best_effort_response();
    assert_fails(run(&stage, a, &twice), 504, "a timeout is already set");
}

#[test]
fn cycles_of_a_call_that_is_dropped_are_back_at_once() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let expensive = to(b, &script().msg_reply()).cycles(1_000_000_000_000);
    let look = script().canister_cycle_balance128().append(1);
    let program = look
        .construct(&expensive)
        .canister_cycle_balance128()
        .append(1)
        .construct(&to(b, &script()))
        .canister_cycle_balance128()
        .append(1)
        .construct(&expensive)
        .load(1)
        .reply();
    let before = cycles(&stage, a);
    let balances = run(&stage, a, &program).unwrap();
    let balances: Vec<u128> =
        balances.chunks(16).map(|bytes| u128::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!((balances[0] - balances[1], balances[0] - balances[2]), (1_000_000_000_000, 0));
    // The last one is dropped with the message.
    assert!(before - cycles(&stage, a) < 1_000_000_000);
}

#[test]
fn cycles_are_accepted_bit_by_bit_also_after_an_await_but_not_after_the_answer() {
    let stage = scripts();
    let (a, b, c) = (stage.scripted(), stage.scripted(), stage.scripted());
    let accept = |program: Program, most: u128| program.push_u128(most).msg_cycles_accept128().append(1);
    let available = |program: Program| program.msg_cycles_available128().append(1);
    let after = available(accept(script(), 150)).load(1).reply();
    let after = accept(after, 50);
    let wait = to(c, &script().msg_reply()).on_reply(after);
    let callee = available(accept(available(accept(available(script()), 400)), 300)).call(&wait);
    let call = to(b, &callee)
        .cycles(1000)
        .on_reply(script().msg_arg_data().msg_cycles_refunded128().concatenate().reply());
    let (before, reply) = (cycles(&stage, b), run(&stage, a, &script().call(&call)).unwrap());
    let amounts: Vec<u128> =
        reply.chunks(16).map(|bytes| u128::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(amounts, [1000, 400, 600, 300, 300, 150, 150, 150]);
    // Accepted after the answer: nothing.
    let late = register(&stage, b, 1);
    assert_eq!(late[late.len() - 16..], [0; 16]);
    assert_eq!(cycles(&stage, b), before + 850);
}

/// A callee that traps accepts nothing.
#[test]
fn what_a_trapping_callee_accepted_is_refunded() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let callee = script().push_u128(1 << 40).msg_cycles_accept128().unreachable();
    let call = to(b, &callee).cycles(1 << 40).on_reject(script().msg_cycles_refunded128().reply());
    assert_eq!(run(&stage, a, &script().call(&call)), Ok((1_u128 << 40).to_le_bytes().to_vec()));
    // In a callback: what was accepted before the await stays, what the trapped callback took does not.
    let take = |program: Program, most: u128| program.push_u128(most).msg_cycles_accept128().drop();
    let wait = to(a, &script().msg_reply()).on_reply(take(script(), 1 << 30).unreachable());
    let callee = take(script(), 1 << 20).call(&wait);
    let call = to(b, &callee).cycles(1 << 40).on_reject(script().msg_cycles_refunded128().reply());
    let refund = (1_u128 << 40) - (1 << 20);
    assert_eq!(run(&stage, a, &script().call(&call)), Ok(refund.to_le_bytes().to_vec()));
}

#[test]
fn more_cycles_than_there_are_cannot_be_attached() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &script().msg_reply()).cycles(u128::MAX);
    assert_fails(run(&stage, a, &trace("x").call(&call)), 504, &format!("Canister {a} is out of cycles"));
    assert_eq!(traces(&stage, a), "");
    let burned = run(&stage, a, &script().push_u128(77).cycles_burn128().reply());
    assert_eq!(burned, Ok(77_u128.to_le_bytes().to_vec()));
}

#[test]
fn a_deadline_is_seen_by_the_callee_of_a_best_effort_call_only() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let now = stage.time_nanos();
    let deadline = |call: Ask| {
        let reply = run(&stage, a, &script().call(&call.passing_on())).unwrap();
        u64::from_le_bytes(reply.try_into().unwrap())
    };
    let tell = script().msg_deadline().reply();
    assert_eq!(deadline(to(b, &tell)), 0);
    assert_eq!(deadline(to(b, &tell).best_effort(7)), now + 7_000_000_000);
    assert_eq!(deadline(to(b, &tell).best_effort(301)), now + 300_000_000_000);
    // It is the callee's own caller who waits until then: not the callee's callees'.
    let further = to(b, &script().call(&to(b, &tell).passing_on())).best_effort(7);
    assert_eq!(deadline(further), 0);
    assert_eq!(run(&stage, a, &tell), Ok(vec![0; 8]));
}

#[test]
fn a_canister_can_call_itself_and_is_not_locked_meanwhile() {
    let stage = scripts();
    let a = stage.scripted();
    let inner = to(a, &trace("inner ").reply_with(b"me")).on_reply(trace("callback").reply_with_reply());
    assert_eq!(run(&stage, a, &trace("outer ").call(&inner)), Ok(b"me".to_vec()));
    assert_eq!(traces(&stage, a), "outer inner callback");
}

/// 60 canisters' worth of waiting, with two canisters that take turns.
#[test]
fn a_chain_of_calls_comes_back_from_its_depth() {
    let stage = scripts();
    let members = [stage.scripted(), stage.scripted()];
    let mut program = script().reply_with(b"bottom");
    for depth in 0..60 {
        let call = to(members[depth % 2], &program);
        let back = script().msg_arg_data().push(b".").concatenate().reply();
        program = script().call(&call.on_reply(back));
    }
    let reply = String::from_utf8(run(&stage, members[0], &program).unwrap()).unwrap();
    assert_eq!(reply, format!("bottom{}", ".".repeat(60)));
}

#[test]
fn instruction_counters_start_afresh_in_a_callback_or_go_on() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let both = |program: Program| {
        program.push_u32(0).performance_counter().append(1).push_u32(1).performance_counter().append(1)
    };
    let busy = script().fill(7, 100_000).drop();
    let call = to(b, &busy.clone().msg_reply()).on_reply(both(script()).load(1).reply());
    let reply = run(&stage, a, &both(busy).call(&call)).unwrap();
    let counts: Vec<u64> =
        reply.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    let [first, first_all, callback, callback_all] = counts[..] else { panic!("{counts:?}") };
    assert!(first_all > first && first_all - first < 100_000, "{counts:?}");
    assert!(callback < first, "a callback does little: {counts:?}");
    assert!(callback_all > first_all + callback, "{counts:?}");
    let reply = run(&stage, a, &script().push_u32(2).performance_counter().drop());
    assert_fails(reply, 504, "performance_counter");
}

#[test]
fn the_version_goes_up_with_each_execution_that_succeeds() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let version = || stage.status(a).unwrap().unwrap().version;
    let tell = script().canister_version().reply();
    let start = version();
    assert_eq!(run(&stage, a, &tell), Ok(start.to_le_bytes().to_vec()));
    assert_eq!(version(), start + 1);
    assert_eq!(ask(&stage, a, &tell), Ok((start + 1).to_le_bytes().to_vec()));
    assert_eq!(version(), start + 1, "queries change nothing");
    run(&stage, a, &script().unreachable()).unwrap_err();
    assert_eq!(version(), start + 1, "nor do traps");
    run(&stage, a, &script().reject_with("no")).unwrap_err();
    assert_eq!(version(), start + 2, "a reject is a success of its own");
    let call = to(b, &script().msg_reply()).on_reply(tell.clone());
    assert_eq!(run(&stage, a, &script().call(&call)), Ok((start + 3).to_le_bytes().to_vec()));
    assert_eq!(version(), start + 4, "the method and its callback");
}

#[test]
fn what_comes_from_outside_has_its_limits() {
    let stage = scripts();
    let a = stage.scripted();
    let mut argument = script().reply_with(b"in").bytes().to_vec();
    let program = argument.len();
    let take = |argument: &[u8]| send(&stage, a, "update", argument, CallKind::Update).reply;
    assert_eq!(take(&argument), Ok(b"in".to_vec()));
    // Beyond 2 MiB nothing is let in; the canister does not hear of it.
    argument.resize((2 << 20) + 1, 0);
    assert_fails(take(&argument), 402, "2097152");
    assert!(program < argument.len());
    let reply = |bytes: u32| script().fill(1, bytes).reply();
    assert_eq!(run(&stage, a, &reply(2 << 20)).unwrap().len(), 2 << 20);
    assert_fails(run(&stage, a, &reply((2 << 20) + 1)), 504, "cannot be larger than 2097152");
    assert_eq!(ask(&stage, a, &reply(3 << 20)).unwrap().len(), 3 << 20);
    assert_fails(ask(&stage, a, &reply((3 << 20) + 1)), 504, "cannot be larger than 3145728");
}

#[test]
fn what_canisters_send_each_other_has_its_limits() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let size = script().msg_arg_data_size().reply();
    let send = |bytes: u32| {
        let call = Ask::new(b.as_slice(), "transform").passing_on();
        let program = script().construct(&call).fill(9, bytes).call_data_append().call_perform();
        run(&stage, a, &program)
    };
    run(&stage, b, &script().set_program(crate::support::Entry::Transform, &size).msg_reply()).unwrap();
    assert_eq!(send(1 << 20), Ok((1_u32 << 20).to_le_bytes().to_vec()));
    assert_fails(send((10 << 20) + 1), 504, "10485760");
    let long = "m".repeat(20_001);
    let reply = run(&stage, a, &script().call(&Ask::new(b.as_slice(), &long)));
    assert_fails(reply, 504, "20000");
    // Certified data has 32 bytes.
    run(&stage, a, &script().fill(1, 32).certified_data_set().msg_reply()).unwrap();
    let reply = run(&stage, a, &script().fill(1, 33).certified_data_set().msg_reply());
    assert_fails(reply, 504, "certified_data_set");
}

#[test]
fn some_things_can_be_done_in_some_places_only() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &trace("called").msg_reply());
    let mode = "cannot be executed in non replicated query mode";
    assert_fails(ask(&stage, a, &script().call(&call)), 504, mode);
    assert_fails(ask(&stage, a, &script().push_u64(1).global_timer_set()), 504, mode);
    assert_fails(ask(&stage, a, &script().push(b"").certified_data_set()), 504, mode);
    assert_fails(ask(&stage, a, &script().msg_cycles_available128()), 504, mode);
    let mode = "cannot be executed in update mode";
    assert_fails(run(&stage, a, &script().msg_reject_code()), 504, mode);
    assert_fails(run(&stage, a, &script().msg_cycles_refunded128()), 504, mode);
    assert_fails(run(&stage, a, &script().accept_message()), 504, mode);
    assert_fails(run(&stage, a, &script().msg_method_name()), 504, mode);
    assert_fails(run(&stage, a, &script().data_certificate()), 504, mode);
    assert_eq!(traces(&stage, b), "");
    assert_eq!(ask(&stage, a, &script().in_replicated_execution().reply()), Ok(vec![0; 4]));
    assert_eq!(run(&stage, a, &script().data_certificate_present().reply()), Ok(vec![0; 4]));
}

#[test]
fn composite_queries_go_six_deep_and_leave_nothing() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    // `depth` calls below the first query.
    let nested = |depth: usize| {
        let mut program = trace("gone").reply_with(b"bottom");
        for level in 0..depth {
            let callee = [a, b][level % 2];
            let call = Ask::new(callee.as_slice(), "composite_query").argument(&program).passing_on();
            program = trace("gone").call(&call);
        }
        send(&stage, a, "composite_query", program.bytes(), CallKind::Query).reply
    };
    assert_eq!(nested(5), Ok(b"bottom".to_vec()));
    let (code, text) = failure(nested(6));
    assert!(code == 5 && text.contains("maximum call depth"), "{code} {text}");
    assert_eq!((traces(&stage, a), traces(&stage, b)), (String::new(), String::new()));
    // Within one tree a canister does see what it did: the callback finds what the method left.
    let call = Ask::new(b.as_slice(), "query").argument(&script().reply_with(b""));
    let program = trace("kept").call(&call.on_reply(script().load(0).reply()));
    let reply = send(&stage, a, "composite_query", program.bytes(), CallKind::Query).reply;
    assert_eq!(reply, Ok(b"kept".to_vec()));
}

/// A canister that is called again in the tree of its own composite query is there as it was before; afterwards its callback
/// finds what it did itself, in heap, stable memory and globals, and not what the others did.
#[test]
fn each_query_of_a_tree_begins_with_what_was_before_the_tree() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let start =
        script().push(b"s").store(0).push_u64(1).stable64_grow().push_u64(9).push(b"S").stable64_write();
    run(&stage, a, &start.msg_reply()).unwrap();
    let stable = |program: Program| {
        program.stable64_size().push_u64(9).push_u64(1).stable64_read().concatenate().append(0)
    };
    let spoil = |mark: &[u8]| {
        let grown = script().push_u64(2).stable64_grow().drop().heap_grow(3).drop();
        grown.push_u64(9).push(mark).stable64_write().push(mark).append(0)
    };
    let seen = stable(spoil(b"x")).load(0);
    let inner = || Ask::new(a.as_slice(), "composite_query").argument(&seen.clone().reply());
    // Through another canister, and directly; in the callbacks everything is as the caller left it.
    let through = Ask::new(b.as_slice(), "composite_query").argument(&script().call(&inner().passing_on()));
    let last = inner().on_reply(stable(script().msg_arg_data().append(0)).load(0).reply());
    let outer = spoil(b"y").call(&through.on_reply(script().msg_arg_data().append(0).call(&last)));
    let reply = send(&stage, a, "composite_query", outer.bytes(), CallKind::Query).reply.unwrap();
    let fresh = [&b"sx"[..], &3_u64.to_le_bytes(), b"x"].concat();
    let expected = [&b"sy"[..], &fresh, &fresh, &3_u64.to_le_bytes(), b"y"].concat();
    assert_eq!(reply, expected);
    // And nothing is left of any of it.
    let reply = ask(&stage, a, &stable(script()).load(0).reply()).unwrap();
    assert_eq!(reply, [&b"s"[..], &1_u64.to_le_bytes(), b"S"].concat());
}

#[test]
fn what_a_trap_undoes_includes_memory_that_it_grew() {
    let stage = scripts();
    let a = stage.scripted();
    let before = stage.status(a).unwrap().unwrap();
    let grow = script().push_u64(3).stable64_grow().drop().push_u64(5).push(b"x").stable64_write();
    let grow = grow.heap_grow(20).drop().push_u128(5).cycles_burn128().drop();
    assert_fails(run(&stage, a, &grow.clone().unreachable()), 502, "unreachable");
    let after = stage.status(a).unwrap().unwrap();
    assert_eq!((after.heap_bytes, after.stable_bytes), (before.heap_bytes, before.stable_bytes));
    let look = script().stable64_size().push_u64(0).push_u64(8).stable64_read().concatenate().reply();
    run(&stage, a, &grow.msg_reply()).unwrap();
    assert_eq!(run(&stage, a, &look), Ok(b"\x03\0\0\0\0\0\0\0\0\0\0\0\0x\0\0".to_vec()));
    assert_eq!(stage.status(a).unwrap().unwrap().stable_bytes, 3 << 16);
}

#[test]
fn a_canister_without_environment_variables_has_none() {
    let stage = scripts();
    let a = stage.scripted();
    assert_eq!(run(&stage, a, &script().env_var_count().reply()), Ok(vec![0; 4]));
    assert_eq!(run(&stage, a, &script().push(b"NAME").env_var_name_exists().reply()), Ok(vec![0; 4]));
    run(&stage, a, &script().push(b"NAME").env_var_value_size()).unwrap_err();
    run(&stage, a, &script().push_u32(0).env_var_name_size()).unwrap_err();
}
