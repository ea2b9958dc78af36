public import FabricPlatform

/// An RDMA device as the library showed it. The corresponding C types are `ibv_device` and
/// `ibv_device_attr`.
public struct RDMADevice: Equatable, Sendable {
  /// What a device speaks. One of InfiniBand's transport speaks RoCE on ports whose link is Ethernet.
  public enum Transport: String, Sendable {
    case infiniBand = "InfiniBand"
    case iWARP
    case other
  }

  public var name: String
  public var transport: Transport
  /// The file under `/dev/infiniband` by which programs reach it: `uverbs0`.
  public var fileName: String
  /// The node of the memory that is near, for a device of software that of its network card; nil where the kernel
  /// tells of none.
  public var numaNode: Int?
  public var firmware: String
  /// Nil where the device could not be opened or asked.
  public var limits: RDMALimits?
  /// By number, from 1; empty where the device could not be opened.
  public var ports: [RDMAPort]
  /// Why the device could not be opened or asked.
  public var failure: Errno?

  public init(
    name: String, transport: Transport, fileName: String, numaNode: Int? = nil,
    firmware: String = "", limits: RDMALimits? = nil, ports: [RDMAPort] = [], failure: Errno? = nil
  ) {
    self.name = name
    self.transport = transport
    self.fileName = fileName
    self.numaNode = numaNode
    self.firmware = firmware
    self.limits = limits
    self.ports = ports
    self.failure = failure
  }
}

/// The most of each kind that a device has; what can be had is often less.
public struct RDMALimits: Equatable, Sendable {
  public var queuePairCount: Int
  /// Requests of one queue of a queue pair.
  public var requestCount: Int
  public var completionQueueCount: Int
  /// Completions of one completion queue.
  public var completionCount: Int
  public var memoryRegionCount: Int
  public var memoryRegionByteCount: UInt64
  /// Scatter-gather elements of one request.
  public var elementCount: Int
  public var sharedReceiveQueueCount: Int
  public var sharedReceiveRequestCount: Int
  /// Reads that one queue pair may have under way.
  public var readCount: Int

  public init(
    queuePairCount: Int = 0, requestCount: Int = 0, completionQueueCount: Int = 0,
    completionCount: Int = 0, memoryRegionCount: Int = 0, memoryRegionByteCount: UInt64 = 0,
    elementCount: Int = 0, sharedReceiveQueueCount: Int = 0, sharedReceiveRequestCount: Int = 0,
    readCount: Int = 0
  ) {
    self.queuePairCount = queuePairCount
    self.requestCount = requestCount
    self.completionQueueCount = completionQueueCount
    self.completionCount = completionCount
    self.memoryRegionCount = memoryRegionCount
    self.memoryRegionByteCount = memoryRegionByteCount
    self.elementCount = elementCount
    self.sharedReceiveQueueCount = sharedReceiveQueueCount
    self.sharedReceiveRequestCount = sharedReceiveRequestCount
    self.readCount = readCount
  }
}
