/// An actor that calls others, given by their principals: one after the other, all at once, with cycles, from a timer,
/// from a composite query, and when they fail.
///
/// Whatever has a `ping`, a `value` and an `accept` can be called: this actor, and the canister `relay`. The same source
/// is compiled with enhanced orthogonal persistence and with classical persistence. Everything survives an upgrade but
/// timers that have not fired.
import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Timer "mo:core/Timer";

persistent actor Counterpart {
  type Peer = actor {
    ping : () -> async Nat64;
    value : query () -> async Nat64;
    accept : (atMost : Nat) -> async Nat;
    fail : (text : Text) -> async ();
    refuse : (text : Text) -> async ();
  };

  /// A call without an answer. The code is the reject code, or 0 with the error's own code in the text if the call could
  /// not be made.
  type Failure = { code : Nat32; text : Text };
  type Done = { #Ok; #Err : Failure };

  var pings : Nat64 = 0;
  var before : Nat64 = 0;
  var after : Nat64 = 0;
  var ended : Nat64 = 0;
  var ticks : Nat64 = 0;

  /// Counts this call and returns how often it has been called. `value` returns the same number and counts nothing.
  public func ping() : async Nat64 {
    pings += 1;
    pings
  };

  public query func value() : async Nat64 {
    pings
  };

  public query func counters() : async { pings : Nat64; before : Nat64; after : Nat64; ended : Nat64; ticks : Nat64 } {
    { pings; before; after; ended; ticks }
  };

  /// Calls `ping` so many times, each after the answer to the one before, and returns the last answer.
  public func relay(peer : Principal, times : Nat) : async Nat {
    let other = at(peer);
    var last : Nat64 = 0;
    for (_ in Nat.range(0, times)) {
      last := await other.ping();
    };
    Nat64.toNat(last)
  };

  /// Calls `ping` so many times at once and returns the sum of the answers.
  public func parallel(peer : Principal, times : Nat) : async Nat {
    let other = at(peer);
    let calls = List.empty<async Nat64>();
    for (_ in Nat.range(0, times)) {
      List.add(calls, other.ping());
    };
    var sum = 0;
    for (call in List.values(calls)) {
      sum += Nat64.toNat(await call);
    };
    sum
  };

  /// Calls `fail`, which traps, or `refuse`, which rejects, and returns what came back.
  public func callFail(peer : Principal, text : Text) : async Done {
    try {
      await at(peer).fail(text);
      #Ok
    } catch error {
      #Err(failure(error))
    }
  };

  public func callRefuse(peer : Principal, text : Text) : async Done {
    try {
      await at(peer).refuse(text);
      #Ok
    } catch error {
      #Err(failure(error))
    }
  };

  public func fail(text : Text) : async () {
    Runtime.trap(text);
  };

  public func refuse(text : Text) : async () {
    throw Error.reject(text);
  };

  /// Counts `before`, calls `ping`, counts `after`, and counts `ended` however it ends.
  public func twice(peer : Principal) : async Nat64 {
    try {
      before += 1;
      let answer = await at(peer).ping();
      after += 1;
      answer
    } finally {
      ended += 1;
    }
  };

  /// The same, but traps after counting `after`: `before` stays, `after` does not, and `ended` is counted by the cleanup.
  public func trapAfterAwait(peer : Principal) : async () {
    try {
      before += 1;
      ignore await at(peer).ping();
      after += 1;
      Runtime.trap("trapped after the await");
    } finally {
      ended += 1;
    }
  };

  /// Accepts at most so many of the cycles that came with the call and returns how many it got.
  public func accept(atMost : Nat) : async Nat {
    Cycles.accept<system>(atMost)
  };

  /// Calls `accept` with cycles attached.
  public func pay(peer : Principal, cycles : Nat, atMost : Nat) : async { accepted : Nat; refunded : Nat } {
    let accepted = await (with cycles) at(peer).accept(atMost);
    { accepted; refunded = Cycles.refunded() }
  };

  public query func balance() : async Nat {
    Cycles.balance()
  };

  /// Calls `ping` with a best-effort response within so many seconds.
  public func pingBestEffort(peer : Principal, seconds : Nat32) : async { #Ok : Nat64; #Err : Failure } {
    try {
      #Ok(await (with timeout = seconds) at(peer).ping())
    } catch error {
      #Err(failure(error))
    }
  };

  /// Counts `ticks` once, so many seconds later.
  public func timerIn(seconds : Nat) : async () {
    ignore Timer.setTimer<system>(#seconds seconds, func() : async () { ticks += 1 });
  };

  /// The sum of what `value` of the peers returns.
  public composite query func compositeSum(peers : [Principal]) : async Nat64 {
    var sum : Nat64 = 0;
    for (peer in peers.values()) {
      sum += await at(peer).value();
    };
    sum
  };

  func at(peer : Principal) : Peer {
    actor (Principal.toText(peer)) : Peer
  };

  func failure(error : Error.Error) : Failure {
    let text = Error.message(error);
    switch (Error.code(error)) {
      case (#system_fatal) { { code = 1; text } };
      case (#system_transient) { { code = 2; text } };
      case (#destination_invalid) { { code = 3; text } };
      case (#canister_reject) { { code = 4; text } };
      case (#canister_error) { { code = 5; text } };
      case (#system_unknown) { { code = 6; text } };
      case (#future code) { { code; text } };
      case (#call_error { err_code }) { { code = 0; text = "call_perform returned " # debug_show err_code # ": " # text } };
    }
  };
};
