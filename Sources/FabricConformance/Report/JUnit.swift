import FoundationXML

/// The report as JUnit's XML, which most CI services show.
extension Report {
  public func junit() -> String {
    let suite = element(
      "testsuite",
      [
        "name": "fabconform \(subject)", "tests": "\(judgements.count + (isWhole ? 0 : 1))",
        "errors": isWhole ? "0" : "1", "failures": "\(count(.failed))",
        "skipped": "\(count(.notApplicable))",
        "time": "\(judgements.reduce(0) { $0 + $1.seconds })",
      ])
    for judgement in judgements { suite.addChild(testCase(judgement)) }
    if !isWhole {
      let rest = element("testcase", ["name": "the rest", "classname": "fabconform"])
      rest.addChild(
        element(
          "error", ["message": "the run did not come to its end: the other cases are not judged"]))
      suite.addChild(rest)
    }
    let root = element("testsuites", [:])
    root.addChild(suite)
    let document = XMLDocument(rootElement: root)
    document.version = "1.0"
    document.characterEncoding = "UTF-8"
    return document.xmlString(options: .nodePrettyPrint)
  }

  private func testCase(_ judgement: Judgement) -> XMLElement {
    let judged = judgement.conformanceCase
    let found = element(
      "testcase",
      [
        "name": judged.id, "classname": judged.clauses.joined(separator: " "),
        "time": "\(judgement.seconds)",
      ])
    switch judgement.verdict {
    case .passed: break
    case .failed:
      let failure = element("failure", ["message": judgement.words])
      failure.stringValue = Self.writable(Self.details(of: judgement).joined(separator: "\n"))
      found.addChild(failure)
    case .notApplicable: found.addChild(element("skipped", ["message": judgement.words]))
    }
    return found
  }

  /// What peers say may hold what XML 1.0 has no form for.
  private static func writable(_ text: String) -> String {
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      let isWritable =
        switch scalar.value {
        case 0x9, 0xA, 0xD, 0x20...0xD7FF, 0xE000...0xFFFD, 0x10000...0x10FFFF: true
        default: false
        }
      scalars.append(isWritable ? scalar : "\u{FFFD}")
    }
    return String(scalars)
  }

  private func element(_ name: String, _ attributes: [String: String]) -> XMLElement {
    let element = XMLElement(name: name)
    for (name, value) in attributes.sorted(by: { $0.key < $1.key }) {
      let attribute = XMLNode(kind: .attribute)
      attribute.name = name
      attribute.stringValue = Self.writable(value)
      element.addAttribute(attribute)
    }
    return element
  }
}
