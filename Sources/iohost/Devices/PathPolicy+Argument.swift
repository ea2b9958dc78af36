public import ArgumentParser
public import FabricHostDriver

extension PathPolicy: ExpressibleByArgument {}
