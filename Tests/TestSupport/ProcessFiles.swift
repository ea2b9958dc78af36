import Foundation

/// What a process has of the system, as /proc tells it.
public struct ProcessFiles: Sendable {
  private let directory: String

  public static let own = ProcessFiles(directory: "/proc/self")

  public init(of process: Int32) { directory = "/proc/\(process)" }
  private init(directory: String) { self.directory = directory }

  /// Where the descriptors lead.
  public func descriptors() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "\(directory)/fd").map { name in
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/fd/\(name)")) ?? ""
    }
  }

  /// The lines of the map of memory.
  public func maps() throws -> [String] {
    try text("maps").split(separator: "\n").map(String.init)
  }

  public func residentByteCount() throws -> Int {
    Int(try text("statm").split(separator: " ")[1])! * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// Processor time used, the system's on its behalf included.
  public func processorSeconds() throws -> Double {
    let line = try text("stat")
    // The second field, the name, may hold spaces and ends with a parenthesis.
    let fields = line[line.lastIndex(of: ")")!...].split(separator: " ")
    return (Double(fields[12])! + Double(fields[13])!) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// A whole file: such files have no size, and each read gives a part.
  private func text(_ name: String) throws -> String {
    let file = try FileHandle(forReadingFrom: URL(filePath: "\(directory)/\(name)"))
    defer { try? file.close() }
    var bytes = Data()
    while let part = try file.read(upToCount: 1 << 16), !part.isEmpty { bytes += part }
    return String(decoding: bytes, as: UTF8.self)
  }
}
