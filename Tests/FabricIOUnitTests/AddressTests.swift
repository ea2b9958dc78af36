import FabricHostDriver
import FabricStorage
import FabricVerbs
import Testing

@Suite("Volume addresses")
struct AddressTests {
  @Test("A URL is read and written back")
  func goodOnes() throws {
    let address = try VolumeAddress(parsing: "fabric+shm:///run/user/1000/unit.sock/disk%201")
    #expect(address.unit == FabricAddress(fabric: "shm", endpoint: "/run/user/1000/unit.sock"))
    #expect(address.volumeName == "disk 1")
    #expect("\(address)" == "fabric+shm:///run/user/1000/unit.sock/disk%201")
    let loud = try VolumeAddress(parsing: "FABRIC+SHM:///a/u.sock/v")
    #expect(loud.unit == FabricAddress(fabric: "shm", endpoint: "/a/u.sock"))
    for text in ["fabric+shm:///a/u.sock", "fabric+shm:///a/u.sock/", "shm:/a/u.sock"] {
      #expect(try VolumeAddress(parsingUnit: text).unit.endpoint == "/a/u.sock")
    }
  }

  @Test("A URL over TCP is read and written back")
  func internet() throws {
    for (text, endpoint, volume) in [
      ("fabric+tcp://host.example:4420/disk%201", "host.example:4420", "disk 1"),
      ("fabric+tcp://127.0.0.1:1/v", "127.0.0.1:1", "v"),
      ("fabric+tcp://[2001:db8::1]:65535/v", "[2001:db8::1]:65535", "v"),
      ("fabric+tcp://[fe80::1%25eth0]:4420/v", "[fe80::1%eth0]:4420", "v"),
    ] {
      let address = try VolumeAddress(parsing: text)
      #expect(address.unit == FabricAddress(fabric: "tcp", endpoint: endpoint))
      let rdma = try VolumeAddress(parsing: text.replacing("fabric+tcp", with: "fabric+rdma"))
      #expect(rdma.unit == FabricAddress(fabric: "rdma", endpoint: endpoint))
      #expect(address.volumeName == volume && "\(address)" == text)
      for unit in ["fabric+tcp://\(endpoint)", "fabric+tcp://\(endpoint)/", "tcp:\(endpoint)"] {
        #expect(try VolumeAddress(parsingUnit: unit).unit == address.unit)
      }
    }
  }

  @Test(
    "A URL that is none is refused with what was expected",
    arguments: [
      "", "disk", "/run/unit.sock/disk", "http://host/disk", "fabric+shm://run/unit.sock/disk",
      "fabric+shm:///run/unit.sock/", "fabric+shm:///disk", "fabric+ib://host/disk",
      "fabric+tcp://host/disk", "fabric+tcp://host:1", "fabric+tcp://host:1/",
      "fabric+tcp://:1/disk", "fabric+tcp:///disk", "fabric+tcp://::1:1/disk",
      "fabric+tcp://[::1/disk", "fabric+tcp://[host]:1/disk", "fabric+tcp://a%b:1/disk",
      "fabric+tcp://host:/disk",
      "fabric+tcp://host:65536/disk", "fabric+tcp://host:0/disk", "fabric+tcp://host:+1/disk",
      "fabric+tcp://host:1x/disk", "fabric+tcp://a b:1/disk", "fabric+tcp://host:1/a/b",
      "fabric+tcp://host:1/a%2Fb", "fabric+tcp://u@host:1/disk", "fabric+tcp://host:1/%zz",
      "fabric+rdma://host/disk", "fabric+nvme://host:4420/disk", "fabric+shm:///a/%zz",
      "fabric+shm:", "fabric+shm:///\(String(repeating: "a", count: 107))/disk",
      "fabric+shm:///a/%ff", "fabric+shm:///a/%00",
    ])
  func badOnes(text: String) {
    #expect {
      try VolumeAddress(parsing: text)
    } throws: { error in
      "\(error)".hasPrefix("expected a URL such as fabric+shm:///") && "\(error)".contains(text)
    }
  }

  @Test("A zero byte in a URL is named as what is wrong with it")
  func zeroBytes() {
    #expect {
      try VolumeAddress(parsing: "fabric+shm:///a/%00")
    } throws: { "\($0)".hasSuffix("a zero byte, \"%00\", is not allowed in it") }
  }

  @Test("A failed request names its blocks, if it has any")
  func failures() {
    func words(_ operation: BlockOperation, _ count: UInt64) -> String {
      "\(RemoteVolumeError.failed(operation, block: 0, blockCount: count, status: .flushFailed))"
    }
    #expect(words(.flush, 0).hasPrefix("flush failed: data written"))
    #expect(words(.read, 8).hasPrefix("read of 8 blocks from block 0 failed: data written"))
  }
}
