import TestSupport
import Testing

@Suite("NICs: what the commands take and what not", .untilStuck)
struct NICArgumentTests {
  @Test(
    "what is wrong with --nic is said in one line, before anything is made",
    arguments: [
      ("lan0", "there is no NAME= in it"), ("=switch", "there is no NAME= in it"),
      ("a/b=switch", "no \"/\""), ("lan0=", "got \"\""), ("lan0=bridge", "got \"bridge\""),
      ("lan0=switch:x", "got \"switch:x\""), ("lan0=tap", "got \"tap\""),
      ("lan0=tap:", "the name of an interface"),
      ("lan0=tap:a-name-that-is-too-long", "1 to 15 bytes"),
      ("lan0=interface:a b", "without \"/\", \":\" and blanks"),
      ("x\n=switch", "no blank"),
      ("lan0=switch,mtu=67", "mtu=68 to 65521"), ("lan0=switch,mtu=65522", "mtu=68 to 65521"),
      ("lan0=switch,mtu=x", "got \"mtu=x\""), ("lan0=switch,broadcasts=0", "got \"broadcasts=0\""),
      ("lan0=switch,addresses=1025", "got \"addresses=1025\""),
      ("lan0=switch,mtu=1500,mtu=1500", "got \"mtu\" twice"), ("lan0=switch,", "got \"\""),
      ("lan0=interface:lo,mtu=1500", "whose own holds"), ("disk=switch", "is taken"),
    ])
  func unitArguments(argument: String, words: String) throws {
    let place = try Place()
    let unit = try Tool(
      "iounit",
      [
        "serve", "--volume", "disk=memory,size=1MiB", "--listen", "shm:\(place.file("u"))", "--nic",
        argument,
      ])
    #expect(unit.waitForEnd() == 64)
    #expect(unit.errors.count == 1 && unit.errors[0].contains(words), "\(unit.errors)")
  }

  @Test("--nic wants --listen, an interface of its own, and Ethernet")
  func unitChecks() throws {
    let place = try Place()
    let listen = ["--listen", "shm:\(place.file("u"))"]
    for (arguments, code, words) in [
      (["--nic", "lan0=switch", "--nbd", "unix:\(place.file("n"))"], 64, "with --nic"),
      (listen + ["--nic", "a=tap:x0", "--nic", "b=tap:x0"], 64, "is another's"),
      (listen + ["--nic", "lan0=interface:lo"], 64, "Ethernet interface"),
      (listen + ["--nic", "lan0=interface:nosuch0"], 71, "nosuch0"),
    ] {
      let unit = try Tool("iounit", ["serve", "--volume", "disk=memory,size=1MiB"] + arguments)
      #expect(unit.waitForEnd() == Int32(code), "\(arguments)")
      #expect(unit.errors.last?.contains(words) == true, "\(arguments): \(unit.errors)")
    }
  }

  @Test(
    "what is wrong with the arguments of iohost nic is said, and nothing is made",
    arguments: [
      (["attach", "URL"], "--name"), (["attach", "URL", "--name", "a/b"], "--name: expected"),
      (["attach", "URL", "--name", "fab0", "--queues", "17"], "--queues of 1 to 16"),
      (["attach", "URL", "--name", "fab0", "--buffers", "1"], "--buffers of 2 to 256"),
      (["attach", "URL", "--name", "fab0", "--silence", "0.4"], "--silence of 0.5 to 600"),
      (["attach", "URL", "--name", "fab0", "--mac", "ff:ff:ff:ff:ff:ff"], "of a station"),
      (["attach", "URL", "--name", "fab0", "--mac", "1:2:3"], "of a station"),
      (["attach", "URL", "--name", "fab0", "--emulate", "i2o"], "expected no --emulate"),
      (["detach"], "got none"), (["detach", "fab0", "--all"], "got both"),
    ] as [([String], String)])
  func hostArguments(arguments: [String], words: String) throws {
    let place = try Place()
    let url = "fabric+shm://\(place.file("u"))/lan0"
    let host = try Tool(
      "iohost",
      ["nic"] + arguments.map { $0 == "URL" ? url : $0 } + ["--state-dir", place.file("state")])
    #expect(host.waitForEnd() == 64)
    #expect(host.errors.joined(separator: " ").contains(words), "\(host.errors)")
  }

  @Test(
    "an interface that nobody has attached: 66, with those that there are",
    arguments: [
      ["show", "fab0"], ["detach", "fab0"], ["rename", "fab0", "fab1"],
    ])
  func unknown(arguments: [String]) throws {
    let place = try Place()
    let host = try Tool(
      "iohost", ["nic"] + arguments + ["--state-dir", place.file("state")])
    #expect(host.waitForEnd() == 66)
    #expect(host.errors.last?.contains("none is in this network namespace") == true)
    let list = try Tool("iohost", ["nic", "list", "--json", "--state-dir", place.file("state")])
    #expect(list.waitForEnd() == 0 && list.output == ["[]"])
  }
}
