import FabricVerbs
import Testing

@testable import FabricI2O

@Suite("I2O: scatter lists")
struct ScatterListTests {
  /// A read of 4096 bytes with a list of these words.
  private func read(_ list: UInt32..., data: [UInt8]? = nil) -> Translated {
    let bytes = list.flatMap { words($0) }
    return TransferFrame.translated(data: data) { $0.list = bytes }
  }

  /// A write of 4096 bytes with a list of these words.
  private func write(_ list: UInt32..., data: [UInt8]) -> Translated {
    let bytes = list.flatMap { words($0) }
    return TransferFrame.translated(data: data) {
      $0.isWrite = true
      $0.list = bytes
    }
  }

  private func isRefused(
    _ found: Translated, _ status: I2O.DetailedStatus = .invalidParameter, at offset: UInt32 = 32
  ) -> Bool {
    found.fault == MessageFault(status, at: Int(offset))
  }

  @Test("IT-30: a list ends with the element that says so")
  func ends() {
    #expect(read(0xD100_1000, 7, 0x1000).transfer != nil)
    #expect(read(0x9100_1000, 7, 0x1000).transfer != nil)
    #expect(isRefused(read(0x1100_1000, 7, 0x1000), .missingParameter, at: 44))
    // What lies behind the last is not looked at.
    #expect(read(0xD100_1000, 7, 0x1000, 0xFFFF_FFFF).transfer != nil)
    #expect(isRefused(TransferFrame.translated { $0.list = [] }, .missingParameter))
    #expect(isRefused(read(0xD100_1000), .missingParameter))
    #expect(isRefused(read(0xD100_1000, 7), .missingParameter))
  }

  @Test("IT-31: attributes come first, and say that addresses have 64 bits")
  func attributes() {
    let wide = read(0x7C02_0002, 4096, 0xD100_1000, 7, 0x1000, 0x7F00)
    #expect(wide.elements.first?.address == 0x7F00_0000_1000)
    #expect(isRefused(read(0x7C02_0003, 4096, 0xD100_1000, 7, 0x1000, 0)))
    #expect(isRefused(read(0x7C03_0002, 4096, 0xD100_1000, 7, 0x1000, 0)))
    #expect(isRefused(read(0xFC02_0002, 4096)))
    #expect(isRefused(read(0x7C02_0002)))
    #expect(isRefused(read(0x1100_0000, 7, 0, 0x7C02_0002, 4096, 0xD100_1000, 7, 0), at: 44))
    #expect(isRefused(read(0x7C02_0002, 4096, 0xD100_1000, 7, 0x1000), .missingParameter, at: 40))
  }

  @Test("IT-32: memory of the host has a handle, and does not wrap")
  func host() {
    #expect(
      read(0xD100_1000, 7, 0x1000).elements == [
        ScatterElement(at: 0x1000, byteCount: 4096, key: RemoteKey(rawValue: 7))
      ])
    #expect(isRefused(read(0xD000_1000, 0x1000)))
    #expect(isRefused(read(0xD200_1000, 7, 7, 0x1000)))
    #expect(isRefused(read(0xD300_1000, 7, 7, 7, 0x1000)))
    #expect(isRefused(read(0xD500_1000, 7, 0x1000)), "data goes the other way")
    #expect(isRefused(read(0xD900_1000, 7, 0x1000)), "local memory of the unit's")
    let wrapping = read(0x7C02_0002, 4096, 0xD100_1000, 7, 0xFFFF_F001, 0xFFFF_FFFF)
    #expect(isRefused(wrapping, at: 40))
    let last = read(0x7C02_0002, 4096, 0xD100_1000, 7, 0xFFFF_EFFF, 0xFFFF_FFFF)
    #expect(last.transfer != nil)
  }

  @Test("IT-33: data from the host lies in what came with the frame")
  func attached() {
    let data = [UInt8](repeating: 0, count: 8192)
    #expect(write(0xDD00_1000, 0, 0, data: data).transfer?.attachedOffset == 0)
    #expect(write(0xDC00_1000, 4096, data: data).transfer?.attachedOffset == 4096)
    #expect(isRefused(write(0xDD00_1000, 0, 4097, data: data)))
    #expect(isRefused(write(0xDD00_1000, 0, 0xFFFF_FFFF, data: data)))
    #expect(isRefused(write(0xDD00_1000, 1, 0, data: data)), "a handle")
    #expect(isRefused(write(0xD100_1000, 7, 0x1000, data: data)), "data goes the other way")
    #expect(isRefused(write(0xD500_1000, 7, 0x1000, data: data)), "it would have to be read there")
    #expect(isRefused(write(0xD900_1000, 0, 0, data: data)))
    let none = TransferFrame.translated {
      $0.isWrite = true
      $0.list = words(0xDD00_1000, 0, 0)
    }
    #expect(isRefused(none))
    let wide = write(
      0x7C02_0002, 4096, 0xDD00_1000, 0, 0xFFFF_F000, 0xFFFF_FFFF, data: data)
    #expect(isRefused(wide, at: 40))
  }

  @Test("IT-33: bit buckets, ignored elements, and elements of no bytes")
  func gaps() {
    let read1 = read(
      0x0800_0800, 0x0000_0008, 1, 2, 0x1100_0000, 1, 1, 0xD100_0800, 7, 0x1000)
    #expect(
      read1.elements == [
        ScatterElement(.nowhere, byteCount: 2048),
        ScatterElement(at: 0x1000, byteCount: 2048, key: RemoteKey(rawValue: 7)),
      ])
    #expect(read(0x8900_1000, 5).elements == [ScatterElement(.nowhere, byteCount: 4096)])
    #expect(isRefused(read(0x8900_1000), .missingParameter))
    #expect(isRefused(read(0x0000_0006, 1, 0xD100_1000, 7, 0x1000)))
    #expect(isRefused(read(0x0000_0010, 1, 0xD100_1000, 7)))
    #expect(isRefused(write(0x8800_1000, data: .init(repeating: 0, count: 4096))))
    // One that is ignored may be the last.
    #expect(read(0x1100_1000, 7, 0x1000, 0x8000_0000).transfer != nil)
  }

  @Test(
    "IT-33: all other elements are faults",
    arguments: [0x04, 0x0C, 0x20, 0x24, 0x2C, 0x30, 0x34, 0x3C, 0x4C, 0x60, 0x70, 0x74, 0xB8])
  func others(_ flags: UInt32) {
    let found = read(
      flags << 24 | 0x1000, 7, 0x1000, 0x1000, data: .init(repeating: 0, count: 8192))
    #expect(found.fault?.status == .invalidParameter)
  }

  @Test("IT-34: a list goes on in the data, and nowhere else")
  func chains() {
    let segment = words(0x1100_0800, 7, 0x1000, 0xD100_0800, 8, 0x2000)
    let found = read(0x3800_0018, 0, data: segment)
    #expect(found.elements.map(\.handle) == [7, 8])
    #expect(read(0x3900_0018, 0, 0, data: segment).elements.count == 2)
    #expect(isRefused(read(0x3900_0018, 1, 0, data: segment)), "a handle")
    #expect(isRefused(read(0x3800_0018, 0)), "there is no data")
    #expect(isRefused(read(0x3100_0018, 7, 0x1000, data: segment)), "at the host")
    #expect(isRefused(read(0x3800_001C, 0, data: segment)), "longer than the data")
    #expect(isRefused(read(0x3800_0014, 8, data: segment)), "ends outside")
    #expect(isRefused(read(0x3800_0017, 0, data: segment)), "no whole words")
    #expect(isRefused(read(0x3800_0010, 2, data: segment)), "between words")
    #expect(isRefused(read(0x3800_0004, 0xFFFF_FFFC, data: segment)), "far outside")
    #expect(isRefused(read(0x3800_000C, 0, data: segment), .missingParameter), "it does not end")
    // A fault there is told at the pointer: the frame has nothing else.
    let bad = words(0x1100_0800, 7, 0x1000, 0xD500_0800, 8, 0x2000)
    #expect(isRefused(read(0x3800_0018, 0, data: bad)))
    // Several pointers, one after another.
    let far = words(0x3800_0018, 8) + segment
    #expect(read(0x3800_0008, 0, data: far).elements.count == 2)
  }

  @Test("IT-35: pointers in a circle end, and so do lists without end")
  func limits() {
    let circle = words(0x3800_0008, 0)
    #expect(read(0x3800_0008, 0, data: circle).fault?.status == .chainBufferTooLarge)
    let circleOfNothing = words(0x1100_0000, 7, 0, 0x3800_0014, 0)
    #expect(read(0x3800_0014, 0, data: circleOfNothing).fault?.status == .chainBufferTooLarge)
    // 64 pieces are taken, 65 not.
    for count in [64, 65] {
      var segment: [UInt8] = []
      for index in 0..<count {
        let isLast = index == count - 1
        segment += words((isLast ? 0xD100_0000 : 0x1100_0000) | 512, 7, UInt32(index) * 512)
      }
      let found = TransferFrame.translated(data: segment) {
        $0.target = 9
        $0.byteCount = UInt32(count) * 512
        $0.list = words(0x3800_0000 | UInt32(segment.count), 0)
      }
      if count == 64 {
        #expect(found.elements.count == 64)
      } else {
        #expect(found.fault?.status == .chainBufferTooLarge)
      }
    }
  }
}
