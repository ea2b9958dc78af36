import CFabricLinux
import FabricPlatform
import Glibc
import Synchronization

/// ^C and its like: connections are closed by the system, and the unit frees what was ours. What
/// would be left of us is a local file that is not whole, which its size does not tell.
enum Interruption {
  /// What a signal's handler does and writes, made before: inside, no memory may be taken.
  @safe
  private struct Ending {
    /// To be removed; nil when nothing is.
    let path: UnsafeMutablePointer<CChar>?
    let words: UnsafeMutableBufferPointer<UInt8>
  }

  /// The address of the `Ending` that holds now. What held before is kept: a handler may be at it.
  private static let current = Atomic<UInt>(0)
  private static let signals = [SIGINT, SIGTERM, SIGHUP]

  /// From now on SIGINT ends the process with a line and 130; SIGTERM and SIGHUP with that line,
  /// and then as if they had not been caught. What a parent has ignored, as nohup does with SIGHUP,
  /// stays so.
  static func endsAtOnce() {
    prepare(removing: nil, words: "interrupted")
    unblock()
    for signal in signals where signal == SIGINT || !isIgnored(signal) {
      Glibc.signal(signal) { Interruption.end(because: $0) }
    }
  }

  /// From now on who ends us leaves a file that is not whole.
  ///
  /// - Parameter isNew: whether it was made for this, and so goes.
  static func fills(_ path: String, isNew: Bool) {
    if isNew {
      prepare(removing: path, words: "interrupted; \(path) was not whole and is removed")
    } else {
      prepare(removing: nil, words: "interrupted; \(path) is incomplete")
    }
  }

  /// The file is whole, or has gone.
  static func leaves() { prepare(removing: nil, words: "interrupted") }

  private static func prepare(removing path: String?, words: String) {
    // On a terminal a line of progress, or the "^C", stands before it.
    let text = isatty(2) == 1 ? "\n\(words)\n" : "\(words)\n"
    let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = unsafe bytes.initialize(from: text.utf8)
    let ending = UnsafeMutablePointer<Ending>.allocate(capacity: 1)
    unsafe ending.initialize(to: Ending(path: path.flatMap { unsafe strdup($0) }, words: bytes))
    // Pairs with the load in `end`: what is found there has been written.
    current.store(UInt(bitPattern: ending), ordering: .releasing)
  }

  /// In a handler: nothing but calls that are safe there.
  private static func end(because signal: CInt) {
    let address = current.load(ordering: .acquiring)
    guard let ending = unsafe UnsafePointer<Ending>(bitPattern: address) else { _exit(130) }
    if let path = unsafe ending.pointee.path { _ = unsafe unlink(path) }
    _ = unsafe write(2, ending.pointee.words.baseAddress, ending.pointee.words.count)
    if signal == SIGINT { _exit(130) }
    // It comes again once this handler has returned, and ends us as if there had been none.
    Glibc.signal(signal, SIG_DFL)
    raise(signal)
  }

  /// A parent may have had it blocked when it started us.
  private static func unblock() { _ = fabric_unblock_signal(SIGINT) }

  private static func isIgnored(_ number: CInt) -> Bool {
    var old = sigaction()
    guard unsafe sigaction(number, nil, &old) == 0 else { return false }
    return unsafe unsafeBitCast(old.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
