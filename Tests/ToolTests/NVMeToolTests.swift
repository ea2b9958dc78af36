import FabricNVMe
import FabricPlatform
import Foundation
import TestSupport
import Testing

@Suite("NVMe/TCP by the tools, in processes of their own", .serialized, .untilStuck)
struct NVMeToolTests {
  private let place: Place

  init() throws { place = try Place() }

  @Test("iounit serves NVMe hosts with a fabric, with NBD, and alone, and says where")
  func serves() throws {
    let tcp = ["--nvme-tcp", "127.0.0.1:0"]
    let rdma = ["--nvme-rdma", "tcp:127.0.0.1:0"]
    for arguments in [
      tcp, rdma, tcp + rdma, tcp + ["--nbd", "127.0.0.1:0"],
      rdma + ["--listen", "tcp:127.0.0.1:0"],
      rdma + ["--nvme-rdma", "tcp:[::1]:0"],
    ] {
      let unit = try Tool("iounit", ["serve", "--volume", "m=memory,size=1MiB"] + arguments)
      #expect(unit.waits(for: "ready: 1 volume at "), "\(unit.errors)")
      let places = unit.output.first ?? ""
      #expect(places.contains("nvme+tcp://127.0.0.1:") == arguments.contains("--nvme-tcp"))
      #expect(places.contains("nvme+rdma://127.0.0.1:") == arguments.contains("--nvme-rdma"))
      #expect(places.contains("nvme+rdma://[::1]:") == arguments.contains("tcp:[::1]:0"))
      unit.signal(SIGTERM)
      #expect(unit.waitForEnd() == 0, "\(unit.errors)")
    }
  }

  @Test(
    "what is wrong with the arguments is said in one line",
    arguments: [
      (
        ["--nvme-tcp", "0.0.0.0:0"], 64, "NVMe has no keys; to serve whoever comes, add --insecure"
      ),
      (["--nvme-tcp", "somewhere"], 64, "expected --nvme-tcp HOST:PORT, such as 127.0.0.1:4420"),
      (["--nvme-tcp", "127.0.0.1:1x"], 64, "expected --nvme-tcp HOST:PORT"),
      (["--nvme-tcp", "127.0.0.1:0", "--nqn", "unit"], 64, "--nqn: expected a name such as"),
      (
        ["--nvme-tcp", "127.0.0.1:0", "--nbd", "127.0.0.1:0", "--allow", "nbd=m"], 64,
        "expected --allow NQN=VOLUME[:ro|:rw] with --nvme-tcp"
      ),
      (
        ["--nvme-tcp", "127.0.0.1:0", "--allow", "nqn.2024-01.org.example:web=x"], 64,
        "expected one of the volumes m"
      ),
      (["--nvme-tcp", "192.0.2.1:4420", "--insecure"], 69, "expected an address of this machine"),
      (
        ["--nvme-rdma", "tcp:0.0.0.0:0"], 64,
        "--nvme-rdma tcp:0.0.0.0:0, which other machines can reach; to serve whoever comes, add"
      ),
      (
        ["--nvme-tcp", "127.0.0.1:7777", "--nvme-rdma", "tcp:127.0.0.1:7777"], 64,
        "expected --nvme-rdma at another address than --nvme-tcp, got tcp:127.0.0.1:7777 for both"
      ),
      (
        ["--nvme-tcp", "tcp:127.0.0.1:0"], 64, "got \"tcp:127.0.0.1:0\": leave \"tcp:\" out"
      ),
      (
        ["--nvme-tcp", "127.0.0.1:0", "--nqn", "nqn.2014-08.org.nvmexpress.discovery"], 64,
        "--nqn: expected a name of this unit's own"
      ),
      (
        ["--nvme-tcp", "127.0.0.1:0", "--allow", "nqn.other:x=m"], 64,
        "--allow nqn.other:x=m: expected a name such as nqn.2024-01.org.example:unit"
      ),
      (
        ["--nvme-tcp", "127.0.0.1:0", "--allow", "*=m"], 64,
        "--allow *=m: expected the NQN of an NVMe host, got \"*\""
      ),
      (
        [
          "--nvme-tcp", "127.0.0.1:0", "--listen", "tcp:127.0.0.1:0", "--allow",
          "nqn.2024-01.org.example:web=m",
        ], 64, "expected --keys FILE beside --allow, with --listen or --i2o"
      ),
      (["--nvme-rdma", "127.0.0.1:0"], 64, "expected --nvme-rdma tcp:HOST:PORT|rdma:HOST:PORT"),
      (["--nvme-rdma", "shm:/tmp/x"], 64, "expected --nvme-rdma tcp:HOST:PORT|rdma:HOST:PORT"),
      (["--nvme-rdma", "tcp:127.0.0.1:x"], 64, "--nvme-rdma tcp:127.0.0.1:x: "),
      (
        ["--nvme-rdma", "tcp:192.0.2.1:4420", "--insecure"], 69,
        "expected an address of this machine"
      ),
      (
        ["--nvme-rdma", "tcp:127.0.0.1:0", "--nbd", "127.0.0.1:0", "--allow", "nbd=m"], 64,
        "expected --allow NQN=VOLUME[:ro|:rw] with --nvme-tcp or --nvme-rdma"
      ),
      (
        ["--nvme-rdma", "tcp:127.0.0.1:7777", "--nvme-rdma", "tcp:127.0.0.1:7777"], 64,
        "expected each --nvme-rdma once"
      ),
    ] as [([String], Int32, String)])
  func badArguments(_ arguments: [String], _ status: Int32, _ words: String) throws {
    let unit = try Tool("iounit", ["serve", "--volume", "m=memory,size=1MiB"] + arguments)
    #expect(unit.waitForEnd() == status)
    #expect(
      unit.errors.contains { $0.hasPrefix("error: ") && $0.contains(words) }, "\(unit.errors)")
  }

  @Test("SIGUSR1 has a unit look at its files, of which one has grown (ST-86)")
  func growth() throws {
    let path = place.file("disk.img")
    let unit = try Tool(
      "iounit",
      ["serve", "--volume", "disk=\(path),size=1MiB", "--nvme-tcp", "127.0.0.1:0"])
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    unit.signal(SIGUSR1)
    #expect(unit.waits(for: "no volume has more blocks than before"))
    let resized = unsafe truncate(path, 3 << 20)
    #expect(resized == 0)
    unit.signal(SIGUSR1)
    #expect(unit.waits(for: "disk: 3MiB now"))
    let shrunk = unsafe truncate(path, 2 << 20)
    #expect(shrunk == 0)
    unit.signal(SIGUSR1)
    #expect(
      unit.waits(for: "warning: disk: its file has 2097152 bytes now, fewer than the 3145728"))
    let uneven = unsafe truncate(path, 3 << 20 + 1)
    #expect(uneven == 0)
    unit.signal(SIGUSR1)
    #expect(unit.waits(for: "disk: its file has 3145729 bytes, of which whole blocks are served"))
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("fabperf nvme reads from a unit of its own, and prints what it saw")
  func polling() throws {
    let tool = try Tool("fabperf", ["nvme", "--seconds", "0.2", "--depth", "8", "--json"])
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    let object =
      try JSONSerialization.jsonObject(
        with: Data(tool.output.joined(separator: "\n").utf8)) as? [String: Any]
    #expect((object?["readsPerSecond"] as? Double ?? 0) > 100)
    let wrong = try Tool("fabperf", ["nvme", "--size", "5000"])
    #expect(wrong.waitForEnd() == 64)
  }

  @Test("a front end of the sample's own is added without a change to anything below")
  func blockEcho() throws {
    let path = "/tmp/fabric-echo-\(UUID().uuidString.prefix(8)).sock"
    let sample = try Tool("BlockEcho", [path])
    #expect(sample.waits(for: "ready: unix:\(path)"), "\(sample.errors)")
    let client = try PlainClient(path: path)
    for seed in 0..<3 as Range<UInt8> {
      let block = (0..<4096).map { UInt8(truncatingIfNeeded: $0) &* 3 &+ seed }
      try client.sendPieces(block + block)
      #expect(try client.receive(8192) == block + block)
    }
  }
}
