/// Bytes in a `Region`, Motoko's view of stable memory: all of them survive an upgrade.
///
/// The same source is compiled with enhanced orthogonal persistence and with classical persistence. In the classical
/// build an upgrade also writes the actor's variables to stable memory, behind the region.
import Nat64 "mo:core/Nat64";
import Region "mo:core/Region";
import Runtime "mo:core/Runtime";

persistent actor Regions {
  let region = Region.new();

  /// Grows the region by some pages of 64 KiB and returns its size before, or 2^64 - 1 if it cannot grow.
  public func grow(pages : Nat64) : async Nat64 {
    Region.grow(region, pages)
  };

  public query func size() : async Nat64 {
    Region.size(region)
  };

  public func storeNat64(offset : Nat64, value : Nat64) : async () {
    Region.storeNat64(region, offset, value);
  };

  public query func loadNat64(offset : Nat64) : async Nat64 {
    Region.loadNat64(region, offset)
  };

  public func storeBlob(offset : Nat64, bytes : Blob) : async () {
    Region.storeBlob(region, offset, bytes);
  };

  public query func loadBlob(offset : Nat64, size : Nat) : async Blob {
    Region.loadBlob(region, offset, size)
  };

  /// Writes `n` numbers of 8 bytes from offset 0 on, growing the region to fit. The number at index `i` is
  /// `i * 2654435761 + 1`: different from zero and from its neighbours in every byte that matters.
  public func fill(n : Nat) : async Nat64 {
    fit(Nat64.fromNat(n) * 8);
    var index : Nat64 = 0;
    let end = Nat64.fromNat(n);
    while (index < end) {
      Region.storeNat64(region, index * 8, index * 2_654_435_761 + 1);
      index += 1;
    };
    Region.size(region)
  };

  /// Writes over the first `pages` pages of the region, growing it to fit, then traps: nothing may have changed.
  public func boom(pages : Nat64) : async () {
    fit(pages * page_bytes);
    var page : Nat64 = 0;
    while (page < pages) {
      Region.storeNat64(region, page * page_bytes, 0xDEAD_BEEF);
      page += 1;
    };
    Runtime.trap("boom");
  };

  transient let page_bytes : Nat64 = 65_536;

  func fit(bytes : Nat64) {
    let pages = (bytes + page_bytes - 1) / page_bytes;
    let size = Region.size(region);
    if (pages > size and Region.grow(region, pages - size) == 0xFFFF_FFFF_FFFF_FFFF) {
      Runtime.trap("the region cannot grow");
    };
  };
};
