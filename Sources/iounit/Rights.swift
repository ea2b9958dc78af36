import ArgumentParser
import FabricAuthentication
import FabricCommandLine
import FabricNBD
import FabricNICUnit
import FabricNVMe
import FabricStorage

/// What a host may do with a volume, as it is written on the command line. A host's name may hold
/// "=", a volume's may not.
struct AllowArgument: ExpressibleByArgument {
  static let synopsis = "HOST=VOLUME[:ro|:rw]"

  let text: String
  private(set) var rule: VolumeRights.Rule?

  init?(argument: String) {
    text = argument
    guard let equals = argument.lastIndex(of: "=") else { return }
    let host = String(argument[..<equals])
    var volume = argument[argument.index(after: equals)...]
    var access = VolumeAccess.readWrite
    if volume.hasSuffix(":ro") || volume.hasSuffix(":rw") {
      access = volume.hasSuffix(":ro") ? .readOnly : .readWrite
      volume = volume.dropLast(3)
    }
    guard !host.isEmpty, !volume.isEmpty else { return }
    rule = VolumeRights.Rule(
      host: host == "*" ? nil : host, volume: volume == "*" ? nil : String(volume), access: access)
  }
}

extension Serve {
  /// The keys of `--keys`; nil without it.
  func readKeys() throws(ToolFailure) -> Keyring? {
    guard let keys else { return nil }
    do throws(KeyFile.Refusal) {
      return Keyring(try KeyFile.read(keys))
    } catch { throw ToolFailure(66, error.description) }
  }

  /// Takes over what the file of `--keys` says now; where it cannot be used the old keys stay.
  func readKeysAgain(into keyring: ReplaceableKeyring) {
    do throws(ToolFailure) {
      guard let found = try readKeys() else { return }
      keyring.replace(with: found)
      let names = found.names
      if !quiet {
        let hosts = "\(names.count) host\(names.count == 1 ? "" : "s")"
        Output.error("keys read again: \(hosts) with a key")
      }
      let rules = Set(
        allow.compactMap { $0.rule }.filter { !isOfKeyless($0) }.compactMap { $0.host })
      for host in rules.subtracting(names).sorted() {
        Output.error("warning: --allow names \"\(host)\", which has no key any more")
      }
    } catch {
      Output.error("error: \(error.words); the keys read before stay in use")
    }
  }

  /// What may be done by hosts with keys, by NBD clients, and by NVMe hosts; nil: everything.
  struct Rights {
    var hosts: VolumeRights?
    var nbd: VolumeRights?
    var nvme: VolumeRights?
  }

  /// What `--allow` says. Names that nobody has are mistakes.
  func readRights(_ keys: Keyring?) throws(ToolFailure) -> Rights {
    if allow.isEmpty { return Rights() }
    var rules: [VolumeRights.Rule] = []
    for argument in allow {
      guard let rule = argument.rule else {
        throw ToolFailure(
          64,
          "expected --allow \(AllowArgument.synopsis), where * stands for all, got "
            + "\"\(argument.text)\"")
      }
      try check(rule, argument.text, keys)
      let known = volume.map(\.name) + nic.map(\.options.name)
      if let name = rule.volume, !known.contains(name) {
        let names = known.joined(separator: ", ")
        let form = name.contains(":") ? "; behind the name may be :ro or :rw" : ""
        throw ToolFailure(
          64,
          "--allow \(argument.text): expected one of the volumes \(names), got \"\(name)\"\(form)")
      }
      rules.append(rule)
    }
    let ofClients = rules.filter { $0.host == NBDServer.hostName }
    if !nbd.isEmpty, ofClients.isEmpty {
      throw ToolFailure(
        64,
        "expected --allow \(NBDServer.hostName)=VOLUME[:ro|:rw] with --nbd and other --allow: NBD "
          + "clients have no keys; add one, or leave --nbd out")
    }
    let ofNames = rules.filter { $0.host.map(Self.isQualified) ?? false }
    if servesNVMe, ofNames.isEmpty {
      throw ToolFailure(
        64,
        "expected --allow NQN=VOLUME[:ro|:rw] with --nvme-tcp or --nvme-rdma and other --allow: NVMe "
          + "hosts have no keys; add one, or leave them out")
    }
    if servesHosts, !rules.contains(where: { isOfKeyed($0, keys) }) {
      throw ToolFailure(
        64,
        "expected --allow HOST=VOLUME[:ro|:rw] for a host with a key, with --listen or --i2o and other "
          + "--allow; add one, or leave them out")
    }
    return Rights(
      hosts: servesHosts ? VolumeRights(rules) : nil,
      nbd: nbd.isEmpty ? nil : VolumeRights(ofClients),
      nvme: servesNVMe ? VolumeRights(ofNames) : nil)
  }

  /// Whether there are addresses for hosts that may prove keys.
  var servesHosts: Bool { !listen.isEmpty || !i2o.isEmpty }

  private static func isQualified(_ host: String) -> Bool {
    host.hasPrefix("nqn.") && QualifiedName.fault(in: host) == nil
  }

  /// Whether it names somebody who is served without a key.
  private func isOfKeyless(_ rule: VolumeRights.Rule) -> Bool {
    guard let host = rule.host else { return false }
    return !nbd.isEmpty && host == NBDServer.hostName
      || servesNVMe && Self.isQualified(host)
  }

  private func isOfKeyed(_ rule: VolumeRights.Rule, _ keys: Keyring?) -> Bool {
    guard let keys else { return false }
    return rule.host.map { keys.names.contains($0) } ?? true
  }

  /// Whether a rule names somebody who may come.
  private func check(
    _ rule: VolumeRights.Rule, _ text: String, _ keys: Keyring?
  ) throws(ToolFailure) {
    if servesHosts, keys == nil {
      throw ToolFailure(
        64,
        "expected --keys FILE beside --allow, with --listen or --i2o: without keys a host may call itself "
          + "what it likes")
    }
    if isOfKeyless(rule) || isOfKeyed(rule, keys) { return }
    if servesNVMe, let host = rule.host, host.hasPrefix("nqn."),
      let fault = QualifiedName.fault(in: host)
    {
      throw ToolFailure(64, "--allow \(text): \(fault)")
    }
    var expected: [String] = []
    if let keys { expected.append("a host with a key (\(keys.names.joined(separator: ", ")))") }
    if !nbd.isEmpty { expected.append("\"\(NBDServer.hostName)\" for NBD clients") }
    if servesNVMe { expected.append("the NQN of an NVMe host") }
    throw ToolFailure(
      64,
      "--allow \(text): expected \(expected.joined(separator: ", or ")), got "
        + "\"\(rule.host ?? "*")\"")
  }
}

/// Makes keys.
struct Key: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints a new key for a host: a line for the key files of both sides.",
    discussion: """
      The unit's file has a line for each host, the host's file its own. Only their owners may read \
      them. The host calls itself as its key is called.

      Example: (umask 077; iounit key nqn.2024-01.org.example:web1 >>unit.keys)
      """)

  @Argument(help: "What the host calls itself: 1 to 64 bytes without white space.") var name: String

  func run() throws {
    do throws(PresharedKey.Refusal) {
      Output.line(try KeyFile.freshLine(name: name))
    } catch { throw ToolFailure(64, "\(error), got \"\(name)\"") }
  }
}
