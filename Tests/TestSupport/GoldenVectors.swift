import Foundation

/// The golden bytes of `Specs/Vectors/<file>`, by name: lines of `name: hex hex ...`, continued by
/// indented lines.
public func goldenVectors(_ file: String) throws -> [String: [UInt8]] {
  let path = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../Specs/Vectors/\(file)")
  var vectors: [String: [UInt8]] = [:]
  var name = ""
  for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
    if line.hasPrefix("#") { continue }
    var digits = line
    if !line.hasPrefix(" "), let colon = line.firstIndex(of: ":") {
      name = String(line[..<colon])
      digits = line[line.index(after: colon)...]
    }
    vectors[name, default: []] += digits.split(separator: " ").map { UInt8($0, radix: 16)! }
  }
  return vectors
}
