import Foundation
import TestSupport
import Testing

/// The split network driver between network namespaces, with programs that know nothing of it.
@Suite(
  "iohost nic", .serialized, .untilStuck,
  .enabled(if: NICPlace.isPossible, Comment(rawValue: NICPlace.lacks)))
struct NICToolTests {
  /// iperf3 from host 1 to host 0; throws when it fails.
  private func iperf(_ place: NICPlace, _ options: String, limit: Double = 60) throws -> [String] {
    let server = try place.run(0, "exec iperf3 -s -1 --forceflush")
    defer {
      server.signal(SIGKILL)
      server.waitForEnd()
    }
    try #require(server.waits(for: "Server listening"), "\(server.errors)")
    return try place.run(1, through: "iperf3 -c \(place.address(0)) \(options)", limit: limit)
  }

  /// No frame came with a bad sum, and none was dropped for what it is or, while all hosts live, at all.
  private func expectSound(_ place: NICPlace, allLive: Bool = true) throws {
    for host in 0..<place.hostCount {
      let lines = try place.run(host, through: "cat /proc/net/snmp")
      for name in ["Tcp", "Udp"] {
        let rows = lines.filter { $0.hasPrefix("\(name): ") }.map { $0.split(separator: " ") }
        let column = try #require(rows[0].firstIndex(of: "InCsumErrors"))
        #expect(rows[1][column] == "0", "\(name) of host \(host)")
      }
      let (own, unit) = try place.counts(host)
      for name in ["runts", "oversize", "spoofed", "bad headers"]
        + (allLive ? ["unknown", "stuck"] : [])
      {
        #expect(own[name] == 0 && unit[name] == 0, "\(name) of host \(host): \(own) \(unit)")
      }
    }
  }

  @Test(
    "NI-1, NI-20: ping, ARP and neighbour discovery, path MTU, iperf3 both ways, a file over HTTP",
    arguments: [false, true])
  func carries(isOverTCP: Bool) throws {
    let place = try NICPlace(isOverTCP: isOverTCP)
    try place.serve()
    for host in 0..<2 { try place.attach(host, "--queues 2") }
    try place.run(0, through: "ping -c 3 -i 0.2 -W 5 \(place.address(1))")
    try place.run(0, through: "ping -c 3 -i 0.2 -W 5 2001:db8::2")
    #expect(try place.shell("ip -n \(place.namespace(0)) neigh show dev fab0").count >= 2)
    try place.run(0, through: "ping -c 1 -M do -s 1472 -W 5 \(place.address(1))")
    let long = try place.run(0, "ping -c 1 -M do -s 1473 -W 5 \(place.address(1))")
    #expect(long.waitForEnd() != 0)
    _ = try iperf(place, "-t 2 --bidir")
    _ = try iperf(place, "-u -b 200M -t 2 --bidir")
    try place.shell("mkdir www; head -c 100M /dev/urandom > www/file")
    let server = try place.run(0, "exec busybox httpd -f -p 80 -h www")
    defer {
      server.signal(SIGKILL)
      server.waitForEnd()
    }
    try place.run(
      1,
      through:
        "curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o copy http://\(place.address(0))/file"
    )
    try place.shell("cmp www/file copy")
    try expectSound(place)
    let counts = try place.counts(1)
    #expect(counts.own["transfers"]! > 0 && counts.own["sent messages"]! > counts.own["transfers"]!)
    // Both halves tell of the same frames.
    #expect(counts.own["sent frames"]! >= counts.unit["received frames"]!)
  }

  @Test("NI-32, NI-33: five hosts, their addresses from a DHCP server across it")
  func fiveHosts() throws {
    let place = try NICPlace(hosts: 5)
    try place.serve()
    for host in 0..<5 { try place.attach(host) }
    // Under another program: it closes what Foundation knows its end by.
    let server = try place.run(
      0,
      "exec timeout 300 dnsmasq -d -C /dev/null -p 0 --no-ping --bind-interfaces --interface=fab0 "
        + "--leasefile-ro --dhcp-range=192.0.2.100,192.0.2.150,1h"
    )
    defer {
      _ = try? place.shell("ip netns pids \(place.namespace(0)) | xargs -r kill -9")
      server.waitForEnd()
    }
    try #require(server.waits(for: "DHCP, IP range"), "\(server.errors)")
    for host in 1..<5 {
      try place.shell("ip -n \(place.namespace(host)) address flush dev fab0 scope global")
      let lines = try place.run(
        host,
        through: "udhcpc -i fab0 -n -q -f -t 10 -T 1 -s /bin/true 2>&1", limit: 30)
      let lease = lines.compactMap { line in
        line.firstRange(of: "lease of ").map { line[$0.upperBound...].prefix { $0 != " " } }
      }.first
      let address = try #require(lease, "\(lines)")
      #expect(address.hasPrefix("192.0.2.1"))
      try place.shell("ip -n \(place.namespace(host)) address add \(address)/24 dev fab0")
      try place.run(host, through: "ping -c 1 -W 5 \(place.address(0))")
      try place.run(0, through: "ping -c 1 -W 5 \(address)")
    }
    for one in 1..<5 {
      let found = try place.shell("ip -n \(place.namespace(one)) -o -4 address show dev fab0")
      let address = found[0].split(separator: " ")[3].prefix { $0 != "/" }
      for other in 1..<5 where other != one {
        try place.run(other, through: "ping -c 1 -W 5 \(address)")
      }
    }
    try expectSound(place)
  }

  @Test(
    "NI-15, NI-34: a flood both ways with two buffers each: it stalls and goes on, and nobody is cut off"
  )
  func flood() throws {
    let seconds = ProcessInfo.processInfo.environment["CHANNELFABRIC_DRILL_SECONDS"] ?? "5"
    let place = try NICPlace(unitOptions: "--buffers 2")
    try place.serve()
    for host in 0..<2 { try place.attach(host, "--buffers 2") }
    _ = try iperf(
      place, "-u -b 0 -l 1400 -t \(seconds) --bidir", limit: 60 + (Double(seconds) ?? 0))
    _ = try iperf(place, "-t 2 --bidir")
    try place.run(0, through: "ping -c 3 -i 0.2 -W 5 \(place.address(1))")
    for host in 0..<2 {
      let (own, _) = try place.counts(host)
      #expect(own["stalls"]! > 0, "\(own)")
      #expect(try place.status(host)["state"] as? String == "attached")
    }
    #expect(place.unit?.errors.contains { $0.contains("detached") } == false)
  }

  @Test(
    "NI-21, NI-22: kill -9 of either half under load: link down in a second, connections survive")
  func deaths() throws {
    let place = try NICPlace()
    try place.serve()
    for host in 0..<2 { try place.attach(host) }
    let server = try place.run(0, "exec iperf3 -s -1 --forceflush")
    try #require(server.waits(for: "Server listening"), "\(server.errors)")
    let load = try place.run(1, "exec iperf3 -c \(place.address(0)) -t 14 --forceflush")
    try #require(load.waits(for: "sec"), "\(load.errors)")
    // The unit.
    place.killUnit()
    for host in 0..<2 {
      #expect(try place.waits(limit: 1) { try !place.hasCarrier(host) }, "host \(host)")
    }
    #expect(try place.status(0)["state"] as? String == "connecting")
    try place.serve()
    for host in 0..<2 {
      #expect(try place.waits { try place.hasCarrier(host) }, "host \(host)")
    }
    // A host's process.
    let process = try #require(try place.status(1)["process"] as? Int)
    kill(pid_t(process), SIGKILL)
    #expect(try place.waits(limit: 1) { try !place.hasCarrier(1) })
    #expect(try place.status(1)["state"] as? String == "dead")
    // An attach that fails leaves it as it was.
    let failing = try place.run(
      1, "$bin/iohost nic attach \(place.url(1))9 --name fab0 \(place.state)")
    #expect(failing.waitForEnd() == 69)
    #expect(try place.status(1)["state"] as? String == "dead")
    try place.attach(1)
    #expect(try place.hasCarrier(1))
    #expect(load.waitForEnd(limit: 60) == 0, "\(load.output.suffix(5)) \(load.errors)")
    server.signal(SIGKILL)
    server.waitForEnd()
    // What is sent to a host that is dead is for nobody.
    try expectSound(place, allLive: false)
  }

  @Test(
    "NI-14: over TCP there is no RDMA read on the wire",
    .enabled(if: PacketCapture.isPossible, Comment(rawValue: PacketCapture.whyNot)))
  func noReads() throws {
    let place = try NICPlace(isOverTCP: true)
    try place.serve()
    let capture = try Tool(
      shell: "exec nsenter --net=/run/netns/\(place.unitNamespace) "
        + "dumpcap -q -P -i w0 -f 'tcp port 14420' -w \(place.place.file("frames.pcap"))")
    #expect(capture.waits(for: "File:"), "\(capture.errors)")
    for host in 0..<2 { try place.attach(host) }
    try place.run(0, through: "ping -c 5 -i 0.05 -s 1400 \(place.address(1))")
    _ = try iperf(place, "-t 1 -b 20M --bidir")
    let file = place.place.file("frames.pcap")
    var text = ""
    func count(_ words: String) -> Int { text.split(separator: "\n").count { $0.contains(words) } }
    // Frames of 1,400 bytes and more are written, and told by a message.
    let found = try place.waits {
      // The last packet may be half written yet.
      text = try place.shell(
        "tshark -r \(file) -V -O iwarp_mpa,iwarp_ddp_rdmap 2> /dev/null || true"
      ).joined(separator: "\n")
      return count("OpCode: Write") >= 10 && count("OpCode: Send") >= 10
    }
    #expect(found, "\(text.suffix(2000))")
    // It inherits that signals are blocked.
    capture.signal(SIGKILL)
    capture.waitForEnd()
    #expect(count("OpCode: Read") == 0)
  }

  @Test(
    "NI-30: NICs joined to an interface of the unit's, and to one that is there",
    arguments: ["tap", "interface"])
  func uplinks(kind: String) throws {
    let place = try NICPlace(hosts: 1, nic: "\(kind):out")
    let unit = place.unitNamespace
    if kind == "interface" {
      // The other end is somebody else's: the world.
      try place.shell(
        "ip link add out netns \(unit) type veth peer name world netns \(place.namespace(0)); "
          + "ip netns add \(unit)w; ip -n \(place.namespace(0)) link set world netns \(unit)w; "
          + "ip -n \(unit) link set out up; ip -n \(unit)w link set world up; "
          + "ip -n \(unit)w address add 192.0.2.200/24 dev world")
    }
    defer { _ = try? Tool(shell: "ip netns del \(unit)w").waitForEnd() }
    try place.serve()
    if kind == "tap" {
      try place.shell(
        "ip -n \(unit) link set out up; ip -n \(unit) address add 192.0.2.200/24 dev out")
    }
    try place.attach(0)
    #expect(try place.waits { try place.hasCarrier(0) })
    try place.run(0, through: "ping -c 3 -i 0.2 -W 5 192.0.2.200")
    let world = kind == "tap" ? unit : "\(unit)w"
    let server = try Tool(
      shell: "exec nsenter --net=/run/netns/\(world) iperf3 -s -1 --forceflush")
    try #require(server.waits(for: "Server listening"), "\(server.errors)")
    try place.run(0, through: "iperf3 -c 192.0.2.200 -t 2 --bidir")
    server.waitForEnd()
    if kind == "interface" {
      try tagged(place, from: world)
      // What comes while nobody reads is lost from 16 MiB on, and counted.
      place.unit?.signal(SIGSTOP)
      _ = try Tool(
        shell:
          "nsenter --net=/run/netns/\(world) ping -q -l 20000 -c 20000 -s 1400 -W 1 \(place.address(0))"
      ).waitForEnd()
      place.unit?.signal(SIGCONT)
      #expect(try place.waits { (try place.counts(0).unit["missed"] ?? 0) > 0 })
    }
    // Its link is the hosts'.
    try place.shell("ip -n \(unit) link set out down")
    #expect(try place.waits(limit: 3) { try !place.hasCarrier(0) })
    try place.shell("ip -n \(unit) link set out up")
    #expect(try place.waits(limit: 3) { try place.hasCarrier(0) })
    try place.run(0, through: "ping -c 3 -i 0.2 -W 5 192.0.2.200")
  }

  /// A frame with the tag of a VLAN, which the kernel takes out of frames, comes with it. (This kernel may have no VLANs.)
  private func tagged(_ place: NICPlace, from world: String) throws {
    let capture = try place.run(0, "exec tcpdump -n -e -l -c 1 -i fab0 vlan 7")
    try #require(capture.waits(for: "listening on fab0"), "\(capture.errors)")
    let address = try #require(try place.status(0)["address"] as? String)
    try Data(
      """
      import socket
      wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
      wire.bind(("world", 0))
      host = bytes.fromhex("\(address)".replace(":", ""))
      wire.send(host + b"\\x02\\0\\0\\0\\0\\x09" + b"\\x81\\0\\x60\\x07\\x88\\xb5" + b"tagged" * 20)
      """.utf8
    ).write(to: URL(filePath: place.place.file("tagged.py")))
    try place.shell("nsenter --net=/run/netns/\(world) python3 tagged.py")
    #expect(capture.waitForEnd() == 0, "\(capture.errors)")
    let line = capture.output.joined()
    #expect(line.contains("vlan 7, p 3") && line.contains("0x88b5"), "\(line)")
  }

  @Test("NI-23, NI-40, NI-41: another address, another name, and the end")
  func commands() throws {
    let place = try NICPlace()
    try place.serve()
    try place.attach(0, "--mac 02:00:5e:10:00:01")
    try place.attach(1)
    #expect(try place.status(0)["address"] as? String == "02:00:5e:10:00:01")
    try place.shell("ip -n \(place.namespace(0)) link set fab0 address 02:00:5e:10:00:02")
    #expect(
      try place.waits { try place.status(0)["address"] as? String == "02:00:5e:10:00:02" })
    try place.run(0, through: "ping -c 1 -W 5 \(place.address(1))")
    // Somebody else's is given back.
    try place.shell("ip -n \(place.namespace(1)) link set fab0 address 02:00:5e:10:00:02")
    #expect(
      try place.waits {
        try place.shell("ip -n \(place.namespace(1)) -o link show fab0")[0]
          .contains("02:00:5e:10:00:02") == false
      })
    try place.run(1, through: "ping -c 1 -W 5 \(place.address(0))")
    let taken = try place.run(
      1,
      "$bin/iohost nic attach \(place.url(1)) --name fab1 \(place.state) --mac 02:00:5e:10:00:02")
    #expect(taken.waitForEnd() == 69)
    #expect(taken.errors.last?.contains("is that of another") == true, "\(taken.errors)")
    let nobody = try place.run(
      1,
      "$bin/iohost nic attach fabric+shm://\(place.place.file("nobody"))/lan0 --name fab1 \(place.state)"
    )
    #expect(nobody.waitForEnd() == 69, "\(nobody.errors)")
    let twice = try place.run(
      1, "$bin/iohost nic attach \(place.url(1)) --name fab0 \(place.state)")
    #expect(twice.waitForEnd() == 64)
    let nowhere = try place.run(
      1, "$bin/iohost nic attach \(place.url(1))9 --name fab1 \(place.state)")
    #expect(nowhere.waitForEnd() == 69)
    #expect(nowhere.errors.last?.contains("there are \"lan0\"") == true, "\(nowhere.errors)")
    try place.shell("ip -n \(place.namespace(0)) link set fab0 down")
    #expect(
      try place.run(0, through: "$bin/iohost nic rename fab0 lan \(place.state)") == ["lan"])
    try place.shell("ip -n \(place.namespace(0)) link set lan up")
    #expect(try place.status(0)["name"] as? String == "lan")
    #expect(
      try place.run(0, through: "$bin/iohost nic detach lan \(place.state)") == ["detached lan"])
    #expect(try place.run(0, through: "$bin/iohost nic list \(place.state)") == [])
    let gone = try Tool(shell: "ip -n \(place.namespace(0)) link show lan")
    #expect(gone.waitForEnd() != 0)
    // An interface that others remove ends its process.
    try place.attach(0)
    let process = try #require(try place.status(0)["process"] as? Int)
    try place.shell("ip -n \(place.namespace(0)) link del fab0")
    #expect(place.waits { kill(pid_t(process), 0) != 0 })
    #expect(try place.run(0, through: "$bin/iohost nic list \(place.state)") == [])
    // What a process has left that died goes with detach.
    kill(pid_t(try #require(try place.status(1)["process"] as? Int)), SIGKILL)
    #expect(try place.waits { try place.status(1)["state"] as? String == "dead" })
    try place.run(1, through: "$bin/iohost nic detach fab0 \(place.state)")
    let left = try Tool(shell: "ip -n \(place.namespace(1)) link show fab0")
    #expect(left.waitForEnd() != 0)
    #expect(!FileManager.default.fileExists(atPath: place.place.file("state/nic")))
  }
}
