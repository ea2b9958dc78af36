#!/usr/bin/env bash
# Runs the tests of the libraries under the thread sanitizer, in a build of its own. Arguments go to
# `swift test`. Ends with 0 when no test failed and no race was seen.
case ${1:-} in
-h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 70

# SANITIZED_THREADS: the sanitizer has its own memory where we would like to have ours.
options=(--sanitize=thread --scratch-path .build/sanitized -Xswiftc -DSANITIZED_THREADS)
# Left out: what counts allocations, mappings or processor time, which the sanitizer has of its
# own; what has one thread only, or a clock of its own; what must be done within 5 s; and the programs.
skips=(--skip ContractTests --skip HostileStreamTests --skip EndTests --skip EdgeTests --skip CaptureTests
  --skip FabricIWARPTests --skip AllocationTests --skip HotPathTests --skip ResourceTests --skip idleCostsNothing --skip ToolTests
  --skip TidinessTests --skip manyWithoutOpening --skip NBDQueueTests --skip StormTests
  --skip MutationTests)

swift build --build-tests "${options[@]}" || exit 1
log=.build/sanitizer-output.txt
# A fault is the kernel's business; a report does not end the run but counts at its end.
TSAN_OPTIONS="handle_segv=0 ${TSAN_OPTIONS:-}" \
  swift test --skip-build --disable-xctest "${options[@]}" "${skips[@]}" "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
races=$(grep -c 'WARNING: ThreadSanitizer' "$log")
echo "$races races"
[ "$status" = 0 ] && [ "$races" = 0 ]
