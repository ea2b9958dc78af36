/// Which hosts may use which volumes, and how: what no rule allows is not there for a host. Rules
/// add up. (IO-17)
///
/// A host is the name that it gives; whether that is its own is for keys to prove.
public struct VolumeRights: Sendable {
  /// Lets a host use a volume.
  public struct Rule: Hashable, Sendable {
    /// The host's name; nil: every host.
    public var host: String?
    /// The volume's name; nil: every volume.
    public var volume: String?
    public var access: VolumeAccess

    public init(host: String?, volume: String?, access: VolumeAccess) {
      self.host = host
      self.volume = volume
      self.access = access
    }
  }

  public var rules: [Rule]

  public init(_ rules: [Rule]) { self.rules = rules }

  /// Whether a host may use something of this name.
  public func allows(_ host: String, what name: String) -> Bool {
    !rules(for: host, and: name).isEmpty
  }

  private func rules(for host: String, and name: String) -> [Rule] {
    rules.filter {
      ($0.host == nil || $0.host == host) && ($0.volume == nil || $0.volume == name)
    }
  }

  /// The most that a host may do with a volume; nil: it does not see it.
  public func access(of host: String, to volume: Volume) -> VolumeAccess? {
    let fitting = rules(for: host, and: volume.name)
    guard !fitting.isEmpty else { return nil }
    let mayWrite = volume.access == .readWrite && fitting.contains { $0.access == .readWrite }
    return mayWrite ? .readWrite : .readOnly
  }
}
