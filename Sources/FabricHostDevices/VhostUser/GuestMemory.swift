import FabricBounded
import FabricHostDriver
import FabricPlatform
import FabricVerbs

/// A piece of the guest's memory in this process.
///
/// The guest writes to it at any moment: whatever is read is copied first and checked then.
final class GuestRegion {
  let description: RegionDescription
  /// First byte, in this process.
  let address: UInt64
  /// With the fabric, where that takes foreign memory.
  let registration: MemoryRegion?
  private let domain: (any ProtectionDomain)?
  /// Keeps the bytes.
  private let owner: AnyObject

  init(
    _ description: RegionDescription, address: UInt64, owner: AnyObject,
    domain: (any ProtectionDomain)? = nil, registration: MemoryRegion? = nil
  ) {
    self.description = description
    self.address = address
    self.owner = owner
    self.domain = domain
    self.registration = registration
  }

  deinit { if let registration { domain?.deregister(registration) } }

  /// Maps what the front end has passed, and registers it if `volume` is given. (VU-20, VU-21)
  ///
  /// - Parameter takesUnsealed: also a file that the front end could make shorter, which would end this
  ///   process.
  static func map(
    _ description: RegionDescription, of file: PassedDescriptor, takesUnsealed: Bool,
    for volume: RemoteVolumeQueue?
  ) throws(VhostUserFault) -> GuestRegion {
    guard takesUnsealed || file.isSealedMemory else {
      throw .memory(
        "expected guest memory in a memfd that is sealed against shrinking, got another file: with "
          + "QEMU use memory-backend-memfd, or trust the front end and allow unsealed memory")
    }
    let end = description.fileOffset + description.byteCount
    guard let size = file.fileByteCount, end <= size else {
      throw .memory(
        "expected guest memory of \(end) bytes, got a file of \(file.fileByteCount ?? 0)")
    }
    let mapping: Mapping
    do {
      mapping = try Mapping.shared(file.descriptor, byteCount: Int(end), access: .readWrite)
    } catch { throw .memory("mapping \(end) bytes of guest memory failed: \(error)") }
    let address = mapping.address + description.fileOffset
    guard let volume else { return GuestRegion(description, address: address, owner: mapping) }
    do {
      let registration = try volume.register(
        address: address, byteCount: Int(description.byteCount), owner: mapping)
      return GuestRegion(
        description, address: address, owner: mapping, domain: volume.memoryDomain,
        registration: registration)
    } catch { throw .memory("registering guest memory with the fabric failed: \(error)") }
  }
}

/// Part of the guest's memory that lies together in this process.
struct GuestPiece: BitwiseCopyable, Equatable {
  /// In this process.
  var address: UInt64
  var byteCount: UInt32
  /// Which region, for its keys.
  var region: UInt16
  var isWritable = false
}

/// All of the guest's memory that the front end has told of. Looking up an address allocates nothing.
final class GuestMemory {
  /// What a look-up needs of a region.
  private struct Place: BitwiseCopyable {
    var guestAddress: UInt64
    var userAddress: UInt64
    var byteCount: UInt64
    var address: UInt64
    var localKey: LocalKey
    var remoteKey: RemoteKey
  }

  let regions: [GuestRegion]
  private let places: FixedTable<Place>
  private var last = 0

  /// - Throws: `.memory` where regions overlap. (VU-22)
  init(_ regions: [GuestRegion]) throws(VhostUserFault) {
    self.regions = regions
    let none = Place(
      guestAddress: 0, userAddress: 0, byteCount: 0, address: 0, localKey: LocalKey(rawValue: 0),
      remoteKey: RemoteKey(rawValue: 0))
    places = FixedTable(repeating: none, count: regions.count)
    for (index, region) in regions.enumerated() {
      let one = region.description
      for other in regions[..<index].map(\.description) {
        guard
          !Self.overlap(one.guestAddress, one.byteCount, other.guestAddress, other.byteCount),
          !Self.overlap(one.userAddress, one.byteCount, other.userAddress, other.byteCount)
        else { throw .memory("expected regions of guest memory apart, got two that overlap") }
      }
      places[index] = Place(
        guestAddress: one.guestAddress, userAddress: one.userAddress, byteCount: one.byteCount,
        address: region.address,
        localKey: region.registration?.localKey ?? LocalKey(rawValue: 0),
        remoteKey: region.registration?.remoteKey ?? RemoteKey(rawValue: 0))
    }
  }

  private static func overlap(_ a: UInt64, _ aCount: UInt64, _ b: UInt64, _ bCount: UInt64) -> Bool
  {
    a < b + bCount && b < a + aCount
  }

  /// What lies at a guest's address, as much of `byteCount` bytes as one region holds; nil when the address is
  /// in none.
  func piece(at guestAddress: UInt64, _ byteCount: UInt32) -> GuestPiece? {
    var step = 0
    while step < places.count {
      let index = last
      let offset = guestAddress &- places[index].guestAddress
      if offset < places[index].byteCount {
        let room = places[index].byteCount &- offset
        return GuestPiece(
          address: places[index].address &+ offset,
          byteCount: UInt32(truncatingIfNeeded: min(UInt64(byteCount), room)),
          region: UInt16(truncatingIfNeeded: index))
      }
      last = last &+ 1 == places.count ? 0 : last &+ 1
      step &+= 1
    }
    return nil
  }

  /// Where `byteCount` bytes at an address of the front end's lie in this process; nil when not all of
  /// them are in one region.
  func address(ofUser userAddress: UInt64, _ byteCount: Int) -> UInt64? {
    for index in 0..<places.count {
      let offset = userAddress &- places[index].userAddress
      guard offset < places[index].byteCount, UInt64(byteCount) <= places[index].byteCount - offset
      else { continue }
      return places[index].address &+ offset
    }
    return nil
  }

  /// For the fabric. Only where regions are registered.
  func element(_ piece: GuestPiece) -> ScatterGatherElement {
    ScatterGatherElement(
      address: piece.address, byteCount: piece.byteCount,
      localKey: places[Int(piece.region)].localKey)
  }

  func remoteKey(_ piece: GuestPiece) -> RemoteKey { places[Int(piece.region)].remoteKey }
}

/// Copies between the guest's memory and this process's own. Never inlined: what has been copied is
/// not read again from where the guest can change it.
enum GuestCopy {
  /// - Parameters:
  ///   - source: a piece that `GuestMemory` gave.
  ///   - target: `byteCount` bytes of this process's own.
  @inline(never)
  @unsafe
  static func take(from source: UInt64, to target: UnsafeMutableRawPointer, byteCount: Int) {
    guard byteCount > 0, let place = unsafe UnsafeRawPointer(bitPattern: UInt(source)) else {
      return
    }
    unsafe target.copyMemory(from: place, byteCount: byteCount)
  }

  @inline(never)
  @unsafe
  static func put(_ source: UnsafeRawPointer, to target: UInt64, byteCount: Int) {
    guard byteCount > 0, let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(target)) else {
      return
    }
    unsafe place.copyMemory(from: source, byteCount: byteCount)
  }

  /// One byte of the guest's, at a piece's end.
  @inline(never)
  static func put(_ byte: UInt8, to target: UInt64) {
    guard let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(target)) else { return }
    unsafe place.storeBytes(of: byte, as: UInt8.self)
  }
}
