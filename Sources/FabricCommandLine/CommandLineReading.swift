public import ArgumentParser

extension ParsableCommand {
  /// Reads the command line and returns the command that it names. Ends the process when there is
  /// none: with what was asked for, such as help, or with one line that says what is wrong.
  ///
  /// - Parameter repeatable: options that may be given more than once, such as `--volume`. Of any
  ///   other the argument parser would take the last one without a word.
  public static func commandFromArguments(repeatable: Set<String> = []) -> any ParsableCommand {
    Output.fillGaps()
    do {
      try checkTwice(CommandLine.arguments.dropFirst(), repeatable)
      return try parseAsRoot()
    } catch { end(because: error) }
  }

  private static func checkTwice(
    _ arguments: ArraySlice<String>, _ repeatable: Set<String>
  ) throws(ToolFailure) {
    var seen: Set<String> = []
    for argument in arguments.prefix(while: { $0 != "--" }) where argument.hasPrefix("--") {
      let name = String(argument.prefix { $0 != "=" })
      guard seen.insert(name).inserted || repeatable.contains(name) else {
        throw ToolFailure(64, "expected \(name) once, got it more than once; leave one out")
      }
    }
  }

  /// Ends the process with what an error asks for: help or the version, or one line and a code.
  public static func end(because error: any Error) -> Never {
    if let failure = error as? ToolFailure { failure.exit() }
    if exitCode(for: error).isSuccess { exit(withError: error) }
    ToolFailure(exitCode(for: error).rawValue, words(of: error)).exit()
  }

  /// What the argument parser says, on one line, and where more is to be read.
  private static func words(of error: any Error) -> String {
    let lines = message(for: error).split(whereSeparator: \.isNewline)
    var words = lines.map { $0.trimming { $0.isWhitespace } }.joined(separator: " ")
    if words.hasSuffix(".") { words.removeLast() }
    // Its last line is "See 'iohost bench --help' for more information."
    let help = fullMessage(for: error).split(separator: "'").last { $0.hasSuffix(" --help") }
    guard let help else { return words }
    return "\(words); see \(help)"
  }
}

extension Substring {
  fileprivate func trimming(_ isDropped: (Character) -> Bool) -> Substring {
    var rest = drop(while: isDropped)
    while let last = rest.last, isDropped(last) { rest.removeLast() }
    return rest
  }
}
