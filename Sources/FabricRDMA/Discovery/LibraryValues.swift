import CFabricVerbs
import Glibc

// The library's values as ours.

extension RDMADevice.Transport {
  init(_ type: ibv_transport_type) {
    self =
      switch type {
      case IBV_TRANSPORT_IB: .infiniBand
      case IBV_TRANSPORT_IWARP: .iWARP
      default: .other
      }
  }
}

extension RDMALimits {
  init(_ attributes: ibv_device_attr) {
    self.init(
      queuePairCount: Int(attributes.max_qp), requestCount: Int(attributes.max_qp_wr),
      completionQueueCount: Int(attributes.max_cq), completionCount: Int(attributes.max_cqe),
      memoryRegionCount: Int(attributes.max_mr), memoryRegionByteCount: attributes.max_mr_size,
      elementCount: Int(attributes.max_sge), sharedReceiveQueueCount: Int(attributes.max_srq),
      sharedReceiveRequestCount: Int(attributes.max_srq_wr),
      readCount: Int(attributes.max_qp_rd_atom))
  }
}

extension RDMAPort {
  init(number: Int, of device: String, _ attributes: ibv_port_attr) {
    let state: State =
      switch attributes.state {
      case IBV_PORT_DOWN: .down
      case IBV_PORT_INIT: .initializing
      case IBV_PORT_ARMED: .armed
      case IBV_PORT_ACTIVE: .active
      default: .unknown
      }
    let linkLayer: LinkLayer =
      switch CInt(attributes.link_layer) {
      case CInt(IBV_LINK_LAYER_INFINIBAND): .infiniBand
      case CInt(IBV_LINK_LAYER_ETHERNET): .ethernet
      default: .unspecified
      }
    // The library counts 256 bytes as 1, and twice as many as 1 more.
    let packets = attributes.active_mtu.rawValue
    self.init(
      number: number, state: state, linkLayer: linkLayer,
      interface: KernelDevices.interface(of: device, port: number),
      packetByteCount: (1...5).contains(packets) ? 128 << Int(packets) : 0,
      messageByteCount: UInt64(attributes.max_msg_sz))
  }
}

extension RDMAGID {
  init(_ entry: ibv_gid_entry, of transport: RDMADevice.Transport) {
    let kind: Kind =
      switch (transport, entry.gid_type) {
      case (.iWARP, _): .iWARP
      case (_, IBV_GID_TYPE_IB.rawValue): .infiniBand
      case (_, IBV_GID_TYPE_ROCE_V1.rawValue): .roceV1
      case (_, IBV_GID_TYPE_ROCE_V2.rawValue): .roceV2
      default: .unknown
      }
    let bytes = unsafe withUnsafeBytes(of: entry.gid.raw) { unsafe Array($0) }
    self.init(
      index: Int(entry.gid_index), kind: kind, bytes: bytes,
      interface: entry.ndev_ifindex == 0 ? nil : Self.name(ofInterface: entry.ndev_ifindex))
  }

  private static func name(ofInterface index: UInt32) -> String? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(IF_NAMESIZE)) { text in
      guard unsafe if_indextoname(index, text.baseAddress!) != nil else { return nil }
      return unsafe String(cString: text.baseAddress!)
    }
  }
}
