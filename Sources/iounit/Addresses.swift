import FabricCommandLine
import FabricFrontEnds
import FabricPlatform
import FabricVerbs

/// An option that takes addresses of fabrics.
struct AddressOption {
  let name: String
  /// Those that it may be of.
  let fabrics: [String]
  let synopsis: String
  let examples: String
  /// Whether addresses that other machines can reach may be listened at.
  let reachesOthers: Bool
  /// What is expected instead.
  let expectation: String
}

extension Serve {
  static let listenSynopsis = "shm:PATH|tcp:HOST:PORT|rdma:HOST:PORT"

  /// An option that takes addresses of every fabric, of hosts that may prove keys.
  func fabricOption(_ name: String) -> AddressOption {
    AddressOption(
      name: name, fabrics: ["shm", "tcp", "rdma"], synopsis: Self.listenSynopsis,
      examples: "shm:/run/user/1000/unit.sock or tcp:127.0.0.1:4420",
      reachesOthers: reachesOthers, expectation: "--keys FILE")
  }

  /// What was given to an option, in that order.
  func parseAddresses(
    _ texts: [String], _ option: AddressOption
  ) throws(ToolFailure) -> [FabricAddress] {
    var addresses: [FabricAddress] = []
    for text in texts {
      let address = try parseAddress(text, option)
      // With port 0 each is another.
      guard !addresses.contains(address) || address.endpoint.hasSuffix(":0") else {
        throw ToolFailure(
          64, "expected each \(option.name) once, got \(address) twice; leave one out")
      }
      addresses.append(address)
    }
    return addresses
  }

  private func parseAddress(
    _ text: String, _ option: AddressOption
  ) throws(ToolFailure) -> FabricAddress {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let fabric = String(parts[0])
    let place = parts.count > 1 ? String(parts[1]) : ""
    guard option.fabrics.contains(fabric), !place.isEmpty else {
      throw ToolFailure(
        64,
        "expected \(option.name) \(option.synopsis), such as \(option.examples), got \"\(text)\"")
    }
    return fabric == "shm"
      ? try socket(at: place, option) : try internet(fabric, place, text, option)
  }

  /// Hosts are told this path, and run elsewhere.
  private func socket(
    at path: String, _ option: AddressOption
  ) throws(ToolFailure) -> FabricAddress {
    let path = FileKind.absolutePath(path)
    let byteCount = path.utf8.count
    guard byteCount <= SequencedSocket.maximumPathByteCount else {
      throw ToolFailure(
        64,
        "expected \(option.name) shm:PATH with a path of at most "
          + "\(SequencedSocket.maximumPathByteCount) bytes, got \(byteCount); choose a shorter one")
    }
    return FabricAddress(fabric: "shm", endpoint: path)
  }

  /// All that a name stands for is listened at. Should it stand for something else when the adapter
  /// looks it up, the adapter refuses what other machines can reach (`reachesOthers`).
  private func internet(
    _ fabric: String, _ place: String, _ text: String, _ option: AddressOption
  ) throws(ToolFailure) -> FabricAddress {
    do throws(InternetAddress.Malformed) {
      _ = try InternetAddress.split(place)
    } catch { throw ToolFailure(64, "\(option.name) \(text): \(error)") }
    let found: [InternetAddress]
    do throws(InternetAddress.Malformed) {
      found = try InternetAddress.resolve(place)
    } catch { throw ToolFailure(69, "\(option.name) \(text): \(error)") }
    guard found.allSatisfy(\.isLoopback) || option.reachesOthers else {
      throw ToolFailure(
        64,
        "expected \(option.expectation) with \(option.name) \(text), which other machines can reach; "
          + "to serve whoever comes, add --insecure")
    }
    return FabricAddress(fabric: fabric, endpoint: found.count == 1 ? "\(found[0])" : place)
  }

  /// The TCP addresses that text stands for, of a protocol whose hosts prove no keys.
  ///
  /// - Parameters:
  ///   - option: that gave it.
  ///   - form: of the option's values, with examples.
  func keylessAddresses(
    _ text: String, option: String, protocolName: String, form: String
  ) throws(ToolFailure) -> [StreamAddress] {
    if let fabric = ["tcp:", "rdma:"].first(where: text.hasPrefix) {
      throw ToolFailure(
        64, "expected \(option) \(form), got \"\(text)\": leave \"\(fabric)\" out")
    }
    do throws(InternetAddress.Malformed) {
      _ = try InternetAddress.split(text)
    } catch {
      throw ToolFailure(64, "expected \(option) \(form), got \"\(text)\": \(error)")
    }
    let found: [InternetAddress]
    do throws(InternetAddress.Malformed) {
      found = try InternetAddress.resolve(text)
    } catch { throw ToolFailure(69, "\(option) \(text): \(error)") }
    guard found.allSatisfy(\.isLoopback) || insecure else {
      throw ToolFailure(
        64,
        "expected \(option) with an address that only this machine reaches, got \(text): "
          + "\(protocolName) has no keys; to serve whoever comes, add --insecure")
    }
    return found.map { .internet($0) }
  }

  /// Whether the unit may listen where other machines can reach it.
  var reachesOthers: Bool { keys != nil || insecure }

  /// No two options may have one place. With port 0 each is another.
  ///
  /// - Parameter places: of each option, its name and where.
  func checkPlaces(_ places: [(option: String, places: [String])]) throws(ToolFailure) {
    var known: [String: String] = [:]
    for (option, places) in places {
      for place in places where !place.hasSuffix(":0") {
        if let other = known[place], other != option {
          throw ToolFailure(
            64,
            "expected \(option) at another address than \(other), got \(place) for both; change one"
          )
        }
        known[place] = option
      }
    }
  }
}

extension FabricAddress {
  /// What it takes of the machine: addresses of different kinds may take the same.
  var place: String { fabric == "shm" ? "unix:\(endpoint)" : description }
}

extension StreamAddress {
  var place: String {
    if case .internet(let address) = self { "tcp:\(address)" } else { description }
  }
}
