import CFabricLinux
import FabricPlatform
import Glibc

/// That a process serves an interface: no other does until it goes, whatever files, names and options the other comes
/// with. Two that read from one interface would each get some of its frames.
struct InterfaceClaim: ~Copyable {
  private let socket: Descriptor

  init(_ interface: NetworkInterface) throws(InterfaceError) {
    let index = interface.index
    do throws(Errno) {
      socket = try Descriptor(result: fabric_interface_claim(index))
    } catch {
      guard error == .addressInUse else { throw .system("claim \(interface)", error) }
      throw .taken(interface.name, by: Self.claimant(index))
    }
  }

  private static func claimant(_ index: CInt) -> Int32? {
    guard let socket = try? Descriptor(result: fabric_interface_claimant(index)) else { return nil }
    var (process, user, group): (CInt, UInt32, UInt32) = (0, 0, 0)
    let result = unsafe fabric_peer_credentials(socket.rawValue, &process, &user, &group)
    return result == 0 && process > 0 ? process : nil
  }
}
