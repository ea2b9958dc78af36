import Testing

import FabricStorage

/// Every kind of store that keeps the contract.
enum StoreKind: String, CaseIterable, CustomTestStringConvertible {
  case memory
  case directFile
  case bufferedFile
  case sharedMemoryFile
  case passingFault

  /// Those that this machine can run.
  static var available: [StoreKind] {
    allCases.filter { $0 != .sharedMemoryFile || Machine.hasSharedMemory }
  }

  var testDescription: String { rawValue }
}

/// A store and what it stands on.
struct StoreFixture {
  let store: any Store
  let directory: TemporaryDirectory?

  init(_ kind: StoreKind, blocks: UInt64 = 256, blockByteCount: UInt32 = 4096) throws {
    let byteCount = blocks * UInt64(blockByteCount)
    var options = FileStore.Options(byteCountIfMissing: byteCount, blockByteCount: blockByteCount)
    switch kind {
    case .memory:
      directory = nil
      store = try MemoryStore(byteCount: byteCount, blockByteCount: blockByteCount)
    case .directFile, .bufferedFile, .passingFault:
      let place = TemporaryDirectory()
      directory = place
      options.prefersDirect = kind != .bufferedFile
      let file = try FileStore.open(path: place.file(), options: options)
      store = kind == .passingFault ? FaultStore(over: file, plan: FaultPlan()) : file
    case .sharedMemoryFile:
      let place = TemporaryDirectory(in: "/dev/shm")
      directory = place
      store = try FileStore.open(path: place.file(), options: options)
    }
  }
}
