import Foundation
import TestSupport
import Testing

/// Interfaces that others touch too: other processes, `ip link`, other units.
@Suite(
  "NIC: whose interface it is", .untilStuck, .enabled(if: NICPlace.isPossible),
  .serialized)
struct NICInterfaceTests {
  /// Runs what has to fail, and gives back its last words.
  private func refused(
    _ place: NICPlace, _ script: String, _ code: Int32 = 64,
    location: SourceLocation = #_sourceLocation
  ) throws -> String {
    let tool = try place.run(0, script)
    #expect(tool.waitForEnd() == code, "\(tool.errors)", sourceLocation: location)
    return tool.errors.last ?? ""
  }

  @Test("NI-24: an interface is served by one process, whatever it comes with")
  func claims() throws {
    let place = try NICPlace(hosts: 1)
    try place.serve()
    try place.attach(0)
    let process = try #require(try place.status(0)["process"] as? Int)
    let other = "--state-dir \(place.place.file("other")) --mac 02:00:00:00:00:77"
    let words = try refused(
      place, "$bin/iohost nic attach \(place.url(0)) --name fab0 \(other)")
    #expect(words.contains("fab0 is served by process \(process)"), "\(words)")
    #expect(try place.hasCarrier(0))
    #expect(
      try !place.shell("ip -n \(place.namespace(0)) -o link show fab0")[0]
        .contains("02:00:00:00:00:77"))
    // Nor by a unit, in the same place.
    let unit = try refused(
      place,
      "$bin/iounit serve --listen shm:\(place.place.file("v")) --nic lan1=tap:fab0")
    #expect(unit.contains("fab0 is served by process \(process)"), "\(unit)")
    // And the unit's own by no second one.
    let first = try place.run(
      0, "exec $bin/iounit serve --listen shm:\(place.place.file("w")) --nic lan1=interface:lo")
    #expect(first.waitForEnd() == 64, "\(first.errors)")
    try place.shell(
      "ip -n \(place.namespace(0)) link add one type veth peer name two; "
        + "ip -n \(place.namespace(0)) link set one up")
    let serving = try place.run(
      0, "exec $bin/iounit serve --listen shm:\(place.place.file("w")) --nic lan1=interface:one")
    try #require(serving.waits(for: "ready: "), "\(serving.errors)")
    let second = try refused(
      place,
      "$bin/iounit serve --listen shm:\(place.place.file("x")) --nic lan1=interface:one")
    #expect(second.contains("one is served by process "), "\(second)")
    serving.signal(SIGTERM)
    #expect(serving.waitForEnd() == 0)
  }

  @Test("NI-20, NI-23, NI-40: an interface that others rename stays the same one")
  func renamed() throws {
    let place = try NICPlace()
    try place.serve()
    try place.attach(0)
    try place.attach(1)
    let space = place.namespace(0)
    try place.shell("ip -n \(space) link set fab0 down; ip -n \(space) link set fab0 name kern7")
    try place.shell("ip -n \(space) link set kern7 up")
    #expect(try place.waits { try place.status(0)["name"] as? String == "kern7" })
    try place.shell("ip -n \(space) link set kern7 address 02:00:5e:10:00:09")
    #expect(
      try place.waits { try place.status(0)["address"] as? String == "02:00:5e:10:00:09" })
    // One that is too large is put back, a smaller one stays.
    try place.shell("ip -n \(space) link set kern7 mtu 9000")
    func mtu() throws -> String {
      try place.shell("cat /sys/class/net/kern7/mtu || true; ip -n \(space) -o link show kern7")
        .joined()
    }
    #expect(try place.waits { try mtu().contains("mtu 1500 ") })
    try place.shell("ip -n \(space) link set kern7 mtu 1300")
    try place.shell("ip -n \(space) link set kern7 address 02:00:5e:10:00:0a")
    #expect(
      try place.waits { try place.status(0)["address"] as? String == "02:00:5e:10:00:0a" })
    #expect(try mtu().contains("mtu 1300 "))
    try place.run(0, through: "ping -c 1 -W 5 \(place.address(1))")
    let words = try refused(
      place, "$bin/iohost nic attach \(place.url(0)) --name kern7 \(place.state)")
    #expect(words.contains("kern7"), "\(words)")
    #expect(
      try place.run(0, through: "$bin/iohost nic rename kern7 kern7 \(place.state)") == ["kern7"])
    _ = try refused(place, "$bin/iohost nic rename kern7 a/b \(place.state)")
    // Elsewhere it goes on, and goes with its process.
    try place.shell("ip -n \(space) link set kern7 netns \(place.namespace(1))")
    let log = try #require(try place.status(0)["log"] as? String)
    #expect(
      place.waits {
        (try? String(contentsOfFile: log, encoding: .utf8))?.contains("another network namespace")
          == true
      })
    try place.run(0, through: "$bin/iohost nic detach kern7 \(place.state)")
    #expect(
      try place.waits {
        try Tool(shell: "ip -n \(place.namespace(1)) link show kern7").waitForEnd() != 0
      })
  }

  @Test("TAP interfaces that others have made, and what is none")
  func foreign() throws {
    let place = try NICPlace(hosts: 1)
    try place.serve()
    let space = place.namespace(0)
    // As anyone makes one, for one queue.
    try place.shell("ip -n \(space) tuntap add dev fab0 mode tap; ip -n \(space) link set fab0 up")
    try place.attach(0)
    #expect(try place.waits { try place.hasCarrier(0) })
    try place.run(0, through: "$bin/iohost nic detach fab0 \(place.state)")
    try place.shell("ip -n \(space) link show fab0")
    let several = try refused(
      place, "$bin/iohost nic attach \(place.url(0)) --name fab0 --queues 2 \(place.state)")
    #expect(several.contains("multi_queue"), "\(several)")
    let loopback = try refused(
      place, "$bin/iohost nic attach \(place.url(0)) --name lo \(place.state)")
    #expect(loopback.contains("expected lo to be a TAP interface"), "\(loopback)")
    let whole = try refused(
      place,
      "$bin/iohost nic attach fabric+shm://\(place.place.file("u")) --name fab1 \(place.state)")
    #expect(whole.contains("append / and the NIC"), "\(whole)")
  }

  @Test("A unit without NICs says so")
  func none() throws {
    let place = try NICPlace(hosts: 1)
    let unit = try place.run(
      0, "exec $bin/iounit serve --listen shm:\(place.place.file("u")) --volume v=memory,size=1MiB")
    try #require(unit.waits(for: "ready: "), "\(unit.errors)")
    let words = try refused(
      place, "$bin/iohost nic attach \(place.url(0)) --name fab0 \(place.state)", 69)
    #expect(words.contains("this unit serves no NICs"), "\(words)")
    unit.signal(SIGTERM)
    unit.waitForEnd()
  }
}
