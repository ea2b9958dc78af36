import FabricIOProtocol
import FabricMessaging

/// A host that fences another connection of its session, over this one. (IO-50)
extension UnitConnection {
  func receiveFence(_ message: IncomingMessage) {
    guard fenceRequest == nil else {
      return violation("expected one fence request at a time, got another before the answer")
    }
    do throws(ProtocolFault) {
      let request = try FenceRequest(decoding: message.payload)
      guard request.connection != opening.connection else {
        return violation("expected another connection to be fenced, got this one")
      }
      fenceRequest = request
      session.connection(request.connection)?.fence()
    } catch { return violation("\(error)") }
    answerFenceIfSettled()
  }

  /// Answers once nothing of the fenced connection is under way any more.
  func answerFenceIfSettled() {
    guard state == .ready, let channel, let fenceRequest,
      let answer = session.answer(to: fenceRequest)
    else { return }
    let refusal = channel.send(kind: MessageKind.fenced.rawValue, tag: 0, bytes: answer.encoded())
    // A refusal for want of credit is followed by `channelCanSend`.
    guard refusal == nil else { return }
    self.fenceRequest = nil
    channel.flush()
  }
}
