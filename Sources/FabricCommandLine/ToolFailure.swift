import Glibc

/// A failure with its exit code (`README.md` lists them), told in one line: what was expected, what
/// came, what to do.
public struct ToolFailure: Error {
  public let code: Int32
  public let words: String

  public init(_ code: Int32, _ words: String) {
    self.code = code
    self.words = words
  }

  /// Says what went wrong and ends the process.
  public func exit() -> Never {
    Output.error("error: \(words)")
    Glibc.exit(code)
  }
}
