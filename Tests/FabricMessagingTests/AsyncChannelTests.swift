import FabricSharedMemory
import FabricVerbs
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import FabricMessaging

@Suite("Async channels") struct AsyncChannelTests {
  private let place = SocketPlace()

  private func address() -> FabricAddress {
    FabricAddress(fabric: "shm", endpoint: place.freshPath())
  }

  @Test func requestsSendsAndTheEndOfASequence() async throws {
    let address = address()
    let server = try AsyncFabric(SharedMemoryAdapter())
    let channels = try await server.listen(at: address)
    let echo = Task {
      for await channel in channels {
        var count = 0
        for await message in channel.messages {
          count += 1
          try await channel.send(Message(kind: 7, tag: message.tag, bytes: message.bytes))
        }
        return count
      }
      return -1
    }
    let client = try AsyncFabric(SharedMemoryAdapter())
    let channel = try await client.connect(to: address)
    let long = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
    #expect(try await channel.request(Message("ping")).text == "ping")
    #expect(try await channel.request(Message(bytes: long)).bytes == long)
    // Far more than there is credit for: sends wait.
    for index in 0..<2000 { try await channel.send(Message("\(index)", tag: 1_000_000)) }
    var got: [String] = []
    for await message in channel.messages {
      got.append(message.text)
      if got.count == 2000 { break }
    }
    #expect(got == (0..<2000).map { "\($0)" })
    channel.close()
    #expect(try await echo.value == 2002)
  }

  @Test("MS-13: who does not read makes the peer wait; then everything comes, in order")
  func unreadMessagesHoldThePeer() async throws {
    let address = address()
    let server = try AsyncFabric(SharedMemoryAdapter())
    let channels = try await server.listen(at: address)
    let client = try AsyncFabric(SharedMemoryAdapter())
    let channel = try await client.connect(to: address)
    let count = 20_000
    let sent = Atomic<Int>(0)
    async let sending: Void = {
      for index in 0..<count {
        try await channel.send(
          Message(tag: 1_000_000, bytes: Array(repeating: UInt8(index % 251), count: 400)))
        sent.add(1, ordering: .relaxed)
      }
    }()
    var iterator = channels.makeAsyncIterator()
    let accepted = try #require(await iterator.next())
    while !accepted.core.isHolding { await Task.yield() }
    // More than what may be unread and what was under way does not come.
    #expect(sent.load(ordering: .relaxed) < AsyncChannelCore.unreadLimit / 400 + 2000)
    var got = 0
    for await message in accepted.messages {
      #expect(message.bytes.first == UInt8(got % 251))
      got += 1
      if got == count { break }
    }
    try await sending
    #expect(got == count)
    #expect(!accepted.core.isHolding)
    channel.close()
  }

  @Test func closedAndTooLongAreErrors() async throws {
    let address = address()
    let server = try AsyncFabric(SharedMemoryAdapter())
    let channels = try await server.listen(at: address)
    let client = try AsyncFabric(SharedMemoryAdapter())
    let channel = try await client.connect(to: address)
    await #expect(throws: SendRefusal.tooLong) {
      try await channel.send(Message(bytes: [UInt8](repeating: 1, count: 1 << 20)))
    }
    var iterator = channels.makeAsyncIterator()
    let accepted = await iterator.next()
    accepted?.close()
    for await _ in channel.messages {}
    await #expect(throws: ChannelCloseReason.peer) { try await channel.send(Message("late")) }
    await #expect(throws: ChannelOpenError.self) {
      _ = try await client.connect(to: FabricAddress(fabric: "shm", endpoint: "/tmp/nobody-here"))
    }
  }

  @Test func aLostChannelIsOpenedAgain() async throws {
    let address = address()
    let news = Mutex<[String]>([])
    var server: AsyncFabric? = try AsyncFabric(SharedMemoryAdapter())
    func echo(_ channels: AsyncStream<AsyncChannel>) -> Task<Void, Never> {
      Task {
        for await channel in channels {
          for await message in channel.messages { try? await channel.send(message) }
        }
      }
    }
    var serving = echo(try #require(try await server?.listen(at: address)))
    let client = try AsyncFabric(SharedMemoryAdapter())
    let channel = try await client.connect(
      to: address,
      reconnection: Reconnection(backoff: Backoff(first: .milliseconds(5))) { words in
        news.withLock { $0.append(words) }
      })
    #expect(try await channel.request(Message("before")).text == "before")

    serving.cancel()
    server = nil
    await serving.value
    server = try AsyncFabric(SharedMemoryAdapter())
    serving = echo(try #require(try await server?.listen(at: address)))
    // Waits for the channel to be there again; a request that falls into the gap is lost.
    var answer = try? await channel.request(Message("after")).text
    if answer == nil { answer = try await channel.request(Message("after")).text }
    #expect(answer == "after")
    let first = try #require(news.withLock { $0.first })
    #expect(first.hasPrefix("attempt 1, next in 0.0") && first.contains(" s, because "))
    channel.close()
    for await _ in channel.messages {}
    await #expect(throws: ChannelCloseReason.self) { try await channel.send(Message("late")) }
    serving.cancel()
  }
}
