public import ArgumentParser
public import FabricHostDevices

extension UBLKRecovery: ExpressibleByArgument {}
