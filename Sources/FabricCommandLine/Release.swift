/// Which release the tools are of.
public enum Release {
  public static let version = "0.1.0"
}
