import FabricBounded
import FabricFrontEnds
import FabricNVMe

/// A command between its arrival and its end.
struct CommandSlot: BitwiseCopyable {
  var command: Command
  var io = IOCommand()
  var buffer: CommandBuffer?
  /// Data from the host that is in the buffer.
  var receivedByteCount: UInt32 = 0
  /// Of a command in pieces, how many are done: ranges, or blocks.
  var doneCount: UInt32 = 0
  /// What is known to be wrong before the data has come.
  var status = Status.success
  /// Its data is being fetched.
  var isReceiving = false

  init(command: Command = Command(opcode: 0)) { self.command = command }
}

/// Memory for a command's data.
struct CommandBuffer: BitwiseCopyable {
  let address: UInt64
  let byteCount: Int
  /// What its source calls it.
  let key: UInt32
  /// Nil: the connection's own.
  let lent: DataBuffers.Buffer?

  init(_ lent: DataBuffers.Buffer) {
    address = lent.address
    byteCount = lent.byteCount
    key = lent.key
    self.lent = lent
  }

  /// Memory of the connection's own.
  init(address: UInt64, byteCount: Int, key: UInt32 = 0) {
    self.address = address
    self.byteCount = byteCount
    self.key = key
    lent = nil
  }
}

/// A queue's way to a volume.
final class VolumeWay {
  let port: ServedPort
  let client: PortClient
  let blockShift: UInt8

  init(port: ServedPort, client: PortClient, blockShift: UInt8) {
    self.port = port
    self.client = client
    self.blockShift = blockShift
  }
}
