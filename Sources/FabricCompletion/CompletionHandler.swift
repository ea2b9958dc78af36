public import FabricPlatform
public import FabricVerbs

/// Told of the ends of a queue pair's work requests.
public protocol CompletionHandler: AnyObject {
  /// Called once for each run of completions of one queue pair in one poll, in order, on a thread
  /// of the completion service; never on two threads at once for one completion queue.
  func handle(_ completions: Span<WorkCompletion>)

  /// A call of `handle` is near, but others come first: time to have memory brought near. Changes
  /// nothing. By default nothing happens.
  func prepare(_ step: PreparationStep)
}

extension CompletionHandler {
  public func prepare(_ step: PreparationStep) {}
}

/// What to bring near first, so that nothing waits for what is still on its way.
public enum PreparationStep {
  /// What the handler's own fields point to; these are near.
  case parts
  /// What the parts point to.
  case contents
  /// What the handler's own user will touch first.
  case user
  /// What that points to.
  case userContents
}

/// Anything else that a completion service carries on: storage queues, inboxes.
///
/// Threads: all calls come from the service's first thread.
public protocol ProgressSource: AnyObject {
  /// Does what there is to do and returns how much; makes no system call when that is nothing.
  func progress() -> Int

  /// Readable when `progress` has something to do; nil where `nextDeadline` alone tells.
  var descriptor: CInt? { get }

  /// Asks that `descriptor` become readable at the next event; what happened before is not
  /// announced.
  func arm()

  /// Ends what `arm` began.
  func disarm()

  /// When `progress` must be called at the latest; nil: never.
  var nextDeadline: MonotonicTime? { get }
}
