import FabricI2O
