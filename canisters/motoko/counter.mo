/// A counter and an array it can fill: state that survives an upgrade without any upgrade hook.
///
/// The same source is compiled with enhanced orthogonal persistence, where the 64-bit main memory is kept across an
/// upgrade, and with classical persistence, where the compiler's own upgrade hooks carry the variables through
/// stable memory.
import Array "mo:core/Array";
import Nat64 "mo:core/Nat64";
import Runtime "mo:core/Runtime";

persistent actor Counter {
  var count : Nat = 0;
  var items : [Nat64] = [];

  /// Counts installs and upgrades of one state: bumped below, each time the actor's body runs.
  var starts : Nat = 0;
  starts += 1;

  /// Starts from zero again after an upgrade, unlike everything above.
  transient var sinceStart : Nat = 0;

  public func inc() : async Nat {
    count += 1;
    sinceStart += 1;
    count
  };

  public func set(value : Nat) : async () {
    count := value;
  };

  public query func get() : async Nat {
    count
  };

  /// Replaces the array by `n` items, the item at index `i` being `i * i`.
  public func fill(n : Nat) : async Nat {
    items := Array.tabulate<Nat64>(n, func i = Nat64.fromNat(i * i));
    items.size()
  };

  public query func item(index : Nat) : async ?Nat64 {
    if (index < items.size()) { ?items[index] } else { null }
  };

  public query func size() : async Nat {
    items.size()
  };

  public query func info() : async { starts : Nat; sinceStart : Nat } {
    { starts; sinceStart }
  };

  /// Changes the counter and the array, then traps: neither change may be seen afterwards.
  public func boom() : async () {
    count += 1_000_000;
    items := Array.tabulate<Nat64>(100_000, func _ = 7);
    Runtime.trap("boom");
  };
};
