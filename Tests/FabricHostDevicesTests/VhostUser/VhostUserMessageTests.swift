import FabricPlatform
import FabricStorage
import FabricWire
import TestMachine
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: messages")
struct VhostUserMessageTests {
  private static let device = BlockDevice(
    blockByteCount: 4096, blockCount: 1024, isReadOnly: false, queueCount: 4,
    identifier: .random())

  private func agreement(_ features: ProtocolFeatures = .offered) -> Agreement {
    var agreement = Agreement(offered: Self.device.features, queueCount: 4)
    agreement.protocolFeatures = features
    return agreement
  }

  private func read(
    _ code: UInt32, _ payload: [UInt8], descriptors: Int = 0,
    features: ProtocolFeatures = .offered
  ) -> Result<FrontEndRequest, VhostUserFault> {
    payload.withWire { view in
      do throws(VhostUserFault) {
        return .success(
          try agreement(features).request(
            MessageHeader(code: code, flags: 0, byteCount: payload.count), view,
            descriptorCount: descriptors))
      } catch { return .failure(error) }
    }
  }

  private func header(_ code: UInt32, _ flags: UInt32, _ count: UInt32) -> VhostUserFault? {
    FrontEnd.words(code, flags, count).withWire { view in
      do throws(VhostUserFault) {
        _ = try MessageHeader(decoding: view)
        return nil
      } catch { return error }
    }
  }

  @Test("VU-10: a header is of version 1, a request, and of no more than 512 bytes of payload")
  func headers() {
    #expect(header(1, 1, 0) == nil)
    #expect(header(1, 9, 512) == nil)
    #expect(header(1, 0, 0) == .version(0))
    #expect(header(1, 2, 0) == .version(2))
    #expect(header(1, 5, 0) == .isReply)
    #expect(header(1, 1, 513) == .tooLong(513))
    for fault in [VhostUserFault.version(0), .isReply, .tooLong(513), .tooManyDescriptors] {
      #expect(fault.endsStream)
    }
  }

  @Test("VU-11: every message but the known ones is unknown")
  func unknown() {
    let known = Set(VhostUser.Code.allCases.map(\.rawValue))
    for code in UInt32(0)..<64 where !known.contains(code) {
      #expect(read(code, []) == .failure(.unknown(code: code)))
    }
  }

  @Test("VU-11: each message has its own length and number of descriptors", arguments: 0..<80)
  func lengths(_ count: Int) {
    for code in VhostUser.Code.allCases {
      let payload = [UInt8](repeating: 0, count: count)
      for descriptors in 0...2 {
        guard case .success = read(code.rawValue, payload, descriptors: descriptors) else {
          continue
        }
        let (wanted, passed): (Set<Int>, ClosedRange<Int>) =
          switch code {
          case .getFeatures, .getProtocolFeatures, .setOwner, .resetOwner, .resetDevice,
            .getQueueCount, .getMemorySlotCount:
            ([0], 0...0)
          case .setBackEndSocket: ([0], 1...1)
          case .setQueueKick, .setQueueCall, .setQueueError: ([8], 1...1)
          case .setFeatures, .setProtocolFeatures, .setQueueBase, .getQueueBase,
            .setQueueEnabled:
            ([8], 0...0)
          case .setQueueAddresses: ([40], 0...0)
          case .getConfiguration, .setConfiguration: ([12], 0...0)
          // Zeroes make no sense of these.
          default: ([], 0...0)
          }
        #expect(wanted.contains(count), "\(code) of \(count) bytes")
        #expect(passed.contains(descriptors), "\(code) with \(descriptors) descriptors")
      }
    }
  }

  @Test("VU-11: numbers of queues, sizes, bases and flags that make no sense are refused")
  func values() {
    func state(_ code: VhostUser.Code, _ index: UInt32, _ number: UInt32) -> VhostUserFault? {
      if case .failure(let fault) = read(code.rawValue, FrontEnd.words(index, number)) {
        return fault
      }
      return nil
    }
    #expect(state(.setQueueSize, 3, 128) == nil)
    #expect(state(.setQueueSize, 4, 128) == .queue(4))
    for size: UInt32 in [0, 3, 129, 65536] {
      #expect(state(.setQueueSize, 0, size) == .value(.setQueueSize))
    }
    #expect(state(.setQueueBase, 0, 65536) == .value(.setQueueBase))
    #expect(state(.setQueueEnabled, 0, 2) == .value(.setQueueEnabled))
    #expect(
      read(12, FrontEnd.longs(1 << 9), descriptors: 1) == .failure(.value(.setQueueKick)))
    #expect(read(12, FrontEnd.longs(7), descriptors: 1) == .failure(.queue(7)))
    #expect(
      read(12, FrontEnd.longs(0x100))
        == .success(.setQueueKick(queue: 0, hasDescriptor: false)))
    #expect(
      read(12, FrontEnd.longs(0x100), descriptors: 1)
        == .failure(.descriptors(.setQueueKick, 1)))
    // A queue that is to be logged.
    #expect(
      read(9, FrontEnd.words(0, 1) + FrontEnd.longs(0, 0, 0, 0))
        == .failure(.value(.setQueueAddresses)))
  }

  @Test("VU-11: a memory table has as many regions as descriptors, and none wraps")
  func memoryTables() {
    func table(_ count: UInt32, _ regions: [RegionDescription], descriptors: Int) -> Bool {
      let bytes = FrontEnd.words(count, 0) + regions.flatMap { FrontEnd.bytes($0) }
      if case .success = read(5, bytes, descriptors: descriptors) { return true }
      return false
    }
    let one = RegionDescription(
      guestAddress: 0, byteCount: 4096, userAddress: 1 << 40, fileOffset: 0)
    #expect(table(1, [one], descriptors: 1))
    #expect(!table(1, [one], descriptors: 0))
    #expect(!table(2, [one], descriptors: 2))
    #expect(!table(0, [], descriptors: 0))
    #expect(!table(9, [RegionDescription](repeating: one, count: 9), descriptors: 9))
    for bad in [
      RegionDescription(guestAddress: 0, byteCount: 0, userAddress: 0, fileOffset: 0),
      RegionDescription(
        guestAddress: .max - 100, byteCount: 4096, userAddress: 0, fileOffset: 0),
      RegionDescription(
        guestAddress: 0, byteCount: 4096, userAddress: .max - 100, fileOffset: 0),
      RegionDescription(
        guestAddress: 0, byteCount: 4096, userAddress: 0, fileOffset: UInt64(Int64.max)),
      RegionDescription(guestAddress: 0, byteCount: 1 << 63, userAddress: 0, fileOffset: 0),
    ] { #expect(!table(1, [bad], descriptors: 1)) }
  }

  @Test("VU-11: features that were not offered are refused; messages of others are not known")
  func features() {
    let bits = DeviceFeatures.eventIndex.rawValue | 1 << 33
    #expect(read(2, FrontEnd.longs(bits)) == .failure(.features(1 << 33)))
    #expect(read(16, FrontEnd.longs(1 << 1)) == .failure(.features(1 << 1)))
    let needed: [(VhostUser.Code, [UInt8])] = [
      (.getConfiguration, FrontEnd.words(0, 0, 0)), (.resetDevice, []),
      (.getMemorySlotCount, []), (.setBackEndSocket, []),
      (.getInflightMemory, [UInt8](repeating: 0, count: 20)),
    ]
    for (code, payload) in needed {
      #expect(read(code.rawValue, payload, features: []) == .failure(.notAgreed(code)))
    }
  }

  @Test("VU-40: the configuration space says size, block, segments, topology, queues and limits")
  func configuration() {
    let bytes = Self.device.configuration
    bytes.withWire { view in
      #expect(view.byteCount == 60)
      #expect(view.uint64(at: 0) == 8192)
      #expect(view.uint32(at: 12) == 126)
      #expect(view.uint32(at: 20) == 4096)
      #expect(view.uint16(at: 34) == 4)
      #expect(view.uint32(at: 36) == 1 << 18)
      #expect(view.uint32(at: 40) == 32)
      #expect(view.uint32(at: 44) == 8)
      #expect(view.uint32(at: 48) == 1 << 15)
      #expect(view.uint8(at: 56) == 1)
    }
    var readOnly = Self.device
    readOnly.isReadOnly = true
    #expect(readOnly.features.contains(.readOnly))
    #expect(readOnly.features.isDisjoint(with: [.discard, .writeZeroes]))
    #expect(readOnly.configuration[36...].allSatisfy { $0 == 0 })
  }
}
