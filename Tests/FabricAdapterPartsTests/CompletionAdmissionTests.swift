import FabricAdapterParts
import Synchronization
import Testing

@Suite("Admission to a completion queue")
struct CompletionAdmissionTests {
  @Test("all are admitted while the queues together hold no more than the capacity")
  func uncounted() {
    let admission = CompletionAdmission(capacity: 8)
    admission.join(possible: 5) { neverAsked() }
    admission.join(possible: 3) { neverAsked() }
    for _ in 0..<100 { #expect(admission.admit(5) == 5) }
    admission.leave(possible: 3) { neverAsked() }
    admission.join(possible: 3) { neverAsked() }
    #expect(admission.admit(8) == 8)
  }

  @Test("once they could hold more, what is outstanding counts, and the rest is admitted")
  func counted() {
    let admission = CompletionAdmission(capacity: 8)
    admission.join(possible: 8) { neverAsked() }
    #expect(admission.admit(3) == 3)
    admission.join(possible: 8) { 3 }
    #expect(admission.admit(4) == 4)
    #expect(admission.admit(4) == 1, "as many as there is room for")
    #expect(admission.admit(1) == 0)
    admission.withdraw(2)
    #expect(admission.admit(8) == 2)
  }

  @Test("more than the capacity may be outstanding when counting begins: none until they end")
  func beginsBeyond() {
    let admission = CompletionAdmission(capacity: 4)
    admission.join(possible: 12) { 10 }
    #expect(admission.admit(2) == 0)
    admission.withdraw(6)
    #expect(admission.admit(2) == 0)
    admission.withdraw(1)
    #expect(admission.admit(2) == 1)
  }

  @Test("who leaves takes along what it held, and counting goes on")
  func leaving() {
    let admission = CompletionAdmission(capacity: 4)
    admission.join(possible: 4) { neverAsked() }
    admission.join(possible: 4) { 4 }
    #expect(admission.admit(1) == 0)
    admission.leave(possible: 4) { 3 }
    #expect(admission.admit(4) == 3)
    admission.join(possible: 4) { neverAsked() }
    #expect(admission.admit(1) == 0)
  }

  @Test("threads that post and poll at once never have more admitted than the capacity")
  func threads() async {
    let shared = Shared(capacity: 16)
    await withTaskGroup(of: Void.self) { group in
      for count in 1...4 as ClosedRange<Int> {
        group.addTask {
          for _ in 0..<10_000 {
            let granted = shared.admission.admit(count)
            let now = shared.held.add(granted, ordering: .relaxed).newValue
            if now > 16 { shared.excess.store(now, ordering: .relaxed) }
            shared.held.subtract(granted, ordering: .relaxed)
            shared.admission.withdraw(granted)
          }
        }
      }
    }
    #expect(shared.excess.load(ordering: .relaxed) == 0)
    #expect(shared.admission.admit(17) == 16, "all were withdrawn")
  }

  private final class Shared: Sendable {
    let admission: CompletionAdmission
    let held = Atomic<Int>(0)
    let excess = Atomic<Int>(0)

    init(capacity: Int) {
      admission = CompletionAdmission(capacity: capacity)
      admission.join(possible: capacity + 1) { 0 }
    }
  }

  private func neverAsked() -> Int {
    Issue.record("counting did not begin here")
    return 0
  }
}
