#!/usr/bin/env bash
# Fuzzes what reads bytes of peers, with libFuzzer under the address sanitizer, as many targets at
# once as there are processors.
#
#   Tests/fuzz.sh SECONDS [NAME]   each target, or the one named, for so many seconds
#
# Begins with the inputs in Tests/Fuzz/Corpus and those that earlier runs have added to
# .build/fuzz/corpus. Ends with 0 when nothing was found, with 1 and the way to repeat it when
# something was, and with 77 when this machine cannot.
case ${1:-} in
-h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 70
. .ci/packages
need_swift

seconds=${1:-}
case $seconds in
'' | *[!0-9]* | 0) echo "error: expected a number of seconds, got '$seconds'; try: Tests/fuzz.sh 60" >&2; exit 64 ;;
esac

resources=$(swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
library="$resources/clang/lib/linux/libclang_rt.fuzzer_no_main-$(uname -m).a"
if [ ! -e "$library" ]; then
  echo "note: expected libFuzzer at $library, found none; a toolchain of swift.org has it" >&2
  exit 77
fi
# The program has a main of its own: what `-sanitize=fuzzer` adds is its coverage alone. The system's
# linker may not know what the sanitizer asks for; the toolchain's does.
FABRIC_FUZZ=1 swift build -c release --product Fuzz --scratch-path .build/fuzz \
  -Xswiftc -enable-testing -Xswiftc -sanitize=address \
  -Xswiftc -sanitize-coverage=edge,trace-cmp,inline-8bit-counters,pc-table \
  -Xswiftc -use-ld=lld -Xlinker "$library" || exit 1

export program=.build/fuzz/release/Fuzz seconds
targets=$("$program" --list)
if [ -n "${2:-}" ]; then
  printf '%s\n' "$targets" | grep -qxF -- "$2" ||
    { echo "error: expected one of" $targets", got '$2'" >&2; exit 64; }
  targets=$2
fi

fuzz() {
  local name=$1 folder=.build/fuzz
  local log=$folder/$name.log
  mkdir -p "$folder/corpus/$name" "$folder/findings"
  if FUZZ_TARGET=$name SWIFT_BACKTRACE=enable=no "$program" -max_total_time="$seconds" -timeout=10 \
    -use_value_profile=1 -detect_leaks=0 -artifact_prefix="$folder/findings/$name-" \
    "$folder/corpus/$name" "Tests/Fuzz/Corpus/$name" >"$log" 2>&1; then
    echo "fuzz $name: passed, $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log") inputs"
    return 0
  fi
  grep -aE 'Fatal error|ERROR: |SUMMARY: |DEDUP_TOKEN' "$log" | head -3
  local input
  input=$(sed -n 's/.*Test unit written to \(.*\)/\1/p' "$log" | tail -1)
  echo "fuzz $name: failed; to repeat: FUZZ_TARGET=$name $program ${input:-, see $log}"
  return 1
}
export -f fuzz

# Each line of the list is one argument of one call.
printf '%s\n' "$targets" | xargs -P "$(nproc)" -I NAME bash -c 'fuzz NAME'
