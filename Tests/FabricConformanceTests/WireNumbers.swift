/// Types of messages, and kinds of the user's. (MS-2, IO-20)
enum Kind {
  static let open: UInt8 = 1
  static let opened: UInt8 = 2
  static let refused: UInt8 = 3
  static let user: UInt8 = 4
  static let pushed: UInt8 = 5
  static let credit: UInt8 = 6
  static let close: UInt8 = 8
  static let hello: UInt8 = 9
  static let challenge: UInt8 = 10
  static let command: UInt8 = 1
  static let response: UInt8 = 2
  static let ready: UInt8 = 3
  static let entry: UInt8 = 5
  static let fence: UInt8 = 6
  static let fenced: UInt8 = 7
  static let pathState: UInt8 = 8
  static let place: UInt8 = 10
  static let call: UInt8 = 11
  static let answer: UInt8 = 12
}

/// Where records begin in a message.
let body = 16
/// Where the greeting begins in `open` and `opened`.
let greeting = 64
