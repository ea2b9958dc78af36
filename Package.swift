// swift-tools-version: 6.2
import Foundation
import PackageDescription

/// Every target of ours: Swift 6, strict memory safety, warnings are errors.
let ours: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// liburcu is measured against where Debian's liburcu-dev is installed.
let hasURCU =
  FileManager.default.fileExists(atPath: "/usr/include/urcu/urcu-memb.h")
  || FileManager.default.fileExists(atPath: "/usr/include/x86_64-linux-gnu/urcu/urcu-memb.h")
  || FileManager.default.fileExists(atPath: "/usr/include/aarch64-linux-gnu/urcu/urcu-memb.h")

let package = Package(
  name: "ChannelFabric",
  products: [
    .library(name: "FabricMessaging", targets: ["FabricMessaging"]),
    .library(name: "FabricSharedMemory", targets: ["FabricSharedMemory"]),
    .library(name: "FabricTCP", targets: ["FabricTCP"]),
    .library(name: "FabricRDMA", targets: ["FabricRDMA"]),
    .library(name: "FabricHostDriver", targets: ["FabricHostDriver"]),
    .library(name: "FabricHostDevices", targets: ["FabricHostDevices"]),
    .library(name: "FabricIOUnit", targets: ["FabricIOUnit"]),
    .library(name: "FabricNBD", targets: ["FabricNBD"]),
    .library(name: "FabricNIC", targets: ["FabricNICHost", "FabricNICUnit"]),
    .library(name: "FabricI2O", targets: ["FabricI2O", "FabricI2OHost"]),
    .library(name: "FabricStorage", targets: ["FabricStorage"]),
    .library(name: "FabricVerbs", targets: ["FabricVerbs"]),
    .library(name: "FabricAuthentication", targets: ["FabricAuthentication"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    // Floor 0: C
    .systemLibrary(
      name: "CFabricFUSE", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
    .systemLibrary(name: "CFabricLinux"),
    .systemLibrary(name: "CFabricNUMA"),
    .systemLibrary(name: "CFabricUBLK"),
    .systemLibrary(name: "CFabricURing"),
    .systemLibrary(name: "CFabricVerbs"),

    // Floor 1: ground
    .target(name: "FabricBounded", swiftSettings: ours),
    .target(name: "FabricWire", swiftSettings: ours),
    .target(
      name: "FabricPlatform", dependencies: ["CFabricLinux", "CFabricNUMA"], swiftSettings: ours),
    .target(
      name: "FabricRing", dependencies: ["CFabricURing", "FabricBounded", "FabricPlatform"],
      swiftSettings: ours),

    // Floor 2: model
    .target(name: "FabricVerbs", dependencies: ["FabricPlatform"], swiftSettings: ours),

    .target(
      name: "FabricCompletion", dependencies: ["FabricPlatform", "FabricVerbs"],
      swiftSettings: ours),

    .target(
      name: "FabricVerbsContract", dependencies: ["FabricPlatform", "FabricVerbs"],
      swiftSettings: ours),

    .target(
      name: "FabricAdapterParts", dependencies: ["FabricPlatform", "FabricVerbs"],
      swiftSettings: ours),

    .target(
      name: "FabricIWARP",
      dependencies: ["FabricBounded", "FabricPlatform", "FabricVerbs", "FabricWire"],
      swiftSettings: ours),

    // Floor 3: adapters
    .target(
      name: "FabricSharedMemory",
      dependencies: ["FabricAdapterParts", "FabricVerbs", "FabricPlatform", "FabricWire"],
      swiftSettings: ours),
    .target(
      name: "FabricSimulated",
      dependencies: ["FabricAdapterParts", "FabricPlatform", "FabricVerbs"],
      swiftSettings: ours),
    .target(
      name: "FabricTCP",
      dependencies: [
        "CFabricLinux", "FabricAdapterParts", "FabricBounded", "FabricIWARP", "FabricPlatform",
        "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),
    .target(
      name: "FabricRDMA",
      dependencies: ["CFabricVerbs", "FabricAdapterParts", "FabricPlatform", "FabricVerbs"],
      swiftSettings: ours),

    // Floor 4: messaging
    .target(
      name: "FabricMessaging",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricPlatform", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 4: storage
    .target(
      name: "FabricStorage",
      dependencies: [
        "CFabricLinux", "CFabricURing", "FabricBounded", "FabricPlatform", "FabricRing",
        "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 5: the block protocol
    .target(
      name: "FabricIOProtocol", dependencies: ["FabricStorage", "FabricVerbs", "FabricWire"],
      swiftSettings: ours),

    .target(
      name: "FabricNBDProtocol", dependencies: ["FabricStorage", "FabricWire"],
      swiftSettings: ours),

    // Floor 5: front ends
    .target(
      name: "FabricNVMe",
      dependencies: ["FabricCompletion", "FabricPlatform", "FabricStorage", "FabricWire"],
      swiftSettings: ours),

    .target(
      name: "FabricNVMeFabrics",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricFrontEnds", "FabricNVMe", "FabricPlatform",
        "FabricStorage", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 5: the network protocol, and the kernel's interfaces
    .target(
      name: "FabricNIC",
      dependencies: [
        "CFabricLinux", "CFabricURing", "FabricBounded", "FabricPlatform", "FabricRing",
        "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 5: keys, the only module that uses a library of cryptography
    .target(
      name: "FabricAuthentication",
      dependencies: [
        "FabricMessaging", "FabricPlatform", .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: ours),

    // Floor 5: what front ends share whose protocol comes over byte streams
    .target(
      name: "FabricFrontEnds",
      dependencies: [
        "CFabricLinux", "FabricBounded", "FabricCompletion", "FabricPlatform", "FabricStorage",
        "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 6: roles
    .target(
      name: "FabricNBD",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricFrontEnds", "FabricNBDProtocol",
        "FabricStorage", "FabricWire",
      ],
      swiftSettings: ours),

    .target(
      name: "FabricI2O",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricFrontEnds", "FabricMessaging",
        "FabricPlatform", "FabricStorage", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    .target(
      name: "FabricIOUnit",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricIOProtocol", "FabricMessaging",
        "FabricPlatform", "FabricStorage", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    .target(
      name: "FabricHostDriver",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricIOProtocol", "FabricMessaging",
        "FabricPlatform", "FabricStorage", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Remote volumes as devices of this machine's kernel
    .target(
      name: "FabricHostDevices",
      dependencies: [
        "CFabricFUSE", "CFabricLinux", "CFabricUBLK", "CFabricURing", "FabricBounded",
        "FabricCompletion", "FabricHostDriver", "FabricIOProtocol", "FabricMessaging",
        "FabricNBDProtocol", "FabricPlatform", "FabricRing", "FabricStorage", "FabricVerbs",
        "FabricWire",
      ],
      swiftSettings: ours),

    .target(
      name: "FabricI2OHost",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricHostDriver", "FabricI2O", "FabricIOProtocol",
        "FabricMessaging", "FabricPlatform", "FabricStorage", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 6: the two halves of the network driver
    .target(
      name: "FabricNICHost",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricMessaging", "FabricNIC", "FabricPlatform",
        "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),
    .target(
      name: "FabricNICUnit",
      dependencies: [
        "FabricBounded", "FabricCompletion", "FabricIOUnit", "FabricMessaging", "FabricNIC",
        "FabricPlatform", "FabricVerbs", "FabricWire",
      ],
      swiftSettings: ours),

    // Floor 6: the conformance suite, which puts records together by hand
    .target(
      name: "FabricConformance",
      dependencies: ["FabricMessaging", "FabricPlatform", "FabricVerbs"], swiftSettings: ours),

    // What the tools share
    .target(
      name: "FabricCommandLine",
      dependencies: [
        "FabricPlatform", "FabricRDMA", "FabricSharedMemory", "FabricTCP", "FabricVerbs",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: ours),

    // Floor 7: tools
    .executableTarget(
      name: "fabperf",
      dependencies: [
        "CFabricLinux", "FabricCommandLine", "FabricCompletion", "FabricHostDriver",
        "FabricMessaging",
        "FabricNVMe", "FabricNVMeFabrics", "FabricPlatform", "FabricRDMA", "FabricSharedMemory",
        "FabricStorage", "FabricTCP",
        "FabricVerbs", "FabricWire",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ] + (hasURCU ? ["CFabricURCU"] : []),
      swiftSettings: ours + (hasURCU ? [.define("HAS_URCU")] : [])),

    .executableTarget(
      name: "fabconform",
      dependencies: [
        "FabricAuthentication", "FabricCommandLine", "FabricConformance", "FabricHostDriver",
        "FabricPlatform", "FabricVerbs",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: ours),

    // Samples
    .executableTarget(
      name: "PingPong", dependencies: ["FabricMessaging", "FabricSharedMemory", "FabricVerbs"],
      path: "Samples/PingPong", swiftSettings: ours),
    .executableTarget(
      name: "BlockEcho",
      dependencies: ["FabricCompletion", "FabricFrontEnds", "FabricStorage", "FabricWire"],
      path: "Samples/BlockEcho", swiftSettings: ours),
    .executableTarget(
      name: "RPing", dependencies: ["FabricTCP", "FabricVerbs"], path: "Samples/RPing",
      swiftSettings: ours),
    .executableTarget(
      name: "iounit",
      dependencies: [
        "FabricAuthentication", "FabricCommandLine", "FabricCompletion", "FabricFrontEnds",
        "FabricI2O", "FabricIOProtocol", "FabricIOUnit", "FabricMessaging", "FabricNIC",
        "FabricNICUnit",
        "FabricNBD",
        "FabricNVMe",
        "FabricNVMeFabrics", "FabricPlatform", "FabricStorage", "FabricVerbs",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: ours),
    .executableTarget(
      name: "iohost",
      dependencies: [
        "CFabricLinux", "FabricAuthentication", "FabricCommandLine", "FabricCompletion",
        "FabricHostDevices", "FabricHostDriver", "FabricI2OHost", "FabricIOProtocol",
        "FabricNIC", "FabricNICHost",
        "FabricMessaging", "FabricPlatform", "FabricRDMA", "FabricSharedMemory", "FabricStorage",
        "FabricTCP", "FabricVerbs",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ],
      swiftSettings: ours),

    // Tests
    .testTarget(
      name: "FabricSharedMemoryTests",
      dependencies: [
        "CFabricLinux", "CSanitizedMutex", "FabricAdapterParts", "FabricPlatform",
        "FabricSharedMemory", "FabricVerbs", "FabricVerbsContract", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricMessagingTests",
      dependencies: [
        "CAllocationCounter", "FabricAuthentication", "FabricCompletion", "FabricMessaging",
        "FabricPlatform", "FabricSharedMemory", "FabricSimulated", "FabricTCP", "FabricVerbs",
        "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricAuthenticationTests",
      dependencies: ["FabricAuthentication", "FabricMessaging"], swiftSettings: ours),
    .testTarget(
      name: "FabricAdapterPartsTests", dependencies: ["FabricAdapterParts", "FabricVerbs"],
      swiftSettings: ours),
    .testTarget(
      name: "FabricVerbsTests", dependencies: ["FabricPlatform", "FabricTCP", "FabricVerbs"],
      swiftSettings: ours),
    .testTarget(
      name: "FabricPlatformTests", dependencies: ["FabricPlatform"], swiftSettings: ours),
    .testTarget(
      name: "FabricIWARPTests",
      dependencies: ["FabricIWARP", "FabricPlatform", "FabricVerbs", "FabricWire", "TestSupport"],
      swiftSettings: ours),
    .testTarget(
      name: "FabricTCPTests",
      dependencies: [
        "FabricAdapterParts", "FabricIWARP", "FabricPlatform", "FabricTCP", "FabricVerbs",
        "FabricVerbsContract", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricRDMATests",
      dependencies: [
        "FabricPlatform", "FabricRDMA", "FabricTCP", "FabricVerbs", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricSimulatedTests",
      dependencies: ["FabricPlatform", "FabricSimulated", "FabricVerbs", "FabricVerbsContract"],
      swiftSettings: ours),
    .testTarget(
      name: "FabricCompletionTests",
      dependencies: [
        "CAllocationCounter", "CFabricLinux", "CSanitizedMutex", "FabricCompletion",
        "FabricPlatform", "FabricSimulated", "FabricVerbs",
      ],
      swiftSettings: ours),
    .target(
      name: "TestSupport", dependencies: ["FabricPlatform", "FabricVerbs"],
      path: "Tests/TestSupport", swiftSettings: ours),
    .target(
      name: "TestMachine", dependencies: ["FabricHostDevices", "FabricPlatform", "FabricWire"],
      path: "Tests/TestMachine", swiftSettings: ours),
    .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
    .target(name: "CVirtualClock", path: "Tests/CVirtualClock"),
    .target(name: "CSanitizedMutex", path: "Tests/CSanitizedMutex"),
    .target(name: "CPlainLoop", path: "Tests/VerbsCount/CPlainLoop"),
    .executableTarget(
      name: "VerbsCount", dependencies: ["CPlainLoop", "FabricRDMA", "FabricVerbs"],
      path: "Tests/VerbsCount", exclude: ["CPlainLoop", "StubDevice"], swiftSettings: ours),
    .executableTarget(
      name: "VerbsPing", dependencies: ["FabricPlatform", "FabricRDMA", "FabricVerbs"],
      path: "Tests/VerbsPing", swiftSettings: ours),
    .executableTarget(
      name: "ContractPeer",
      dependencies: [
        "FabricPlatform", "FabricRDMA", "FabricSharedMemory", "FabricTCP", "FabricVerbs",
      ],
      path: "Tests/ContractPeer", swiftSettings: ours),
    .testTarget(
      name: "FabricVerbsContractTests",
      dependencies: [
        "ContractPeer", "FabricPlatform", "FabricVerbs", "FabricVerbsContract", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "TidinessTests", dependencies: ["FabricConformance"], swiftSettings: ours),
    .testTarget(
      name: "ToolTests",
      dependencies: [
        "FabricCompletion", "FabricHostDevices", "FabricHostDriver", "FabricPlatform",
        "FabricRDMA", "FabricNVMe", "FabricSharedMemory", "FabricStorage", "FabricTCP",
        "FabricVerbs", "BlockEcho", "PingPong", "RPing",
        "TestMachine", "TestSupport", "fabconform", "fabperf", "iohost", "iounit",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricIOUnitTests",
      dependencies: [
        "CAllocationCounter", "FabricAuthentication", "FabricCompletion", "FabricHostDriver",
        "FabricIOProtocol",
        "FabricIOUnit",
        "FabricMessaging", "FabricPlatform", "FabricSharedMemory", "FabricStorage", "FabricTCP",
        "FabricVerbs", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricConformanceTests",
      dependencies: [
        "FabricAuthentication", "FabricCompletion", "FabricConformance", "FabricHostDriver",
        "FabricIOProtocol", "FabricIOUnit", "FabricMessaging", "FabricSimulated", "FabricStorage",
        "FabricVerbs", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricHostDriverTests",
      dependencies: [
        "CVirtualClock", "FabricCompletion", "FabricHostDriver", "FabricIOProtocol", "FabricIOUnit",
        "FabricMessaging", "FabricSimulated", "FabricStorage", "FabricVerbs", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricIOProtocolTests",
      dependencies: [
        "FabricIOProtocol", "FabricStorage", "FabricVerbs", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricNBDTests",
      dependencies: [
        "CAllocationCounter", "FabricCompletion", "FabricFrontEnds", "FabricNBD",
        "FabricNBDProtocol", "FabricPlatform", "FabricStorage", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricNICTests",
      dependencies: [
        "CAllocationCounter", "FabricCompletion", "FabricIOUnit", "FabricMessaging", "FabricNIC",
        "FabricNICUnit", "FabricPlatform", "FabricSharedMemory", "FabricSimulated",
        "FabricStorage", "FabricTCP", "FabricVerbs", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricI2OTests",
      dependencies: [
        "CAllocationCounter", "FabricBounded", "FabricCompletion", "FabricFrontEnds",
        "FabricHostDriver", "FabricI2O", "FabricI2OHost", "FabricIOProtocol", "FabricIOUnit",
        "FabricMessaging", "FabricPlatform", "FabricSharedMemory", "FabricSimulated",
        "FabricStorage", "FabricTCP", "FabricVerbs", "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricFrontEndsTests",
      dependencies: [
        "FabricCompletion", "FabricFrontEnds", "FabricPlatform", "FabricStorage", "FabricWire",
        "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricNVMeTests",
      dependencies: ["FabricNVMe", "FabricPlatform", "FabricStorage", "FabricWire"],
      swiftSettings: ours),
    .testTarget(
      name: "FabricNVMeFabricsTests",
      dependencies: [
        "CAllocationCounter", "FabricCompletion", "FabricFrontEnds", "FabricNVMe",
        "FabricNVMeFabrics", "FabricPlatform", "FabricStorage", "FabricTCP", "FabricVerbs",
        "FabricWire", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricHostDevicesTests",
      dependencies: [
        "CAllocationCounter", "FabricAdapterParts", "FabricBounded", "FabricCompletion",
        "FabricHostDevices", "FabricHostDriver", "FabricIOUnit", "FabricMessaging",
        "FabricNBDProtocol", "FabricPlatform", "FabricSharedMemory", "FabricStorage",
        "FabricTCP", "FabricVerbs", "FabricWire", "TestMachine", "TestSupport",
      ],
      swiftSettings: ours),
    .testTarget(
      name: "FabricStorageTests",
      dependencies: ["CAllocationCounter", "FabricStorage", "FabricPlatform"],
      swiftSettings: ours),
  ],
  swiftLanguageModes: [.v6]
)

if hasURCU { package.targets.append(.systemLibrary(name: "CFabricURCU")) }

// The fuzzers need flags that every module is built with: `Tests/fuzz.sh` sets this.
if Context.environment["FABRIC_FUZZ"] != nil {
  package.targets += [
    .systemLibrary(name: "CFuzzer", path: "Tests/Fuzz/CFuzzer"),
    .executableTarget(
      name: "Fuzz",
      dependencies: [
        "CFuzzer", "FabricBounded", "FabricCompletion", "FabricFrontEnds", "FabricHostDevices",
        "FabricI2O",
        "FabricIOProtocol", "FabricIWARP", "FabricMessaging", "FabricNBD",
        "FabricNBDProtocol", "FabricNIC", "FabricNVMe", "FabricNVMeFabrics", "FabricPlatform",
        "FabricSharedMemory", "FabricSimulated", "FabricStorage", "FabricTCP", "FabricVerbs",
        "FabricWire",
      ],
      path: "Tests/Fuzz", exclude: ["CFuzzer", "Corpus"], swiftSettings: ours),
  ]
}
