import ArgumentParser
import FabricCommandLine
import FabricNIC
import FabricNICUnit
import FabricStorage

/// A NIC as it is named on the command line.
struct NICArgument: ExpressibleByArgument {
  /// How it is written.
  static let synopsis =
    "NAME=tap:IF|interface:IF|switch[,mtu=1500][,broadcasts=5000][,addresses=1]"

  private(set) var options = NICOptions(name: "", uplink: .none)
  private(set) var refusal: String?

  /// Never nil: what is wrong is said by `check`, in our own words.
  init?(argument: String) {
    do {
      try parse(argument)
    } catch {
      refusal = "\(error)"
    }
  }

  private struct Refusal: Error, CustomStringConvertible { let description: String }

  /// - Throws: why it was refused.
  func check() throws(ToolFailure) {
    if let refusal { throw ToolFailure(64, refusal) }
  }

  private mutating func parse(_ argument: String) throws {
    let form = "expected --nic \(Self.synopsis), "
    guard let equals = argument.firstIndex(of: "="), equals > argument.startIndex else {
      throw Refusal(description: form + "got \"\(argument)\": there is no NAME= in it")
    }
    options.name = String(argument[..<equals])
    guard options.name.utf8.count <= NICProtocol.maximumNameByteCount,
      options.name.unicodeScalars.allSatisfy({
        $0 != "/" && !$0.properties.isWhitespace && $0.properties.generalCategory != .control
      })
    else {
      throw Refusal(
        description: form + "got the name \"\(options.name)\": at most 64 bytes, no \"/\", no blank"
      )
    }
    var parts = argument[argument.index(after: equals)...]
      .split(separator: ",", omittingEmptySubsequences: false)[...]
    options.uplink = try Self.uplink(parts.popFirst() ?? "", form)
    var seen: Set<Substring> = []
    for part in parts {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard seen.insert(pair[0]).inserted else {
        throw Refusal(
          description: "expected each option once in \"\(argument)\", got \"\(pair[0])\" twice")
      }
      let number = pair.count == 2 ? Int(pair[1]) : nil
      switch (pair[0], number) {
      case ("mtu", let mtu?) where NICProtocol.mtus.contains(mtu):
        if case .interface(let interface) = options.uplink {
          throw Refusal(
            description:
              "expected no mtu= with interface:\(interface), whose own holds; leave it out")
        }
        options.mtu = mtu
      case ("broadcasts", let rate?) where (1...1_000_000).contains(rate):
        options.groupFrameRate = rate
      case ("addresses", let count?) where (1...1024).contains(count):
        options.addressCount = count
      default:
        throw Refusal(
          description:
            "expected mtu=68 to 65521, broadcasts=1 to 1000000 a second or addresses=1 to 1024 "
            + "in \"\(argument)\", got \"\(part)\"")
      }
    }
  }

  private static func uplink(_ text: Substring, _ form: String) throws -> NICOptions.Uplink {
    let pair = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    switch (pair[0], pair.count) {
    case ("switch", 1): return .none
    case ("tap", 2): return .tap(try NetworkInterface(String(pair[1])))
    case ("interface", 2): return .interface(try NetworkInterface(String(pair[1])))
    default: throw Refusal(description: form + "got \"\(text)\"")
    }
  }
}

extension Serve {
  /// What is wrong with the NICs' arguments.
  func checkNICs() throws(ToolFailure) {
    for argument in nic { try argument.check() }
    guard nic.isEmpty || !listen.isEmpty else {
      throw ToolFailure(
        64, "expected --listen \(Self.listenSynopsis) with --nic, for hosts to come to; add one")
    }
    var names = Set(volume.map(\.name))
    var uplinks: [NICOptions.Uplink] = []
    for argument in nic {
      guard names.insert(argument.options.name).inserted else {
        throw ToolFailure(
          64,
          "expected a name for each --nic and --volume, \"\(argument.options.name)\" is taken; give "
            + "another name")
      }
      guard argument.options.uplink == .none || !uplinks.contains(argument.options.uplink) else {
        throw ToolFailure(
          64,
          "expected an interface for each --nic, that of \"\(argument.options.name)\" is another's; give "
            + "one NIC for both, hosts share it")
      }
      uplinks.append(argument.options.uplink)
    }
  }

  /// What hosts come for besides volumes, who are told where there is none; nil: they cannot come.
  ///
  /// - Parameter rights: nil: every host may use all.
  func serveNICs(_ rights: VolumeRights?) throws(ToolFailure) -> NICService? {
    guard !listen.isEmpty else { return nil }
    do throws(InterfaceError) {
      return try NICService(
        unitName: name, nics: nic.map(\.options),
        allows: { host, nic in rights?.allows(host, what: nic) ?? true }, log: log)
    } catch { throw ToolFailure(error.isMisuse ? 64 : 71, "--nic: \(error)") }
  }
}
