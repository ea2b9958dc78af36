import ArgumentParser
import FabricCommandLine
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Glibc

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Looks at what this machine offers: one line each, fine or what to do.")

  @Flag(name: .long, help: "Reports as JSON.") var json = false

  /// What was found about one thing.
  struct Finding {
    let name: String
    /// What else works suffers without it.
    let isFine: Bool
    let words: String
  }

  func run() async {
    let findings = [
      memoryLock(), sharedMemory(), ring(), hugePages(), cores(), descriptors(),
    ]
    if json {
      return Output.line(
        JSON.list(
          findings.map {
            .object([
              ("name", .text($0.name)), ("fine", .flag($0.isFine)), ("words", .text($0.words)),
            ])
          }
        ).description)
    }
    let width = findings.map(\.name.count).max() ?? 0
    for finding in findings {
      let name = finding.name + String(repeating: " ", count: width - finding.name.count)
      Output.line("\(finding.isFine ? "fine" : "note")  \(name)  \(finding.words)")
    }
  }

  private func limit(_ resource: __rlimit_resource) -> UInt64 {
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
    return UInt64(limit.rlim_cur)
  }

  private func memoryLock() -> Finding {
    let bytes = limit(__RLIMIT_MEMLOCK)
    let isFine = bytes == UInt64(bitPattern: -1) || bytes >= 64 << 20
    let size = bytes == UInt64(bitPattern: -1) ? "unlimited" : ByteSize.describe(bytes)
    return Finding(
      name: "memory lock limit", isFine: isFine,
      words: isFine
        ? size
        : "\(size): enough for shared memory; RDMA cards need more: "
          + "add \"* - memlock unlimited\" to /etc/security/limits.conf")
  }

  private func sharedMemory() -> Finding {
    do {
      let domain = try SharedMemoryAdapter().makeProtectionDomain()
      domain.deregister(try domain.allocate(byteCount: 4096, access: [.localWrite]))
      return Finding(name: "shared memory", isFine: true, words: "sealed memory files work")
    } catch {
      return Finding(
        name: "shared memory", isFine: false,
        words: "\(error); needs a kernel of 5.1 or later that allows memfd_create")
    }
  }

  private func ring() -> Finding {
    let path = "/tmp/fabric-doctor-\(getpid())"
    defer {
      unsafe unlink(path)
      unsafe unlink(path + ".fabric")
    }
    do {
      let store = try FileStore.open(path: path, options: .init(byteCountIfMissing: 1 << 20))
      _ = try store.makeQueue(depth: 8)
      return Finding(name: "io_uring", isFine: true, words: "works, \(store.accessDescription)")
    } catch {
      return Finding(name: "io_uring", isFine: false, words: "\(error)")
    }
  }

  private func hugePages() -> Finding {
    var buffer = [UInt8](repeating: 0, count: 128)
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
    let number = unsafe open(path, O_RDONLY)
    var text = ""
    if number >= 0 {
      let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(number, $0.baseAddress, 128) }
      text = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
      close(number)
    }
    let isOn = text.contains("[always]") || text.contains("[advise]")
    return Finding(
      name: "huge pages", isFine: isOn,
      words: isOn
        ? "the kernel gives them to shared memory that asks"
        : "not needed; fewer page faults with: echo advise > \(path)")
  }

  private func cores() -> Finding {
    let count = Processor.availableCount
    return Finding(
      name: "cores", isFine: count > 1,
      words: count > 1
        ? "\(count)"
        : "1: unit and host take turns and never spin; with 2 a message takes microseconds less")
  }

  private func descriptors() -> Finding {
    let count = limit(RLIMIT_NOFILE)
    return Finding(
      name: "open files", isFine: count >= 1024,
      words: count >= 1024
        ? "\(count)" : "\(count): some hosts only; raise it with: ulimit -n 65536")
  }
}
