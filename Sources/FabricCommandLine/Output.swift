public import FabricPlatform
import Glibc

/// Lines to the standard streams, at once.
public enum Output {
  /// A line of results. Ends the process when it cannot be written: nobody should take silence for
  /// success.
  public static func line(_ text: String) {
    do throws(Errno) {
      try write(printable(text) + "\n", to: 1)
    } catch {
      ToolFailure(
        66, "expected to write the standard output, got \"\(error)\"; check where it goes"
      ).exit()
    }
  }

  /// A line beside the results.
  public static func error(_ text: String) { try? write(printable(text) + "\n", to: 2) }

  /// Names and reasons come from other machines: what would move a terminal's cursor, or look like
  /// another line, is shown as a question mark.
  static func printable(_ text: String) -> String {
    let isPlain = text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }
    if isPlain { return text }
    return String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          switch scalar.properties.generalCategory {
          case .control, .format, .lineSeparator, .paragraphSeparator: "?"
          default: scalar
          }
        }))
  }

  public static func write(_ text: String, to descriptor: CInt) throws(Errno) {
    let bytes = Array(text.utf8)
    var count = 0
    while count < bytes.count {
      count += try Errno.check {
        unsafe bytes[count...].withUnsafeBytes { rest in
          unsafe Glibc.write(descriptor, rest.baseAddress, rest.count)
        }
      }
    }
  }

  /// Puts something in the place of standard streams that are closed, or the next file or socket
  /// that is opened would take their numbers and get our lines. Using them fails as before.
  static func fillGaps() {
    for number in 0...2 as ClosedRange<CInt> where fcntl(number, F_GETFD) < 0 {
      // The lowest free number is this one.
      _ = unsafe open("/dev/null", number == 0 ? O_WRONLY : O_RDONLY)
    }
  }
}
