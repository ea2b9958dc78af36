public import ArgumentParser
public import FabricHostDevices

extension DeviceRecovery: ExpressibleByArgument {}
