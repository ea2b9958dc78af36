import FabricPlatform
@testable import FabricRDMA
import Testing

/// What follows from the facts, for machines that nobody here has.
@Suite("RDMA survey")
struct SurveyTests {
  private let v4 = [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 10, 0, 2, 15]
  private let local: [UInt8] = [
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56,
  ]

  private func roce(_ state: RDMAPort.State = .active, _ names: [[UInt8]]) -> RDMAPort {
    RDMAPort(
      number: 1, state: state, linkLayer: .ethernet, interface: "eth7",
      gids: names.enumerated().map { RDMAGID(index: $0.offset, kind: .roceV2, bytes: $0.element) })
  }

  private func survey(_ ports: [RDMAPort]) -> RDMASurvey {
    RDMASurvey(
      devices: [
        RDMADevice(name: "mlx5_0", transport: .infiniBand, fileName: "uverbs3", ports: ports)
      ], kernelDeviceNames: ["mlx5_0"])
  }

  @Test("a RoCE port with an address of IP can be used")
  func usable() {
    let survey = survey([roce(.down, []), roce(.active, [local, v4])])
    #expect(survey.isUsable)
    #expect(survey.problems == [])
    #expect(survey.devices[0].ports[1].protocolName(of: .infiniBand) == "RoCE v2")
  }

  @Test("without a device it says how to make one of a network interface")
  func noDevice() {
    for failure in [nil, Errno.notImplemented] {
      let survey = RDMASurvey(
        libraryFailure: failure, connectionManager: .missing, lockByteLimit: 0)
      #expect(!survey.isUsable)
      #expect(survey.problems == [.noDevice])
    }
    #expect(RDMAProblem.noDevice.description.contains("rdma link add rxe0 type rxe netdev eth0"))
    #expect(RDMASurvey(libraryFailure: .noMemory).problems == [.library(.noMemory)])
  }

  @Test("a device that programs cannot reach: the module, or the driver of the library")
  func unreached() {
    #expect(
      RDMASurvey(kernelDeviceNames: ["rxe0"], hasVerbsModule: false).problems
        == [.noVerbsModule(device: "rxe0")])
    #expect(
      RDMASurvey(kernelDeviceNames: ["irdma0"]).problems == [.noDriver(device: "irdma0")])
    // One that is reached is enough.
    var one = survey([roce(.active, [v4])])
    one.kernelDeviceNames.append("irdma0")
    #expect(one.isUsable)
    #expect(one.unreached == [.noDriver(device: "irdma0")])
  }

  @Test("a device that may not be opened: which file, and what to do")
  func notPermitted() {
    var survey = survey([])
    survey.devices[0].failure = .permissionDenied
    #expect(survey.devices[0].problem == .notPermitted(path: "/dev/infiniband/uverbs3"))
    #expect(!survey.isUsable)
    survey.devices[0].failure = .noSuchFileOrDirectory
    #expect(survey.devices[0].problem == .noDeviceFile(path: "/dev/infiniband/uverbs3"))
    survey.devices[0].failure = .ioError
    #expect(survey.devices[0].problem == .cannotOpen(device: "mlx5_0", .ioError))
  }

  @Test("the connection manager: missing, or not for this user")
  func connectionManager() {
    var survey = survey([roce(.active, [v4])])
    survey.connectionManager = .missing
    #expect(survey.problems == [.noConnectionManager])
    survey.connectionManager = .denied
    #expect(survey.problems == [.notPermitted(path: "/dev/infiniband/rdma_cm")])
    #expect(!survey.isUsable)
  }

  @Test("too little memory that may be locked, in words rather than a number")
  func lockLimit() {
    var survey = survey([roce(.active, [v4])])
    survey.lockByteLimit = 64 << 10
    #expect(survey.problems == [.lockLimit(byteCount: 64 << 10)])
    #expect(survey.problems[0].description.contains("may lock 64KiB"))
    #expect(survey.problems[0].description.contains("memlock unlimited"))
    survey.lockByteLimit = RDMASurvey.neededLockByteCount
    #expect(survey.isUsable)
  }

  @Test("the limit on locked memory explains a failure that goes over it, and no other")
  func lockLimitExplains() {
    let memory = LockedMemory(limit: 1 << 20, byteCount: 512 << 10)
    #expect(memory.explains(.noMemory, asked: (512 << 10) + 4096))
    #expect(memory.explains(.notPermitted, asked: 1 << 20))
    // There is room: something else is the matter.
    #expect(!memory.explains(.noMemory, asked: 512 << 10))
    #expect(!memory.explains(.invalidArgument, asked: 1 << 20))
    #expect(!LockedMemory(limit: nil).explains(.noMemory, asked: 1 << 40))
    // What a device locks for a queue nobody tells.
    #expect(memory.explains(.noMemory, asked: nil))
    #expect(!LockedMemory(limit: 1 << 30).explains(.noMemory, asked: nil))
    let problem = memory.problem(.noMemory, doing: "registering 9 bytes", asked: 1 << 20)
    #expect(
      problem?.description.hasPrefix(
        "registering 9 bytes locks memory, and this process may lock 1024KiB, of which devices "
          + "hold 512KiB: ulimit -l unlimited") == true)
  }

  @Test("a port whose link is down, or that waits for a subnet manager")
  func down() {
    #expect(roce(.down, [v4]).problem(of: .infiniBand) == .portDown(interface: "eth7", .ethernet))
    #expect(RDMAProblem.portDown(interface: "eth7", .ethernet).description.contains("set eth7 up"))
    var port = RDMAPort(number: 1, state: .initializing, linkLayer: .infiniBand)
    #expect(port.problem(of: .infiniBand) == .portNotSetUp)
    port.state = .down
    #expect(port.problem(of: .infiniBand) == .portDown(interface: nil, .infiniBand))
  }

  @Test("a port without a name, or without one that IP reaches")
  func unnamed() {
    #expect(roce(.active, []).problem(of: .infiniBand) == .noGID)
    #expect(roce(.active, [[UInt8](repeating: 0, count: 16)]).problem(of: .infiniBand) == .noGID)
    #expect(roce(.active, [local]).problem(of: .infiniBand) == .noAddress(interface: "eth7"))
    var card = RDMAPort(number: 1, state: .active, linkLayer: .ethernet, interface: "eth7")
    #expect(card.problem(of: .iWARP) == .noAddress(interface: "eth7"))
    card.addresses = ["10.0.0.1"]
    #expect(card.problem(of: .iWARP) == nil)
    #expect(card.protocolName(of: .iWARP) == "iWARP")
    // InfiniBand's own names do.
    var port = RDMAPort(number: 1, state: .active, linkLayer: .infiniBand)
    port.gids = [RDMAGID(index: 0, kind: .infiniBand, bytes: local)]
    #expect(port.problem(of: .infiniBand) == nil)
  }

  @Test("a name in words: IPv4 as such, the rest as IPv6")
  func words() {
    #expect(RDMAGID(index: 1, kind: .roceV2, bytes: v4).description == "10.0.2.15")
    let gid = RDMAGID(index: 0, kind: .roceV2, bytes: local)
    #expect(gid.description == "fe80::5054:ff:fe12:3456")
    #expect(gid.isLinkLocal)
  }

  @Test("a look at this machine ends, whatever it has")
  func here() {
    let survey = RDMASurvey.take()
    #expect(survey.isUsable || !survey.problems.isEmpty || !survey.devices.isEmpty)
  }
}
