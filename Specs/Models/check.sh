#!/usr/bin/env bash
# Checks the models with spin, where it is installed: each must hold, and each weakened variant must
# fail. Ends with 77 when spin or a C compiler is missing.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 70
models=$PWD
compiler=$(command -v cc || command -v gcc || command -v clang)
if ! command -v spin >/dev/null || [ -z "$compiler" ]; then
  echo "skipped: the models need spin and a C compiler; install spin and gcc" >&2
  exit 77
fi
scratch=$(mktemp -d) || exit 70
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 70

# verify MODEL DEFINE...: prints the number of errors that the verifier found.
verify() {
  rm -f pan* ./*.trail
  spin -a "${@:2}" "$models/$1" >spin.txt 2>&1 || { cat spin.txt >&2; return 70; }
  "$compiler" -O1 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c || return 70
  ./pan -m100000 >pan.txt 2>&1
  grep -q 'max search depth too small' pan.txt && { echo "error: search too shallow" >&2; return 70; }
  sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.txt
}

failed=0
expect() {
  local wanted=$1 got
  shift
  got=$(verify "$@") || exit 70
  if { [ "$wanted" = holds ] && [ "$got" = 0 ]; } || { [ "$wanted" = fails ] && [ "${got:-0}" -gt 0 ]; }; then
    echo "$*: $wanted, as it should"
  else
    echo "error: $* should be seen to: $wanted; the verifier found ${got:-no} errors" >&2
    grep -E 'pan:|assertion|invalid end' pan.txt >&2
    failed=1
  fi
}
expect holds Gate.pml
expect fails Gate.pml -DNO_BARRIER
expect fails Gate.pml -DNO_ATTEMPTS
exit "$failed"
