import CFabricFUSE
import CFabricLinux
import FabricHostDriver
import FabricIOProtocol
import FabricStorage

/// An ioctl on the file: a control call to the unit. (HD-53)
extension VolumeFile {
  /// - Parameters:
  ///   - bytes: what the caller gave; the kernel takes as much as the command's number says.
  ///   - room: how much the caller takes back.
  func control(
    _ request: FileRequest, _ number: fuse_ino_t, _ command: UInt32,
    _ bytes: UnsafeRawBufferPointer, _ room: Int
  ) {
    let size = MemoryLayout<fabric_control>.size
    guard number == Self.fileNumber, command == fabric_ioctl_control, bytes.count == size,
      room == size
    else { return request.end(ENOTTY) }
    let given = unsafe bytes.loadUnaligned(as: fabric_control.self)
    let count = Int(given.payload_bytes)
    guard count <= ControlCall.maximumPayloadByteCount, given.reserved == 0 else {
      return request.end(EINVAL)
    }
    let offset = MemoryLayout<fabric_control>.offset(of: \.payload)!
    let payload = unsafe Array(bytes[offset..<offset + count])
    let code = given.code
    requests.queue.control(ControlCall(ControlCode(rawValue: given.code), payload: payload)) {
      answer in
      // The queue is closed, and everything answered, before the session goes.
      guard answer.errno == 0 else { return request.end(answer.errno) }
      var given = fabric_control()
      given.code = code
      given.result = answer.result
      given.payload_bytes = UInt16(answer.payload.count)
      unsafe withUnsafeMutableBytes(of: &given) { bytes in
        for (index, byte) in answer.payload.enumerated() { unsafe bytes[offset + index] = byte }
        unsafe request.endControl(UnsafeRawBufferPointer(bytes))
      }
    }
  }
}
