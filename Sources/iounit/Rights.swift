import ArgumentParser
import FabricAuthentication
import FabricCommandLine
import FabricNBD
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
      let rules = Set(allow.compactMap { $0.rule?.host })
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
      if !isOfKeyless(rule) { try check(rule, argument.text, keys) }
      if let name = rule.volume, !volume.contains(where: { $0.name == name }) {
        let names = volume.map { $0.name }.joined(separator: ", ")
        throw ToolFailure(
          64, "--allow \(argument.text): expected one of the volumes \(names), got \"\(name)\"")
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
    // Rules of those alone who have no keys say nothing of hosts that have.
    let areOfHosts = rules.contains { rule in
      !isOfKeyless(rule) || rule.host.map { keys?.names.contains($0) ?? false } ?? false
    }
    return Rights(
      hosts: areOfHosts ? VolumeRights(rules) : nil,
      nbd: nbd.isEmpty ? nil : VolumeRights(ofClients),
      nvme: servesNVMe ? VolumeRights(ofNames) : nil)
  }

  private static func isQualified(_ host: String) -> Bool { host.hasPrefix("nqn.") }

  /// Whether it names somebody who is served without a key.
  private func isOfKeyless(_ rule: VolumeRights.Rule) -> Bool {
    guard let host = rule.host else { return false }
    return !nbd.isEmpty && host == NBDServer.hostName
      || servesNVMe && Self.isQualified(host)
  }

  private func check(
    _ rule: VolumeRights.Rule, _ text: String, _ keys: Keyring?
  ) throws(ToolFailure) {
    guard let keys else {
      throw ToolFailure(
        64,
        "expected --keys FILE beside --allow: without keys a host may call itself what it likes")
    }
    if let host = rule.host, !keys.names.contains(host) {
      throw ToolFailure(
        64,
        "--allow \(text): expected a host with a key, which are "
          + "\(keys.names.joined(separator: ", ")), got \"\(host)\"")
    }
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
