public import Testing

extension Trait where Self == TimeLimitTrait {
  /// For tests of what could hang. Suites begin all at once and wait for processors within their
  /// limits, so that on a small machine, or under the sanitizer, minutes pass before a test's own.
  public static var untilStuck: Self { .timeLimit(.minutes(15)) }
}
