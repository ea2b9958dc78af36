#!/usr/bin/env bash
# Builds, serves a volume file from one process, uses it from another over shared memory, and shows
# what came out. A second run is quick. Results lie in .build/quickstart.
#
# It takes no arguments. What it needs: a Swift toolchain of 6.2 or later, and on Debian the packages
# that it names when they are missing; as root it installs them.
set -euo pipefail
case "${1-}" in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  "") ;;
  *) echo "error: expected no arguments, got \"$1\"; --help says what this does" >&2; exit 64 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/packages
need_packages liburing-dev
want_packages liburcu-dev fio gnuplot-nox
need_swift

echo "== building (the first time takes a few minutes)"
swift build -c release --product iounit
swift build -c release --product iohost
bin=$(swift build -c release --show-bin-path)

results=.build/quickstart
mkdir -p "$results"
work=$(mktemp -d)
unit=
finish() {
  if [ -n "$unit" ]; then
    kill "$unit" 2>/dev/null || true
    wait "$unit" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "== looking at this machine"
"$bin/iohost" doctor

echo "== starting an I/O unit over a volume file and a memory volume"
mkfifo "$work/ready"
"$bin/iounit" serve --volume "disk=$work/disk.img,size=256MiB,preallocate" \
  --volume memory=memory,size=256MiB --listen "shm:$work/unit.sock" \
  >"$work/ready" 2>"$work/unit.log" &
unit=$!
if ! read -r line <"$work/ready"; then
  cat "$work/unit.log" >&2
  exit 69
fi
echo "$line"
url="fabric+shm://$work/unit.sock"
"$bin/iohost" discover "$url"

echo "== writing a pattern that describes itself, twice, and reading it back"
"$bin/iohost" verify "$url/disk" --passes 2
"$bin/iohost" verify "$url/memory" --size 128MiB

echo "== copying an image in and out, and comparing"
head -c 64M /dev/urandom >"$work/image"
"$bin/iohost" copy "$work/image" "$url/memory" --verify
"$bin/iohost" copy "$url/disk" "$work/back" --verify

echo "== measuring"
table="$results/table.txt"
data="$results/depth.dat"
printf '%-8s %-10s %6s %12s %10s %10s\n' volume pattern depth per-second p50-us p99-us | tee "$table"
: >"$data"
field() { sed -E "s/.*\"$1\": ([0-9.]+).*/\1/"; }
measure() {
  local json
  json=$("$bin/iohost" bench "$url/$1" --pattern "$2" --depth "$3" --seconds 0.5 --json)
  [ "$(field errors <<<"$json")" = 0 ] || { echo "error: requests failed: $json" >&2; exit 74; }
  printf '%-8s %-10s %6s %12.0f %10.2f %10.2f\n' "$1" "$2" "$3" "$(field iops <<<"$json")" \
    "$(field p50 <<<"$json")" "$(field p99 <<<"$json")" | tee -a "$table"
}
for volume in memory disk; do
  for depth in 1 4 16 32 64; do measure "$volume" randread "$depth"; done
  measure "$volume" randwrite 32
done
awk '$2 == "randread" { print $1, $3, $4, $5 }' "$table" >"$data"
echo "table: $table"

if command -v gnuplot >/dev/null; then
  gnuplot <<PLOT
set terminal svg size 800,500 background "white"
set output "$results/depth.svg"
set title "Random reads of 4 KiB over shared memory"
set xlabel "requests in flight"
set ylabel "reads per second"
set logscale xy
set key left top
plot "< grep memory $data" using 2:3 with linespoints title "memory volume", \
     "< grep disk $data" using 2:3 with linespoints title "file volume"
PLOT
  echo "plot: $results/depth.svg"
else
  echo "no plot: gnuplot is missing; to add it: apt-get install gnuplot-nox"
fi
echo "== done: everything that was written was read back as it was"
