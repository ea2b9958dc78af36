import FabricPlatform
import Foundation
import TestSupport
import Testing

/// A unit that serves I2O hosts over shared memory and TCP, and `iohost --emulate i2o`.
private final class I2OPlace {
  let place: Place
  let unit: Tool
  let port: Int

  init(_ volumes: String..., options: [String] = []) throws {
    place = try Place()
    let directory = place.path
    unit = try Tool(
      "iounit",
      [
        "serve", "--listen", "shm:\(directory)/u.sock", "--i2o", "shm:\(directory)/i.sock",
        "--i2o", "tcp:127.0.0.1:0",
      ] + volumes.flatMap { ["--volume", $0.replacing("PLACE", with: directory)] } + options)
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    port = Int(try TCPPlace.port(of: unit, at: "i2o+tcp:127.0.0.1:"))
  }

  /// The unit's URL over a fabric.
  func url(_ fabric: String) -> String {
    fabric == "shm" ? "fabric+shm://\(place.path)/i.sock" : "fabric+tcp://127.0.0.1:\(port)"
  }

  func host(_ arguments: String...) throws -> Tool {
    let tool = try Tool("iohost", arguments + ["--emulate", "i2o"])
    tool.waitForEnd()
    return tool
  }
}

@Suite("I2O hosts, in processes of their own", .serialized, .untilStuck)
struct I2OToolTests {
  @Test(
    "IT-22, IT-51: discover and info, over shared memory and TCP", arguments: ["shm", "tcp"])
  func look(_ fabric: String) throws {
    let unit = try I2OPlace(
      "disk=memory,size=16MiB", "book=memory,size=1MiB,block=512,readonly")
    let listing = try unit.host("discover", unit.url(fabric), "--json")
    #expect(listing.waitForEnd() == 0, "\(listing.errors)")
    let text = listing.output.joined()
    #expect(text.contains(#""name":"disk""#) || text.contains(#""name": "disk""#), "\(text)")
    #expect(text.contains("\(unit.url(fabric))/book"))
    let info = try unit.host("info", "\(unit.url(fabric))/book")
    #expect(info.waitForEnd() == 0, "\(info.errors)")
    #expect(
      info.output.contains { $0.hasSuffix("1MiB: 2048 blocks of 512 bytes") }, "\(info.output)")
    #expect(info.output.contains("access     read-only"))
    let refused = try unit.host("write", "\(unit.url(fabric))/book", "--input", "/dev/null")
    #expect(refused.waitForEnd() == 77, "\(refused.errors)")
    let nothing = try unit.host("info", "\(unit.url(fabric))/nope")
    #expect(nothing.waitForEnd() == 69)
    #expect(nothing.errors.joined().contains("expected one of the volumes book, disk"))
  }

  @Test(
    "IT-71: what is written over I2O is what our own hosts read, and the other way",
    arguments: ["shm", "tcp"], ["disk", "file"])
  func data(_ fabric: String, _ volume: String) throws {
    let unit = try I2OPlace("disk=memory,size=16MiB", "file=PLACE/f.img,size=16MiB")
    let own = "fabric+shm://\(unit.place.path)/u.sock/\(volume)"
    let url = "\(unit.url(fabric))/\(volume)"
    let tool = try Tool(
      shell: """
        set -e; cd '\(unit.place.path)'; head -c 3M /dev/urandom > data; truncate -s 16M image
        "$bin/iohost" verify '\(url)' --emulate i2o
        "$bin/iohost" verify '\(own)' --read-only
        "$bin/iohost" write '\(url)' --block 5 --input data --emulate i2o
        "$bin/iohost" read '\(own)' --block 5 --count 768 | cmp - data
        "$bin/iohost" copy image '\(own)'
        "$bin/iohost" read '\(url)' --block 0 --count 4096 --emulate i2o | cmp - image
        "$bin/iohost" copy '\(url)' back --emulate i2o --verify; cmp back image
        "$bin/iohost" bench '\(url)' --emulate i2o --seconds 0.3 --pattern randwrite --depth 32
        "$bin/iohost" bench '\(url)' --emulate i2o --seconds 0.3 --block-size 128KiB
        """)
    #expect(tool.waitForEnd(limit: 120) == 0, "\(tool.errors)")
    #expect(tool.output.filter { $0.hasSuffix("errors: 0") }.count == 2, "\(tool.output)")
  }

  @Test("IT-1: each protocol's address tells hosts of the other that they are wrong")
  func wrongAddress() throws {
    let unit = try I2OPlace("disk=memory,size=1MiB")
    let other = try unit.host("info", "fabric+shm://\(unit.place.path)/u.sock/disk")
    #expect(other.waitForEnd() == 69)
    #expect(other.errors.joined().contains("leave --emulate i2o out"), "\(other.errors)")
    let own = try Tool("iohost", ["info", "\(unit.url("shm"))/disk"])
    #expect(own.waitForEnd() == 69)
    #expect(own.errors.joined().contains("use iohost with --emulate i2o"), "\(own.errors)")
  }

  @Test(
    "IT-60, IT-72: what the medium keeps is aborted after --timeout, which ends the host",
    arguments: ["read", "copy", "verify", "bench"])
  func aborted(_ command: String) throws {
    let unit = try I2OPlace("slow=memory,size=64MiB,fault=delay=3s")
    let rest = command == "copy" ? ["/dev/null"] : command == "verify" ? ["--read-only"] : []
    let tool = try Tool(
      "iohost",
      [command, "\(unit.url("tcp"))/slow"] + rest + ["--timeout", "1", "--emulate", "i2o"])
    #expect(tool.waitForEnd() == 75, "\(tool.errors)")
    #expect(tool.errors.count { $0.contains("it is being aborted") } == 1, "\(tool.errors)")
    #expect(tool.errors.last?.contains("gave up on") == true, "\(tool.errors)")
    #expect(tool.errors.count == 2, "\(tool.errors)")
  }

  @Test(
    "IT-5: a host has as many requests under way as the unit's --depth", arguments: [1, 128, 1024])
  func depth(_ depth: Int) throws {
    let unit = try I2OPlace("disk=memory,size=16MiB", options: ["--depth", "\(depth)"])
    let url = unit.url("tcp")
    #expect(try unit.host("discover", url).waitForEnd() == 0)
    let verified = try unit.host("verify", "\(url)/disk", "--overwrite", "--size", "1MiB")
    #expect(verified.waitForEnd() == 0, "\(verified.errors)")
    let bench = try unit.host("bench", "\(url)/disk", "--seconds", "0.3", "--depth", "\(depth)")
    #expect(bench.waitForEnd() == 0, "\(bench.errors)")
    #expect(bench.output.last?.hasSuffix("errors: 0") == true, "\(bench.output)")
  }

  @Test("the unit's log says which hosts use which volumes, and not who only looks")
  func log() throws {
    let unit = try I2OPlace("disk=memory,size=1MiB")
    let url = unit.url("shm")
    let looking = try unit.host("discover", url, "--host-name", "looker")
    #expect(looking.waitForEnd() == 0)
    let reading = try unit.host("read", "\(url)/disk", "--host-name", "reader")
    #expect(reading.waitForEnd() == 0)
    #expect(unit.unit.waits(for: "i2o reader at disk", ": attached"), "\(unit.unit.errors)")
    #expect(unit.unit.waits(for: "i2o reader at disk", ": detached"), "\(unit.unit.errors)")
    #expect(!(unit.unit.errors + unit.unit.output).contains { $0.contains("looker") })
  }

  @Test("IT-72: a unit that dies ends the host at once")
  func unitDies() throws {
    let unit = try I2OPlace("disk=memory,size=16MiB")
    let bench = try Tool(
      "iohost", ["bench", "\(unit.url("shm"))/disk", "--seconds", "60", "--emulate", "i2o"])
    Thread.sleep(forTimeInterval: 1)
    unit.unit.signal(SIGKILL)
    #expect(bench.waitForEnd(limit: 30) == 69, "\(bench.errors)")
    #expect(bench.errors.joined().contains("the connection was lost"))
  }

  @Test("IT-16: keys and --allow hold for I2O hosts as for others")
  func keys() throws {
    let place = try Place()
    let path = place.path
    let tool = try Tool(
      shell: """
        set -e; cd '\(path)'; umask 077
        "$bin/iounit" key web1 > web1.keys; "$bin/iounit" key web2 > web2.keys
        cat web1.keys > unit.keys
        "$bin/iounit" serve --keys unit.keys --allow web1=logs:ro --volume disk=memory,size=1MiB \
          --volume logs=memory,size=1MiB --i2o shm:i.sock >unit.out 2>&1 & unit=$!
        trap 'kill $unit' EXIT
        for i in $(seq 50); do grep -q ready unit.out && break; sleep 0.1; done
        url=fabric+shm://$PWD/i.sock
        "$bin/iohost" discover $url --emulate i2o --key-file web1.keys
        "$bin/iohost" read $url/logs --emulate i2o --key-file web1.keys | wc -c
        code() { "$bin/iohost" "$@" --emulate i2o >/dev/null 2>&1 || echo "code $?"; }
        code info $url/disk --key-file web1.keys
        code write $url/logs --key-file web1.keys --input unit.keys
        code info $url/logs --key-file web2.keys
        code info $url/logs
        """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(
      tool.output.filter { $0.contains("/logs  1MiB in blocks of 4096, read-only") }.count == 1)
    #expect(!tool.output.joined().contains("/disk"))
    #expect(tool.output.contains("4096"))
    #expect(
      tool.output.suffix(4) == ["code 69", "code 77", "code 77", "code 77"], "\(tool.output)")
  }

  @Test("IT-16: a host that no volume is for is told so")
  func nothingForThisHost() throws {
    let place = try Place()
    let tool = try Tool(
      shell: """
        set -e; cd '\(place.path)'; umask 077
        "$bin/iounit" key web1 > web1.keys; "$bin/iounit" key web2 > web2.keys
        cat web1.keys web2.keys > unit.keys
        "$bin/iounit" serve --keys unit.keys --allow web1=disk --volume disk=memory,size=1MiB \
          --i2o shm:$PWD/i.sock >unit.out 2>&1 & unit=$!
        trap 'kill $unit' EXIT
        for i in $(seq 50); do grep -q ready unit.out && break; sleep 0.1; done
        "$bin/iohost" info fabric+shm://$PWD/i.sock/disk --emulate i2o --key-file web2.keys 2>&1 \
          || echo "code $?"
        """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(tool.output.last == "code 69", "\(tool.output)")
    #expect(tool.output.joined().contains("has none for this host"), "\(tool.output)")
  }

  @Test("what iounit says of --i2o")
  func arguments() throws {
    for (arguments, words) in [
      (["--i2o", "nowhere"], "expected --i2o shm:PATH|tcp:HOST:PORT|rdma:HOST:PORT"),
      (["--i2o", "shm:/tmp/a", "--i2o", "shm:/tmp/a"], "expected each --i2o once"),
      (["--i2o", "shm:/tmp/a", "--listen", "shm:/tmp/a"], "at another address than --listen"),
      (["--i2o", "tcp:0.0.0.0:0"], "expected --keys FILE with --i2o"),
      (["--i2o", "shm:/nowhere/at/all.sock"], "/nowhere/at/all.sock"),
    ] {
      let unit = try Tool("iounit", ["serve", "--volume", "d=memory,size=1MiB"] + arguments)
      #expect([64, 69].contains(unit.waitForEnd(limit: 20)), "\(unit.errors)")
      #expect(unit.errors.joined(separator: " ").contains(words), "\(unit.errors)")
    }
  }

  @Test(
    "IT-2: tshark finds nothing malformed in what carries the frames",
    .enabled(if: PacketCapture.isPossible, "\(PacketCapture.whyNot)"))
  func capture() throws {
    let unit = try I2OPlace("disk=memory,size=1MiB")
    let address = try InternetAddress.resolve("127.0.0.1:\(unit.port)")[0]
    let capture = try PacketCapture(port: address.port) {
      _ = try? StreamSocket.connect(to: address)
    }
    let url = "\(unit.url("tcp"))/disk"
    let verified = try unit.host("verify", url, "--overwrite", "--size", "64KiB")
    #expect(verified.waitForEnd() == 0, "\(verified.errors)")
    // The last of it is a read: what the unit pushes to the host.
    let text = try capture.dissect("iwarp_mpa,iwarp_ddp_rdmap", until: "OpCode: Write")
    #expect(!text.contains("Malformed"), "\(text.suffix(4000))")
    #expect(text.contains("OpCode: Send"))
  }
}
