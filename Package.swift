// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: Swift 6, strict memory safety, warnings are errors.
let ours: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
  name: "ChannelFabric",
  products: [
    .library(name: "FabricPlatform", targets: ["FabricPlatform"]),
  ],
  targets: [
    // Floor 0: C
    .systemLibrary(name: "CFabricLinux"),
    // Floor 1: ground
    .target(name: "FabricWire", swiftSettings: ours),
    .target(name: "FabricPlatform", dependencies: ["CFabricLinux"], swiftSettings: ours),
  ],
  swiftLanguageModes: [.v6]
)
