#!/usr/bin/env bash
# Counts the instructions of a message through the RDMA adapter, its post and its completion, beside a plain C loop's on the
# same verbs, over a device of no kernel whose share is in both. Wants valgrind and a C compiler; ends with 77 when it cannot
# count here, and with 1 when a message takes more instructions than it may.
#
# The counts are of the release build, and the same in every run.
case ${1:-} in
-h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 70
. .ci/packages
want_packages valgrind
need_swift
compiler=$(command -v cc || command -v clang || true)
command -v valgrind > /dev/null && [ -n "$compiler" ] || { echo "count: skipped: valgrind or a C compiler is missing"; exit 77; }

swift build -c release --product VerbsCount
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$compiler" -O2 -shared -fPIC -o "$work/stub.so" Tests/VerbsCount/StubDevice/*.c
# Valgrind cannot read what Swift says for debuggers.
strip -g -o "$work/count" .build/release/VerbsCount

# total ours|plain MESSAGES AT-ONCE: instructions of a whole run.
total() {
  LD_PRELOAD=$work/stub.so valgrind --tool=callgrind --callgrind-out-file=/dev/null \
    "$work/count" "$1" "$2" "$3" 127.0.0.1:1 > "$work/output" 2>&1 || { cat "$work/output" >&2; return 1; }
  sed -n 's/.*Collected : \([0-9]*\)$/\1/p' "$work/output"
}

# each ours|plain AT-ONCE: those of one message more, which leaves out the start and the end.
each() { echo $((($(total "$1" 6000 "$2") - $(total "$1" 1000 "$2")) / 5000)); }

failed=0
# at_once AT-ONCE LIMIT
at_once() {
  local ours plain
  ours=$(each ours "$1")
  plain=$(each plain "$1")
  echo "count: $1 at once: ours $ours, a plain C loop $plain instructions a message"
  [ "$ours" -le "$2" ] || { echo "count: failed: expected at most $2" >&2; failed=1; }
}
at_once 1 560
at_once 16 235
[ "$failed" = 0 ] && echo "count verbs: passed"
exit "$failed"
