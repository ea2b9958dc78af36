import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// An opened device with the port that is used of it, and what it can do.
///
/// Opened once in a process and kept open. The connection manager has contexts of its own, which it
/// closes when none of its identifiers needs them. Threads: any.
@safe
final class OpenDevice: @unchecked Sendable {
  let context: UnsafeMutablePointer<ibv_context>
  let name: String
  /// iWARP has no immediate data, and connects in one step.
  let isIWARP: Bool
  /// The kernel's own, `siw`. It has flushed all that it ever will when a queue pair has entered the error
  /// state; requests that came to it behind that are heard of no more.
  let isSoftwareIWARP: Bool
  /// Says of a request whose memory is not registered no more than of those behind it, which it
  /// flushes: the kernel's devices, RoCE and iWARP.
  let flushesRequestsAtFault: Bool
  /// The first one; librdmacm finds it by the address, too.
  let port: UInt8 = 1
  let maximumCompletionCount: Int
  let maximumRequestCount: Int
  /// RDMA reads under way at once: asked for, and answered.
  let readDepth: UInt8
  let answerDepth: UInt8
  let maximumInlineByteCount: Int
  let maximumMessageByteCount: Int
  /// The node that its card is near to; nil where there is none, or the kernel does not say.
  let numaNode: Int?
  /// What it says of itself: each event comes once in a process.
  let events: DeviceEvents

  /// A device locks 64 bytes and more for each completion that a queue may hold, or 4 MiB for so many.
  private static let completionLimit = 1 << 16
  private static let known = Mutex<[String: OpenDevice]>([:])

  /// Opens a device.
  ///
  /// - Parameter name: nil for the first whose port is active, or else the first.
  /// - Throws: `.system` when there is none, or the system refuses it.
  static func open(named name: String?) throws(ResourceError) -> OpenDevice {
    var count: CInt = 0
    guard let list = unsafe fabric_verbs_devices(&count) else {
      throw .system(Errno.current, doing: "looking for RDMA devices")
    }
    defer { unsafe ibv_free_device_list(list) }
    var first: OpenDevice?
    for index in 0..<Int(count) {
      guard let found = unsafe list[index] else { continue }
      let foundName = unsafe String(cString: ibv_get_device_name(found))
      guard name == nil || name == foundName else { continue }
      let device = try unsafe opened(found, name: foundName)
      if name != nil || device.isActive { return device }
      if first == nil { first = device }
    }
    // Its link may come up before it is needed.
    if let first { return first }
    let what = name.map { "opening the RDMA device \($0)" } ?? "opening an RDMA device"
    throw .system(.noDevice, doing: what)
  }

  /// One for each device: all adapters of the process share what is there once. One that has gone
  /// meanwhile, and come again, is opened anew.
  private static func opened(
    _ found: UnsafeMutablePointer<ibv_device>, name: String
  ) throws(ResourceError) -> OpenDevice {
    if let device = known.withLock({ $0[name] }), device.isThere { return device }
    guard let context = unsafe ibv_open_device(found) else {
      throw .refusal(
        Errno.current,
        opening: "/dev/infiniband/\(KernelDevices.verbsFile(of: name) ?? "uverbs0")",
        doing: "opening the RDMA device \(name)")
    }
    do throws(ResourceError) {
      let device = try unsafe OpenDevice(context)
      known.withLock { $0[name] = device }
      return device
    } catch {
      unsafe ibv_close_device(context)
      throw error
    }
  }

  private init(_ context: UnsafeMutablePointer<ibv_context>) throws(ResourceError) {
    unsafe self.context = context
    name = unsafe String(cString: ibv_get_device_name(context.pointee.device))
    numaNode = KernelDevices.numaNode(of: name)
    isIWARP = unsafe context.pointee.device.pointee.transport_type == IBV_TRANSPORT_IWARP
    var attributes = ibv_device_attr()
    let result = unsafe ibv_query_device(context, &attributes)
    guard result == 0 else { throw .system(Errno(rawValue: result), doing: "asking \(name)") }
    isSoftwareIWARP = attributes.vendor_id == Self.softwareIWARPVendor
    flushesRequestsAtFault = isSoftwareIWARP || attributes.vendor_id == Self.softwareRoCEVendor
    if isSoftwareIWARP { unsafe Self.coverForbiddenPlace(context) }
    maximumCompletionCount = min(Self.completionLimit, Int(attributes.max_cqe))
    maximumRequestCount = Int(attributes.max_qp_wr)
    readDepth = UInt8(clamping: min(16, attributes.max_qp_init_rd_atom))
    answerDepth = UInt8(clamping: min(16, attributes.max_qp_rd_atom))
    var port = ibv_port_attr()
    _ = unsafe fabric_verbs_query_port(context, 1, &port)
    maximumMessageByteCount = min(1 << 30, Int(port.max_msg_sz))
    maximumInlineByteCount = unsafe Self.findInlineLimit(context)
    do {
      events = try unsafe DeviceEvents(context, name: name)
    } catch {
      throw .system(error, doing: "listening to \(name)")
    }
  }

  private static let softwareIWARPVendor: UInt32 = 0x62_6d74
  private static let softwareRoCEVendor: UInt32 = 0xff_ffff

  /// Queues are mapped at offsets that the kernel counts up from 0, one behind the other. libsiw takes the
  /// offset 0x90000 for a failure (`SIW_INVAL_UOBJ_KEY`): as soon as a process has so many
  /// queues, none can be made any more. A first one of 1 MiB, which is never used, covers that place.
  private static func coverForbiddenPlace(_ context: UnsafeMutablePointer<ibv_context>) {
    _ = unsafe ibv_create_cq(context, 32768, nil, nil, 0)
  }

  private var isActive: Bool {
    var attributes = ibv_port_attr()
    return unsafe fabric_verbs_query_port(context, port, &attributes) == 0
      && attributes.state == IBV_PORT_ACTIVE
  }

  /// What ends connections of the device by its state, whether or not it has said so already; nil when all is well.
  var trouble: String? {
    var attributes = ibv_port_attr()
    guard unsafe fabric_verbs_query_port(context, port, &attributes) == 0 else {
      return "\(name) was removed"
    }
    guard attributes.state == IBV_PORT_DOWN else { return nil }
    return unsafe "\(name): \(String(cString: ibv_event_type_str(IBV_EVENT_PORT_ERR)))"
  }

  /// The kernel still answers for it.
  private var isThere: Bool {
    var attributes = ibv_port_attr()
    return unsafe fabric_verbs_query_port(context, port, &attributes) == 0
  }

  /// What a queue pair takes inline is not among the device's attributes: one is made to see.
  private static func findInlineLimit(_ context: UnsafeMutablePointer<ibv_context>) -> Int {
    guard let domain = unsafe ibv_alloc_pd(context) else { return 0 }
    defer { unsafe ibv_dealloc_pd(domain) }
    guard let queue = unsafe ibv_create_cq(context, 2, nil, nil, 0) else { return 0 }
    defer { unsafe ibv_destroy_cq(queue) }
    for limit in [256, 128, 64, 32] {
      var attributes = unsafe ibv_qp_init_attr()
      unsafe attributes.send_cq = unsafe queue
      unsafe attributes.recv_cq = unsafe queue
      unsafe attributes.qp_type = IBV_QPT_RC
      unsafe attributes.cap = ibv_qp_cap(
        max_send_wr: 1, max_recv_wr: 1, max_send_sge: 2, max_recv_sge: 2,
        max_inline_data: UInt32(limit))
      if let queuePair = unsafe ibv_create_qp(domain, &attributes) {
        unsafe ibv_destroy_qp(queuePair)
        return limit
      }
    }
    return 0
  }
}
