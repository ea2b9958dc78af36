import ArgumentParser
import FabricCommandLine
import FabricIOUnit
import FabricStorage

/// A volume as it is named on the command line.
struct VolumeArgument: ExpressibleByArgument {
  /// How it is written.
  static let synopsis =
    "NAME=PATH|memory[,size=1GiB][,readonly][,block=4096][,preallocate][,fault=PLAN]"

  var name = ""
  var path = ""
  var byteCount: UInt64?
  var blockByteCount: UInt32?
  var isReadOnly = false
  var isPreallocated = false
  var faults: FaultPlan?

  /// Why an argument was refused.
  struct Refusal: Error, CustomStringConvertible {
    let description: String
  }

  var isMemory: Bool { path == "memory" }

  private(set) var refusal: Refusal?

  /// Never nil: what is wrong is said by `checked`, in our own words.
  init?(argument: String) {
    do {
      try parse(argument)
    } catch let error as Refusal {
      refusal = error
    } catch {
      refusal = Refusal(description: "--volume \(argument): \(error)")
    }
  }

  /// - Throws: why it was refused.
  func check() throws(ToolFailure) {
    if let refusal { throw ToolFailure(64, refusal.description) }
  }

  private mutating func parse(_ argument: String) throws {
    let form = "expected --volume \(Self.synopsis), "
    guard let equals = argument.firstIndex(of: "="), equals > argument.startIndex else {
      throw Refusal(description: form + "got \"\(argument)\": there is no NAME= in it")
    }
    name = String(argument[..<equals])
    guard name.utf8.count <= 64, !name.contains("/") else {
      throw Refusal(
        description: form + "got the name \"\(name)\": at most 64 bytes and no \"/\"")
    }
    var parts = argument[argument.index(after: equals)...]
      .split(separator: ",", omittingEmptySubsequences: false)[...]
    path = String(parts.popFirst() ?? "")
    guard !path.isEmpty else {
      throw Refusal(description: form + "got \"\(argument)\": the path is missing")
    }
    var seen: Set<Substring> = []
    for part in parts {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let value = pair.count == 2 ? String(pair[1]) : nil
      guard seen.insert(pair[0]).inserted else {
        throw Refusal(
          description: "expected each option once in \"\(argument)\", got \"\(pair[0])\" twice")
      }
      switch (pair[0], value) {
      case ("size", let value?): byteCount = try ByteSize.parse(value)
      case ("block", "512"): blockByteCount = 512
      case ("block", "4096"): blockByteCount = 4096
      case ("block", let value?):
        throw Refusal(description: "expected block=512 or block=4096, got block=\(value)")
      case ("readonly", nil): isReadOnly = true
      case ("preallocate", nil): isPreallocated = true
      case ("fault", let value?): faults = try FaultPlan(parsing: value)
      default:
        throw Refusal(
          description: "expected size=, block=, readonly, preallocate or fault= in "
            + "\"\(argument)\", got \"\(part)\"")
      }
    }
    if isMemory, byteCount == nil {
      throw Refusal(
        description: "expected a size for the memory volume \"\(name)\"; append ,size=1GiB")
    }
  }

  /// Opens what the volume is kept on.
  ///
  /// - Parameter fabric: whose memory a memory volume is to lie in; nil: there is none.
  func open(on fabric: UnitFabric?) throws(StoreError) -> Volume {
    if isMemory, let byteCount {
      let block = blockByteCount ?? 4096
      let store =
        if let fabric {
          try fabric.makeMemoryStore(
            byteCount: byteCount, blockByteCount: block, isReadOnly: isReadOnly)
        } else {
          try MemoryStore(byteCount: byteCount, blockByteCount: block, isReadOnly: isReadOnly)
        }
      return volume(over: store, identifier: nil)
    }
    let store = try FileStore.open(
      path: path,
      options: FileStore.Options(
        byteCountIfMissing: byteCount, isReadOnly: isReadOnly, blockByteCount: blockByteCount,
        isPreallocated: isPreallocated))
    return volume(over: store, identifier: store.identifier)
  }

  private func volume(over store: any Store, identifier: VolumeIdentifier?) -> Volume {
    guard let faults else { return Volume(name: name, store: store) }
    return Volume(
      name: name, store: FaultStore(over: store, plan: faults), identifier: identifier)
  }
}
