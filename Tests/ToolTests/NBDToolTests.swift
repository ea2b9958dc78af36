import FabricPlatform
import Foundation
import TestSupport
import Testing

/// A unit that serves NBD clients, and what others have written as such.
private final class NBDPlace {
  let place: Place
  let unit: Tool
  /// `nbd://127.0.0.1:PORT`
  let address: String

  init(_ volumes: String..., options: [String] = []) throws {
    place = try Place()
    let directory = place.path
    unit = try Tool(
      "iounit",
      ["serve", "--nbd", "unix:\(directory)/n.sock", "--nbd", "127.0.0.1:0"]
        + volumes.flatMap { ["--volume", $0.replacing("PLACE", with: directory)] } + options)
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    let port = try TCPPlace.port(of: unit, at: "nbd://127.0.0.1:")
    address = "nbd://127.0.0.1:\(port)"
  }

  /// Over the Unix socket.
  func local(_ volume: String) -> String {
    "nbd+unix:///\(volume)?socket=\(place.path)/n.sock"
  }

  /// Runs a script in which `$tcp` and `$unix` are the addresses of `volume`, and `$place` is a
  /// directory. The system's Python comes first: it has libnbd.
  func run(_ volume: String, _ script: String) throws -> Tool {
    let tool = try Tool(
      shell: """
        export PATH=/usr/bin:/usr/sbin:$PATH tcp='\(address)/\(volume)' unix='\(local(volume))'
        place='\(place.path)'; set -e; cd "$place"
        \(script)
        """)
    tool.waitForEnd(limit: 120)
    return tool
  }

  static func has(_ programs: String...) -> Bool {
    programs.allSatisfy { program in
      ["/usr/bin/", "/usr/sbin/", "/sbin/", "/bin/"].contains {
        FileManager.default.isExecutableFile(atPath: $0 + program)
      }
    }
  }

  static var hasPython: Bool {
    has("nbdsh")
      && FileManager.default.fileExists(atPath: "/usr/lib/python3/dist-packages/nbd.py")
  }
}

@Suite("NBD clients of others, in processes of their own", .serialized, .untilStuck)
struct NBDToolTests {
  @Test(
    "NB-6 to NB-9, NB-20: nbdinfo lists the volumes and what may be done with them",
    .enabled(if: NBDPlace.has("nbdinfo"), "nbdinfo is missing: apt-get install libnbd-bin"))
  func list() throws {
    let nbd = try NBDPlace("disk=memory,size=64MiB", "book=memory,size=1MiB,block=512,readonly")
    let tool = try nbd.run(
      "", #"nbdinfo --list --json "$tcp"; nbdinfo --size "${unix/\/\?//disk?}""#)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    let text = tool.output.joined(separator: " ")
    for words in [
      #""export-name": "disk""#, #""export-name": "book""#, #""export-size": 67108864"#,
      #""can_multi_conn": true"#, #""can_fast_zero": true"#, #""can_df": true"#,
      #""block_size_maximum": 33554432"#, #""block_size_minimum": 512"#,
      #""is_read_only": true"#, #""base:allocation""#,
    ] { #expect(text.contains(words), "\(words) is not in \(text)") }
    #expect(tool.output.last == "67108864")
  }

  @Test(
    "NB-34: nbdcopy there and back, over several connections, to memory and to a file",
    .enabled(if: NBDPlace.has("nbdcopy"), "nbdcopy is missing: apt-get install libnbd-bin"),
    arguments: ["disk", "file"], ["tcp", "unix"])
  func copy(_ volume: String, _ way: String) throws {
    let nbd = try NBDPlace("disk=memory,size=32MiB", "file=PLACE/d.img,size=32MiB")
    let tool = try nbd.run(
      volume,
      """
      head -c 20M /dev/urandom > data; truncate -s 32M data
      nbdcopy --connections=4 --requests=32 --flush data "$\(way)"
      nbdcopy --connections=4 "$\(way)" back
      cmp data back
      nbdcopy --synchronous "$\(way)" again
      cmp data again
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
  }

  @Test(
    "NB-22 to NB-33: every command and flag through libnbd",
    .enabled(if: NBDPlace.hasPython, "nbdsh is missing: apt-get install python3-libnbd"),
    arguments: ["disk", "file"])
  func commands(_ volume: String) throws {
    let nbd = try NBDPlace("disk=memory,size=64MiB", "file=PLACE/d.img,size=64MiB")
    let tool = try nbd.run(
      volume,
      """
      cat > script.py <<'END'
      \(Self.script)
      END
      URI=$tcp nbdsh -c "$(cat script.py)"
      URI=$unix nbdsh -c "$(cat script.py)"
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(tool.output.filter { $0 == "all is well" }.count == 2)
  }

  /// Strictness is off, so that libnbd sends what it would refuse itself.
  private static let script = """
    import os, errno
    def expect(code, call):
        try:
            call()
        except nbd.Error as e:
            assert e.errnum == code, (e.errnum, code, str(e))
            return
        assert False, "no error, expected %d" % code
    h.set_strict_mode(0)
    h.add_meta_context("base:allocation")
    h.connect_uri(os.environ["URI"])
    assert h.get_size() == 64 << 20 and h.get_structured_replies_negotiated()
    h.zero(64 << 20, 0)
    h.pwrite(b"a" * 8192, 4096)
    h.pwrite(b"b" * 4096, 8192, nbd.CMD_FLAG_FUA)
    assert h.pread(12288, 0) == bytes(4096) + b"a" * 4096 + b"b" * 4096
    assert h.pread(4096, 8192, nbd.CMD_FLAG_DF) == b"b" * 4096
    h.flush(); h.cache(4096, 0)
    extents = []
    h.block_status(64 << 20, 0, lambda n, o, e, err: extents.extend(e))
    assert sum(extents[0::2]) == 64 << 20, extents
    one = []
    h.block_status(64 << 20, 0, lambda n, o, e, err: one.extend(e), nbd.CMD_FLAG_REQ_ONE)
    assert len(one) == 2 and one == extents[:2]
    h.zero(4096, 4096)
    h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
    assert h.pread(12288, 0) == bytes(12288)
    h.trim(8192, 0, nbd.CMD_FLAG_FUA)
    try:
        h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
    except nbd.Error as e:
        assert e.errnum == errno.ENOTSUP
    expect(errno.EINVAL, lambda: h.pread(4096, 64 << 20))
    expect(errno.ENOSPC, lambda: h.pwrite(bytes(4096), 64 << 20))
    expect(errno.ENOSPC, lambda: h.zero(4096, 64 << 20))
    expect(errno.EINVAL, lambda: h.pread(512, 0))
    expect(errno.EINVAL, lambda: h.pread(0, 0))
    expect(errno.EINVAL, lambda: h.pwrite(bytes(4096), 100))
    expect(errno.EINVAL, lambda: h.pwrite(bytes(4096), 0, nbd.CMD_FLAG_DF))
    expect(errno.EINVAL, lambda: h.trim(4096, 64 << 20))
    h.pwrite(b"z" * (32 << 20), 0)
    assert h.pread(32 << 20, 0) == b"z" * (32 << 20)
    h.shutdown()
    print("all is well")
    """

  @Test(
    "qemu-img converts, compares and maps; qemu-io writes zeroes and discards",
    .enabled(if: NBDPlace.has("qemu-img", "qemu-io"), "qemu-img is missing: install qemu-utils"))
  func qemu() throws {
    let nbd = try NBDPlace(
      "file=PLACE/d.img,size=32MiB", "small=memory,size=32MiB,block=512")
    let tool = try nbd.run(
      "file",
      """
      head -c 20M /dev/urandom > data; truncate -s 32M data
      qemu-img convert -n -f raw -O raw data "$tcp"
      qemu-img compare -f raw -F raw data "$unix"
      qemu-img map --output=json "$tcp" > map; cat map; grep -q '"zero": true' map
      qemu-img convert -f raw -O qcow2 "$unix" copy.qcow2
      qemu-img compare -f raw -F qcow2 data copy.qcow2
      qemu-io -f raw "${tcp%/file}/small" -c "write -P 7 512 1024" -c "read -P 7 512 1024" \
        -c "write -z 1M 1M" -c "write -z -u 3M 1M" -c "discard 2M 1M" -c flush \
        -c "write -f -P 3 4096 4096" -c "read -P 3 4096 4096" > io
      ! grep -i -E "fail|error" io
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors) \(tool.output)")
  }

  @Test(
    "fio verifies what it wrote, deep, in blocks of many sizes",
    .enabled(if: NBDPlace.has("fio"), "fio is missing: apt-get install fio"),
    arguments: ["disk", "file"])
  func fio(_ volume: String) throws {
    let nbd = try NBDPlace("disk=memory,size=64MiB", "file=PLACE/d.img,size=64MiB")
    let tool = try nbd.run(
      volume,
      """
      fio --help >/dev/null; fio --enghelp | grep -q nbd || { echo "no nbd engine"; exit 0; }
      fio --name=v --ioengine=nbd --uri="$unix" --rw=randrw --bsrange=4k-256k --iodepth=32 \
        --size=64M --io_size=64M --verify=crc32c --verify_fatal=1
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(tool.output.contains { $0.contains("err= 0") || $0 == "no nbd engine" })
  }

  @Test(
    "NB-42, ST-43: a host over a fabric and an NBD client use one volume at once",
    .enabled(if: NBDPlace.has("nbdcopy", "fio"), "nbdcopy or fio is missing"))
  func together() throws {
    let nbd = try NBDPlace(
      "disk=PLACE/d.img,size=64MiB", options: ["--listen", "tcp:127.0.0.1:0"])
    let port = try TCPPlace.port(of: nbd.unit, at: "tcp:127.0.0.1:")
    let url = "fabric+tcp://127.0.0.1:\(port)/disk"
    // What the host writes the client reads; then both at once, each what is its own.
    let tool = try nbd.run(
      "disk",
      """
      "$bin/iohost" verify "\(url)" --passes 1
      nbdcopy "$tcp" seen; cmp seen d.img
      "$bin/iohost" verify "\(url)" --passes 4 --overwrite > host 2>&1 & host=$!
      for i in 1 2 3 4; do nbdcopy "$unix" null: ; done
      wait $host
      head -c 64M /dev/urandom > data
      nbdcopy --flush data "$tcp"
      "$bin/iohost" copy "\(url)" read
      cmp data read
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors) \(tool.output)")
    nbd.unit.signal(SIGINT)
    #expect(nbd.unit.waitForEnd() == 0, "\(nbd.unit.errors)")
    #expect(!FileKind.isSocket("\(nbd.place.path)/n.sock"))
  }

  @Test(
    "NB-20 to NB-24: tshark dissects the requests and replies of libnbd and finds none malformed",
    .enabled(if: NBDPlace.hasPython, "nbdsh is missing: apt-get install python3-libnbd"),
    .enabled(if: PacketCapture.isPossible, "\(PacketCapture.whyNot)"))
  func capture() throws {
    let nbd = try NBDPlace("disk=memory,size=16MiB")
    let port = try TCPPlace.port(of: nbd.unit, at: "nbd://127.0.0.1:")
    let address = try InternetAddress.resolve("127.0.0.1:\(port)")[0]
    let capture = try PacketCapture(port: address.port) {
      _ = try? StreamSocket.connect(to: address)
    }
    // The simple replies, which tshark knows.
    let tool = try nbd.run(
      "disk",
      """
      cat > script.py << 'END'
      import os
      h.set_request_structured_replies(False)
      h.connect_uri(os.environ["URI"])
      h.pwrite(b"channel." * 8192, 65536)
      assert h.pread(65536, 65536) == b"channel." * 8192
      h.flush()
      h.trim(4096, 65536)
      h.zero(4096, 69632)
      try:
          h.pread(4096, 16 << 20)
          assert False
      except nbd.Error:
          pass
      assert h.pread(8192, 65536) == bytes(8192)
      h.shutdown()
      END
      URI=$tcp nbdsh -c "$(cat script.py)"
      """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    let text = try capture.dissect("nbd", until: "NBD_CMD_DISC")
    #expect(!text.contains("Malformed"), "\(text.suffix(4000))")
    // It takes requests of these kinds alone for NBD's, and replies of every kind.
    for words in [
      "Type: NBD_CMD_WRITE (1)", "Type: NBD_CMD_READ (0)", "[Type: NBD_CMD_WRITE (1)]",
      "[Type: NBD_CMD_READ (0)]", "Handle: 0x0000000000000005",
    ] {
      #expect(text.contains(words), "no \(words) in \(text.prefix(3000))")
    }
  }
}
