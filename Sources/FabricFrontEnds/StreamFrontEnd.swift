public import FabricCompletion
public import FabricStorage

/// A front end whose protocol comes over byte streams: listening sockets and streams. The protocol is the
/// handlers'.
///
/// Threads: `init`, `stop` and all members on any but the service's own; all calls of handlers on the
/// first thread of the service.
public final class StreamFrontEnd: FrontEndCarrier, @unchecked Sendable {
  /// Ports, buffers and waiting.
  public let frontEnd: FrontEnd
  /// Where it listens, in the order given, with ports that the system chose.
  public private(set) var addresses: [StreamAddress] = []
  private var server: StreamServer!

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - name: unique in the common layer.
  ///   - service: has one or more threads of its own and outlives this object.
  ///   - addresses: at least one.
  ///   - makeHandler: called for each connection, before anything of it is looked at. Keep `frontEnd`
  ///     unowned.
  /// - Throws: `FrontEndError`; nothing is left behind.
  public init(
    name: String, layer: CommonLayer, service: CompletionService, addresses: [StreamAddress],
    options: FrontEndOptions = .init(),
    makeHandler:
      @escaping @Sendable (_ stream: ServedStream, _ frontEnd: FrontEnd) ->
      any StreamHandler
  ) throws(FrontEndError) {
    precondition(!addresses.isEmpty, "a front end listens somewhere")
    let frontEnd = try FrontEnd(name: name, layer: layer, service: service, options: options)
    self.frontEnd = frontEnd
    // Before somebody comes.
    frontEnd.begin(self)
    do throws(FrontEndError) {
      let server = try StreamServer(service: service, options: options) {
        [unowned frontEnd] stream in
        makeHandler(stream, frontEnd)
      }
      self.server = server
      let started = frontEnd.onThread { () -> Result<[StreamAddress], FrontEndError> in
        do throws(FrontEndError) {
          try server.listen(at: addresses)
          return .success(server.addresses)
        } catch {
          server.stopListening()
          return .failure(error)
        }
      }
      self.addresses = try started.get()
    } catch {
      frontEnd.stop()
      throw error
    }
  }

  /// Streams that there are now. Waits for the service's thread.
  public var streamCount: Int { frontEnd.onThread { [self] in server?.streamCount ?? 0 } }

  /// Takes nobody any more, resets every stream, lets what ports had accepted end, and returns when
  /// nothing is called any more. The service goes on. A second call has no effect. (ST-41)
  public func stop() { frontEnd.stop() }

  public func forEachDebtor(_ body: (_ number: UInt32, _ progress: UInt64) -> Void) {
    server?.forEachDebtor(body)
  }

  /// Who sends a byte now and then keeps its buffers no better than who sends none.
  public var leastProgress: UInt64 { 32 << 10 }
  public var debtorPatience: Int { 2 }

  public func endDebtor(_ number: UInt32) { server?.end(number, because: .stalled) }

  public func flush() { server?.flushTouched() }

  public func endConnections() {
    server?.stopListening()
    server?.resetAll()
  }

  public func leaveService() {
    server?.leaveService()
    server = nil
  }
}
