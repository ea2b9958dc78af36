// Writes messages to a peer over the first RDMA device, by the adapter or by a plain C loop, for
// Tests/count.sh, which counts the instructions of both.
import CPlainLoop

let words = CommandLine.arguments
guard words.count == 5, let count = Int(words[2]), let batch = Int(words[3]), batch > 0, batch <= 64
else { fatalError("expected ours|plain MESSAGES AT-ONCE HOST:PORT") }
let done =
  words[1] == "ours"
  ? try sendByAdapter(count, atOnce: batch, at: words[4]) : plain_loop(count, batch)
guard done == count else { fatalError("expected \(count) completions, got \(done)") }
