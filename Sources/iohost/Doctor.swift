import ArgumentParser
import FabricCommandLine
import FabricHostDevices
import FabricPlatform
import FabricRDMA
import FabricSharedMemory
import FabricStorage
import FabricTCP
import FabricVerbs
import Glibc

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Looks at what this machine offers: one line for each thing.",
    discussion: """
      "fine" needs nothing done, "note" says what could be better, "lack" what must be mended \
      before anything works; then the exit code is 71.
      """)

  @Flag(name: .long, help: "Reports as JSON.") var json = false

  /// What was found about one thing.
  struct Finding {
    enum Verdict: String {
      case fine, note
      /// Nothing works without it.
      case lack
    }
    let name: String
    let verdict: Verdict
    let words: String

    init(_ name: String, _ verdict: Verdict, _ words: String) {
      self.name = name
      self.verdict = verdict
      self.words = words
    }
  }

  func run() async {
    let findings =
      [
        memoryFiles(), memoryBarriers(), tcp(), ring(), memory(), memoryLock(), hugePages(),
        cores(),
        openFiles(),
      ] + (DeviceEnd.all + [.vhostUser]).map(end) + RDMAReport(survey: .take()).findings
    if json {
      Output.line(
        JSON.list(
          findings.map {
            .object([
              ("name", .text($0.name)), ("verdict", .text($0.verdict.rawValue)),
              ("words", .text($0.words)),
            ])
          }
        ).description)
    } else {
      let width = findings.map(\.name.count).max() ?? 0
      for finding in findings {
        let name = finding.name + String(repeating: " ", count: width - finding.name.count)
        Output.line("\(finding.verdict)  \(name)  \(finding.words)")
      }
    }
    let lacks = findings.filter { $0.verdict == .lack }.map(\.name)
    guard lacks.isEmpty else {
      ToolFailure(71, "this machine lacks \(lacks.joined(separator: " and "))").exit()
    }
  }

  private func memoryFiles() -> Finding {
    do {
      let domain = try SharedMemoryAdapter().makeProtectionDomain()
      domain.deregister(try domain.allocate(byteCount: 4096, access: [.localWrite]))
      return Finding("memory files", .fine, "can be made, sealed and mapped")
    } catch {
      return Finding(
        "memory files", .lack,
        "\(error); allow memfd_create, sealing and mapping, in a kernel of 5.1 or later")
    }
  }

  private func memoryBarriers() -> Finding {
    do {
      try MemoryBarrier.registerGlobal()
      return Finding("memory barriers", .fine, "membarrier reaches other processes")
    } catch {
      return Finding(
        "memory barriers", .lack,
        "membarrier is refused (\(error)); allow it in the container's system call filter")
    }
  }

  private func tcp() -> Finding {
    do {
      try listen(at: "127.0.0.1:0")
    } catch {
      return Finding("tcp", .note, "volumes cannot be reached over TCP: \(error)")
    }
    guard (try? listen(at: "[::1]:0")) != nil else {
      return Finding("tcp", .fine, "can be listened at, by IPv4 only")
    }
    return Finding("tcp", .fine, "can be listened at, by IPv4 and IPv6")
  }

  private func listen(at endpoint: String) throws {
    let adapter = try TCPAdapter()
    try adapter.listen(
      at: FabricAddress(fabric: "tcp", endpoint: endpoint), events: adapter.makeEventChannel()
    ).close()
  }

  private func ring() -> Finding {
    let directory = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
    do {
      let store = try FileStore.open(
        path: "\(directory)/fabric-doctor-\(getpid())",
        options: .init(byteCountIfMissing: 1 << 20))
      store.removeIfNew()
      _ = try store.makeQueue(depth: 8)
      return Finding(
        "io_uring", .fine,
        store.isDirect
          ? "works; files in \(directory) go past the page cache"
          : "works; files in \(directory) go through the page cache")
    } catch {
      return Finding(
        "io_uring", .note, "volumes in files and on devices cannot be served: \(error)")
    }
  }

  private func memory() -> Finding {
    guard let byteCount = SystemMemory.availableByteCount else {
      return Finding("memory", .note, "the kernel does not say how much is available")
    }
    return Finding(
      "memory", .fine, "\(byteCount >> 20)MiB available, the most that memory volumes may have")
  }

  private func memoryLock() -> Finding {
    let bytes = limit(__RLIMIT_MEMLOCK)
    if bytes == UInt64.max { return Finding("memory lock limit", .fine, "unlimited") }
    let size = ByteSize.describe(bytes)
    if bytes >= RDMASurvey.neededLockByteCount { return Finding("memory lock limit", .fine, size) }
    return Finding(
      "memory lock limit", .note,
      "\(size), enough for shared memory; RDMA cards need more: \(RDMAProblem.lockRemedy)")
  }

  private func hugePages() -> Finding {
    let count = KernelFile.text("/proc/sys/vm/nr_hugepages").flatMap { text in
      UInt64(text.filter { $0 != "\n" })
    }
    guard let count, count > 0 else {
      return Finding("huge pages", .fine, "none set aside (vm.nr_hugepages), and none needed")
    }
    return Finding("huge pages", .fine, "\(count) set aside; memory for RDMA devices uses them")
  }

  private func cores() -> Finding {
    let count = Processor.availableCount
    if count > 1 { return Finding("cores", .fine, "\(count) for this process") }
    return Finding(
      "cores", .note,
      "1 for this process: unit and host take turns; with 2 a message takes microseconds less")
  }

  private func openFiles() -> Finding {
    let count = limit(RLIMIT_NOFILE)
    if count == UInt64.max { return Finding("open files", .fine, "unlimited") }
    if count >= 1024 { return Finding("open files", .fine, "at most \(count)") }
    return Finding(
      "open files", .note,
      "at most \(count), which serves some hosts only; to raise it: ulimit -n 65536")
  }

  /// Whether `iohost attach` can make such a device here.
  private func end(_ end: DeviceEnd) -> Finding {
    switch end.look() {
    case .present(let words): Finding("--as \(end.name)", .fine, "\(end.words): \(words)")
    case .missing(let words): Finding("--as \(end.name)", .note, "\(end.words): \(words)")
    }
  }

  private func limit(_ resource: __rlimit_resource) -> UInt64 {
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
    return UInt64(limit.rlim_cur)
  }
}
