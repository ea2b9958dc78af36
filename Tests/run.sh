#!/usr/bin/env bash
# Runs every test that this machine can run. What was skipped, and why, is the last word but one.
# Arguments go to `swift test`, for example `--filter Storage`.
case ${1:-} in
-h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 70
. .ci/packages
need_packages liburing-dev libibverbs-dev librdmacm-dev libnuma-dev libfuse3-dev
want_packages iperf3 dnsmasq-base udhcpc busybox iputils-ping liburcu-dev strace tshark libnbd-bin python3-libnbd qemu-utils fio nbdkit nbd-client e2fsprogs xfsprogs
need_swift

failed_steps=0
step() {
  local start=$SECONDS
  echo "== $*"
  "$@" && { echo "== $1 took $((SECONDS - start)) s"; return 0; }
  echo "== failed: $*"
  failed_steps=$((failed_steps + 1))
  return 1
}

step swift format lint --strict --recursive --parallel Package.swift Sources Tests \
  "$([ -d Samples ] && echo Samples || echo Tests)"

models() {
  Specs/Models/check.sh
  local status=$?
  [ "$status" = 77 ] && { models_skipped="the models: spin or a C compiler is missing"; return 0; }
  return "$status"
}
models_skipped=
step models

log=.build/test-output.txt
mkdir -p .build
built=
if step swift build --build-tests; then
  built=1
  echo "== swift test $*"
  swift test --skip-build "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
else
  echo "error: the build failed; no test ran" | tee "$log"
  status=1
fi

# What users run is a release build, whose compiler sees more at once. Times of the guest's are its, too.
releasing() {
  local product
  for product in iounit iohost fabperf fabconform VerbsPing; do swift build -c release --product $product || return 1; done
}
[ $# = 0 ] && [ -n "$built" ] && step releasing

# What needs a kernel with modules, such as those of RDMA, runs in a guest that has one.
guest_suite() {
  local status
  Tests/Guest/suite 2>&1 | tee "$guest_log"
  status=${PIPESTATUS[0]}
  case $status in
  0) ;;
  77) guest_skipped="the guest suite: $(sed -n 's/^guest: skipped: //p' "$guest_log" | tail -n 1)" ;;
  # What failed in it is counted one by one.
  *) grep -qaE '^guest [a-z]+: failed' "$guest_log" || return "$status" ;;
  esac
  return 0
}
guest_skipped=
guest_log=.build/guest-output.txt
: > "$guest_log"
[ $# = 0 ] && [ -n "$built" ] && step guest_suite

# Without arguments, which choose tests, the libraries' tests also run under the thread sanitizer.
sanitized_log=.build/sanitizer-output.txt
: > "$sanitized_log"
[ $# = 0 ] && step Tests/sanitize.sh

# And what reads bytes of peers gets bytes that nobody thought of, each part for a short while.
fuzzing() {
  local status
  Tests/fuzz.sh 6 | tee "$fuzz_log"
  status=${PIPESTATUS[0]}
  [ "$status" = 77 ] && { fuzz_skipped="the fuzzers: this toolchain has no libFuzzer"; return 0; }
  return "$status"
}
fuzz_skipped=
fuzz_log=.build/fuzz-output.txt
: > "$fuzz_log"
[ $# = 0 ] && step fuzzing

# What a message costs in instructions, where no machine's speed matters.
counting() {
  local status
  Tests/count.sh 2>&1 | tee "$count_log"
  status=${PIPESTATUS[0]}
  [ "$status" = 77 ] && { count_skipped="the count of instructions: valgrind or a C compiler is missing"; return 0; }
  return "$status"
}
count_skipped=
count_log=.build/count-output.txt
: > "$count_log"
[ $# = 0 ] && step counting

# One line for the end of each test, as Swift Testing prints them; a suite's and the run's own
# lines begin otherwise. A name may hold anything, hence the anchors at both ends.
ended() {
  grep -haE "^[^[:alnum:]]+ Test (case )?.* $1" "$log" "$guest_log" | grep -avcE '^[^[:alnum:]]+ Test (run|case) '
}
# And one for each check of the guest, each fuzzer and the count. The check that runs Swift tests is those tests.
checked() { grep -haE "^(guest|fuzz|count) [a-z0-9-]+: $1" "$guest_log" "$fuzz_log" "$count_log" | grep -avc '^guest swift: passed'; }
passed=$(($(ended 'passed after [0-9.]+ seconds') + $(checked passed)))
failed=$(($(ended 'failed after [0-9.]+ seconds') + $(grep -aE '^guest [a-z-]+: failed' "$guest_log" | grep -avc '^guest swift')))
# It counts for itself where it failed without one of them.
if grep -qa '^guest swift: failed' "$guest_log" && ! grep -qaE '^[^[:alnum:]]+ Test .* failed after' "$guest_log"; then
  failed=$((failed + 1))
fi
skips=$(grep -haE '^[^[:alnum:]]+ (Test|Suite) .* skipped(:|\.|$)' "$log" "$guest_log" | sed -E 's/^[^[:alnum:]]+ //')
# Those that only the guest has were not skipped where it ran them.
if grep -qa '^guest swift: ' "$guest_log"; then skips=$(grep -v ': "runs in the guest' <<< "$skips"); fi
guest_skips=$(sed -nE 's/^guest ([a-z-]+): skipped: /the guest check \1: /p' "$guest_log")
for words in "$models_skipped" "$guest_skipped" "$guest_skips" "$fuzz_skipped" "$count_skipped"; do
  [ -n "$words" ] && skips=${skips:+$skips$'\n'}$words
done
skipped=$(printf '%s' "$skips" | grep -c '^')

none_ran=
if [ "$status" != 0 ] && ! grep -qaE '^[^[:alnum:]]+ Test run with ' "$log"; then
  echo "error: the test run ended with status $status before its tests did"
  failed=$((failed + 1))
elif [ "$status" != 0 ] && [ "$failed" = 0 ]; then
  echo "error: the test run ended with status $status, and no test that failed"
  failed=1
elif [ "$status" = 0 ] && [ "$passed" = 0 ]; then
  none_ran="no test's name has what was asked for: $*"
  failed=1
fi
failed=$((failed + failed_steps))

# What went wrong once more, where it is easily found: at the end.
wrong=$(grep -ahE '^✘ Test .* recorded an issue|: (failed|crash)' "$log" "$guest_log" "$sanitized_log" "$fuzz_log" "$count_log" 2> /dev/null)
echo
if [ -n "$wrong" ]; then echo "Failed:"; printf '%s\n' "$wrong" | sed 's/^/  /'; fi
if [ -n "$skips" ]; then echo "Skipped:"; printf '  %s\n' "$skips"
elif [ "$passed" != 0 ]; then echo "Nothing was skipped."; fi
if [ -n "$none_ran" ]; then echo "No test ran: $none_ran"; exit 1; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
