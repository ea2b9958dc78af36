import Glibc

/// SIGINT, SIGTERM, SIGUSR1 and SIGHUP, taken one at a time by the main thread.
struct Signals {
  private var set = sigset_t()

  /// To be made before any thread is: they all inherit that these signals are not for them.
  ///
  /// - Parameter takesHangUp: takes SIGHUP also where it is to be ignored: it says something else
  ///   than that the terminal has gone.
  init(takesHangUp: Bool) {
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, SIGINT)
    unsafe sigaddset(&set, SIGTERM)
    unsafe sigaddset(&set, SIGUSR1)
    // Under `nohup` the terminal's end is to be ignored; blocked, it would be taken all the same.
    var action = sigaction()
    unsafe sigaction(SIGHUP, nil, &action)
    let handler = unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
    let ignoring = unsafe unsafeBitCast(SIG_IGN, to: Int.self)
    if takesHangUp || handler != ignoring { unsafe sigaddset(&set, SIGHUP) }
    unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    // A reader of our output that goes away is no reason to end.
    signal(SIGPIPE, SIG_IGN)
    // Nor is a write that a limit on file sizes forbids: it ends with an error.
    signal(SIGXFSZ, SIG_IGN)
  }

  /// The next of them.
  func wait() -> CInt {
    var number: CInt = 0
    var copy = set
    unsafe sigwait(&copy, &number)
    return number
  }
}
