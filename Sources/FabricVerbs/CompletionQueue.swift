/// Collects the ends of the work requests of many queue pairs of one adapter.
///
/// It cannot overflow: a request whose completion it could not hold is refused at the post.
///
/// An adapter without a card carries out what the peer asks of a queue pair while the queue pair's
/// receive completion queue is polled, and at no other time.
///
/// Threads: one thread polls at a time; arming and waiting belong to that thread. The
/// corresponding C type is `ibv_cq`.
public protocol CompletionQueue: AnyObject, Sendable {
  /// Requests that may be outstanding on it at once.
  var capacity: Int { get }

  /// Moves what has ended into `completions`, each exactly once; makes no system call.
  ///
  /// - Returns: how many were written from the start of `completions`; 0 when nothing has ended.
  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int

  /// Readable after `arm` once something may have ended; nil where there is nothing to wait for
  /// (simulation). Belongs to the completion queue.
  var descriptor: CInt? { get }

  /// Asks that `descriptor` become readable at the next end of work. What ended before is not
  /// announced: poll once more before sleeping.
  func arm()

  /// Ends what `arm` began, after sleeping or instead of it, and makes `descriptor` unreadable
  /// until something new happens.
  func disarm()
}
