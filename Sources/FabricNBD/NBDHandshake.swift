import FabricNBDProtocol
import FabricWire

/// The server's part of the fixed newstyle handshake: bytes in, bytes out. It has no input or output
/// of its own; `output` is what to send next. (NB-1 to NB-14)
struct NBDHandshake {
  /// What the server says first. (NB-1)
  static let greeting: [UInt8] = {
    var bytes: [UInt8] = []
    bytes.appendBig(NBD.serverMagic)
    bytes.appendBig(NBD.optionMagic)
    bytes.appendBig(UInt16(NBD.HandshakeFlags.fixedNewstyle | NBD.HandshakeFlags.noZeroes))
    return bytes
  }()
  /// The most data of an option that is looked at: a name may have 4096 bytes, a query as many.
  static let optionByteLimit: UInt32 = 16 << 10
  /// Longer options up to here are read over and refused, those beyond end the connection.
  static let skippedByteLimit: UInt32 = 1 << 20
  /// Options that one client may send.
  static let optionCountLimit = 1024
  /// The longest name, of an export or a query. (proto.md, "Terminology": strings)
  static let nameByteLimit = 4096

  enum Outcome: Equatable {
    /// More is to come.
    case continues
    /// `output` ends the handshake.
    case transmission(NBDSession)
    /// The client gives up in order, or is to see why we do: close behind `output`.
    case close
    /// The client broke the protocol or asked for what cannot be refused in words: why.
    case abort(String)
  }

  /// What there is to be served now, by name.
  let exports: [NBDExport]
  private var hasClientFlags = false
  private var isFixed = false
  private var sendsZeroes = true
  private var optionCount = 0
  private var skippedByteCount = 0
  private(set) var output: [UInt8] = []
  private(set) var hasStructuredReplies = false
  /// The export that `base:allocation` was selected for.
  private var allocationExport: String?

  init(exports: [NBDExport]) { self.exports = exports }

  /// Takes output that was sent.
  mutating func takeOutput() -> [UInt8] {
    defer { output = [] }
    return output
  }

  /// Takes one step, if all of it is there.
  ///
  /// - Returns: how many bytes it took, 0 when more are needed, and how many those are in all.
  mutating func step(_ bytes: WireView) -> (taken: Int, needed: Int, outcome: Outcome) {
    if skippedByteCount > 0 {
      let part = min(skippedByteCount, bytes.byteCount)
      skippedByteCount -= part
      return (part, 1, .continues)
    }
    guard hasClientFlags else {
      guard bytes.byteCount >= 4 else { return (0, 4, .continues) }
      return (4, NBD.optionHeaderByteCount, takeClientFlags(bytes.big32(at: 0)))
    }
    let header = NBD.optionHeaderByteCount
    guard bytes.byteCount >= header else { return (0, header, .continues) }
    guard bytes.big64(at: 0) == NBD.optionMagic else {
      return (header, 1, .abort("expected an option, got another magic number"))
    }
    let option = bytes.big32(at: 8)
    let length = bytes.big32(at: 12)
    if length > Self.optionByteLimit {
      return (header, 1, skip(option, byteCount: length))
    }
    guard bytes.byteCount >= header + Int(length) else {
      return (0, header + Int(length), .continues)
    }
    optionCount += 1
    guard optionCount <= Self.optionCountLimit else {
      return (header, 1, .abort("expected at most \(Self.optionCountLimit) options"))
    }
    let outcome = take(option, bytes.slice(header, Int(length)))
    return (header + Int(length), header, outcome)
  }

  /// (NB-2)
  private mutating func takeClientFlags(_ flags: UInt32) -> Outcome {
    let known = NBD.HandshakeFlags.fixedNewstyle | NBD.HandshakeFlags.noZeroes
    guard flags & ~known == 0 else {
      return .abort("expected no client flags but 1 and 2, got \(flags)")
    }
    hasClientFlags = true
    isFixed = flags & NBD.HandshakeFlags.fixedNewstyle != 0
    sendsZeroes = flags & NBD.HandshakeFlags.noZeroes == 0
    return .continues
  }

  /// An option whose data is longer than any that makes sense. (NB-4)
  private mutating func skip(_ option: UInt32, byteCount: UInt32) -> Outcome {
    optionCount += 1
    guard isFixed, option != NBD.Option.exportName, byteCount <= Self.skippedByteLimit,
      optionCount <= Self.optionCountLimit
    else { return .abort("expected an option of a sensible length, got \(byteCount) bytes") }
    skippedByteCount = Int(byteCount)
    refuse(
      option, NBD.OptionReply.tooBig, "expected at most \(Self.optionByteLimit) bytes of data")
    return .continues
  }

  private mutating func take(_ option: UInt32, _ data: WireView) -> Outcome {
    if option == NBD.Option.exportName { return takeExportName(data) }
    guard isFixed else { return .abort("expected fixed newstyle with option \(option)") }
    switch option {
    case NBD.Option.abort:
      reply(option, NBD.OptionReply.acknowledge)
      return .close
    case NBD.Option.list: list(data)
    case NBD.Option.info, NBD.Option.go: return takeInfo(option, data)
    case NBD.Option.structuredReply:
      guard data.byteCount == 0 else {
        refuse(option, NBD.OptionReply.invalid, "expected no data")
        return .continues
      }
      hasStructuredReplies = true
      reply(option, NBD.OptionReply.acknowledge)
    case NBD.Option.listMetaContext, NBD.Option.setMetaContext: takeMetaContext(option, data)
    case NBD.Option.startTLS:
      refuse(option, NBD.OptionReply.unsupported, "this server has no TLS")
    default:
      refuse(option, NBD.OptionReply.unsupported, "this server does not know option \(option)")
    }
    return .continues
  }

  // MARK: Exports

  /// The export of a name; the empty one is that of the only export, if there is just one. (NB-6)
  func export(named name: String) -> NBDExport? {
    if name.isEmpty { return exports.count == 1 ? exports[0] : nil }
    return exports.first { $0.name == name }
  }

  private func session(_ export: NBDExport) -> NBDSession {
    NBDSession(
      export: export, hasStructuredReplies: hasStructuredReplies,
      hasAllocationContext: allocationExport == export.name)
  }

  /// (NB-5)
  private mutating func takeExportName(_ data: WireView) -> Outcome {
    guard data.byteCount <= Self.nameByteLimit, let name = data.text(0, data.byteCount),
      let export = export(named: name)
    else { return .abort("expected the name of an export, got another") }
    output.appendBig(export.byteCount)
    output.appendBig(export.flags(hasStructuredReplies: hasStructuredReplies).rawValue)
    if sendsZeroes { output += [UInt8](repeating: 0, count: 124) }
    return .transmission(session(export))
  }

  /// (NB-8)
  private mutating func list(_ data: WireView) {
    guard data.byteCount == 0 else {
      return refuse(NBD.Option.list, NBD.OptionReply.invalid, "expected no data")
    }
    for export in exports {
      var entry: [UInt8] = []
      entry.appendBig(UInt32(export.name.utf8.count))
      reply(NBD.Option.list, NBD.OptionReply.server, entry + Array(export.name.utf8))
    }
    reply(NBD.Option.list, NBD.OptionReply.acknowledge)
  }

  /// NBD_OPT_INFO and NBD_OPT_GO. (NB-9, NB-10)
  private mutating func takeInfo(_ option: UInt32, _ data: WireView) -> Outcome {
    guard let (name, behind) = data.counted(at: 0, limit: Self.nameByteLimit),
      data.byteCount >= behind + 2,
      data.byteCount == behind + 2 + 2 * Int(data.big16(at: behind))
    else {
      refuse(option, NBD.OptionReply.invalid, "expected a name and a list of what to tell of it")
      return .continues
    }
    guard let export = export(named: name) else {
      refuse(option, NBD.OptionReply.unknown, "no export has that name")
      return .continues
    }
    let count = Int(data.big16(at: behind))
    let wanted = Set((0..<count).map { data.big16(at: behind + 2 + 2 * $0) })
    let flags = export.flags(hasStructuredReplies: hasStructuredReplies).rawValue
    replyInfo(option, NBD.Info.export) { bytes in
      bytes.appendBig(export.byteCount)
      bytes.appendBig(flags)
    }
    if wanted.contains(NBD.Info.name) {
      replyInfo(option, NBD.Info.name) { $0 += Array(export.name.utf8) }
    }
    if wanted.contains(NBD.Info.description), !export.description.isEmpty {
      replyInfo(option, NBD.Info.description) { $0 += Array(export.description.utf8) }
    }
    // Told also who does not ask: it is what requests are held to.
    replyInfo(option, NBD.Info.blockSize) { bytes in
      bytes.appendBig(export.blockByteCount)
      bytes.appendBig(max(4096, export.blockByteCount))
      bytes.appendBig(NBD.maximumPayloadByteCount)
    }
    reply(option, NBD.OptionReply.acknowledge)
    return option == NBD.Option.go ? .transmission(session(export)) : .continues
  }

  // MARK: Contexts

  /// (NB-12 to NB-14)
  private mutating func takeMetaContext(_ option: UInt32, _ data: WireView) {
    let isSetting = option == NBD.Option.setMetaContext
    if isSetting { allocationExport = nil }
    guard hasStructuredReplies else {
      return refuse(option, NBD.OptionReply.invalid, "expected structured replies first")
    }
    guard let (name, behind) = data.counted(at: 0, limit: Self.nameByteLimit),
      let queries = data.queries(at: behind, limit: Self.nameByteLimit)
    else {
      return refuse(option, NBD.OptionReply.invalid, "expected a name and a list of queries")
    }
    guard let export = export(named: name) else {
      return refuse(option, NBD.OptionReply.unknown, "no export has that name")
    }
    let isWanted =
      isSetting
      ? queries.contains(NBD.allocationContext)
      : queries.isEmpty || queries.contains(NBD.allocationContext) || queries.contains("base:")
    if isWanted {
      var entry: [UInt8] = []
      entry.appendBig(isSetting ? NBD.allocationContextNumber : 0)
      reply(option, NBD.OptionReply.metaContext, entry + Array(NBD.allocationContext.utf8))
      if isSetting { allocationExport = export.name }
    }
    reply(option, NBD.OptionReply.acknowledge)
  }

  // MARK: Replies

  private mutating func reply(_ option: UInt32, _ type: UInt32, _ data: [UInt8] = []) {
    output.appendBig(NBD.optionReplyMagic)
    output.appendBig(option)
    output.appendBig(type)
    output.appendBig(UInt32(data.count))
    output += data
  }

  private mutating func replyInfo(
    _ option: UInt32, _ type: UInt16, _ append: (inout [UInt8]) -> Void
  ) {
    var data: [UInt8] = []
    data.appendBig(type)
    append(&data)
    reply(option, NBD.OptionReply.info, data)
  }

  /// Refuses an option; the client may show the words to its user.
  private mutating func refuse(_ option: UInt32, _ error: UInt32, _ words: String) {
    reply(option, error, Array(words.utf8))
  }
}

extension WireView {
  /// Text behind its length of 32 bits, and where what follows begins; nil when it does not fit.
  fileprivate func counted(at offset: Int, limit: Int) -> (text: String, behind: Int)? {
    guard byteCount >= offset + 4 else { return nil }
    let count = Int(big32(at: offset))
    guard count <= limit, byteCount - offset - 4 >= count, let text = text(offset + 4, count)
    else { return nil }
    return (text, offset + 4 + count)
  }

  /// A number and as many texts, up to the end; nil when that is not what is there.
  fileprivate func queries(at offset: Int, limit: Int) -> [String]? {
    guard byteCount >= offset + 4 else { return nil }
    let count = Int(big32(at: offset))
    var place = offset + 4
    var texts: [String] = []
    // Each has at least its length: a great number cannot be true.
    guard count <= (byteCount - place) / 4 else { return nil }
    for _ in 0..<count {
      guard let (text, behind) = counted(at: place, limit: limit) else { return nil }
      texts.append(text)
      place = behind
    }
    return place == byteCount ? texts : nil
  }
}
