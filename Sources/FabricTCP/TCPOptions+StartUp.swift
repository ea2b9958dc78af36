import FabricIWARP
import FabricPlatform

extension TCPOptions {
  /// Bytes of private data in either direction. (RFC 5044 section 7.1.1, RFC 6581 section 9)
  var maximumPrivateDataByteCount: Int {
    initiator(wantsChecksums: true).maximumPrivateDataByteCount
  }

  func initiator(wantsChecksums: Bool) -> StartUp.Options {
    var start = common(wantsChecksums: wantsChecksums)
    start.isPeerToPeer = isEnhanced
    // A read would be a request that nobody posted.
    start.readyToReceive = [.emptyWrite]
    return start
  }

  func responder(wantsChecksums: Bool) -> StartUp.Options {
    var start = common(wantsChecksums: wantsChecksums)
    start.readyToReceive = [.emptyFPDU, .emptyWrite, .emptyRead]
    return start
  }

  private func common(wantsChecksums: Bool) -> StartUp.Options {
    var start = StartUp.Options()
    start.wantsMarkers = wantsMarkers
    start.wantsChecksums = wantsChecksums
    start.isEnhanced = isEnhanced
    start.inboundReadDepth = readDepth
    start.outboundReadDepth = readDepth
    return start
  }
}
