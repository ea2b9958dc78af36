/// Opcodes and types, as the specifications number them.
public enum Opcode {
  public static let fabrics: UInt8 = 0x7F

  /// Types of Fabrics commands. (NVMe over Fabrics 1.1, figure 14)
  public enum Fabrics {
    public static let propertySet: UInt8 = 0x00
    public static let connect: UInt8 = 0x01
    public static let propertyGet: UInt8 = 0x04
    public static let disconnect: UInt8 = 0x08
  }

  /// Of the admin queue. (Base 1.4, figure 139)
  public enum Admin {
    public static let getLogPage: UInt8 = 0x02
    public static let identify: UInt8 = 0x06
    public static let abort: UInt8 = 0x08
    public static let setFeatures: UInt8 = 0x09
    public static let getFeatures: UInt8 = 0x0A
    public static let asynchronousEventRequest: UInt8 = 0x0C
    public static let keepAlive: UInt8 = 0x18

    public static let all = [
      getLogPage, identify, abort, setFeatures, getFeatures, asynchronousEventRequest, keepAlive,
    ]
    /// What a discovery controller takes. (NVMe over Fabrics 1.1, section 5.4)
    public static let ofDiscovery = [
      getLogPage, identify, setFeatures, getFeatures, asynchronousEventRequest, keepAlive,
    ]
  }

  /// Of I/O queues. (Base 1.4, figure 346)
  public enum IO {
    public static let flush: UInt8 = 0x00
    public static let write: UInt8 = 0x01
    public static let read: UInt8 = 0x02
    public static let writeUncorrectable: UInt8 = 0x04
    public static let compare: UInt8 = 0x05
    public static let writeZeroes: UInt8 = 0x08
    public static let datasetManagement: UInt8 = 0x09
    public static let verify: UInt8 = 0x0C

    public static let all = [
      flush, write, read, writeUncorrectable, compare, writeZeroes, datasetManagement, verify,
    ]
    public static let modifying = [
      write, writeUncorrectable, writeZeroes, datasetManagement,
    ]

    /// A bit for each of `all`.
    private static let mask = all.reduce(0 as UInt64) { $0 | 1 << UInt64($1) }

    /// Whether it is one of `all`; for each command, so without looking through these.
    @inline(__always)
    public static func isSupported(_ opcode: UInt8) -> Bool {
      opcode < 64 && mask &>> UInt64(opcode) & 1 == 1
    }
  }
}
