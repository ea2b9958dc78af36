#!/usr/bin/env bash
# Builds, serves a volume file from one process, uses it from another over shared memory and over TCP,
# and shows what came out. A second run is quick. Results lie in .build/quickstart.
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
need_packages liburing-dev libibverbs-dev librdmacm-dev libnuma-dev libfuse3-dev
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
  --volume memory=memory,size=256MiB --listen "shm:$work/unit.sock" --listen tcp:127.0.0.1:0 \
  >"$work/ready" 2>"$work/unit.log" &
unit=$!
if ! read -r line <"$work/ready"; then
  cat "$work/unit.log" >&2
  exit 69
fi
echo "$line"
shm="fabric+shm://$work/unit.sock"
tcp="fabric+tcp://${line##*tcp:}"
"$bin/iohost" discover "$shm"
"$bin/iohost" discover "$tcp"

echo "== writing a pattern that describes itself, twice, and reading it back"
"$bin/iohost" verify "$shm/disk" --passes 2
"$bin/iohost" verify "$tcp/disk" --read-only --generation 2
"$bin/iohost" verify "$tcp/memory" --size 128MiB

echo "== copying an image in and out, and comparing"
head -c 64M /dev/urandom >"$work/image"
"$bin/iohost" copy "$work/image" "$tcp/memory" --verify
"$bin/iohost" copy "$shm/memory" "$work/back" --verify
cmp -n 67108864 "$work/image" "$work/back"

echo "== measuring"
table="$results/table.txt"
data="$results/depth.dat"
printf '%-6s %-8s %-10s %6s %12s %10s %10s\n' \
  fabric volume pattern depth per-second p50-us p99-us | tee "$table"
: >"$data"
field() { sed -E "s/.*\"$1\": ([0-9.]+).*/\1/"; }
measure() {
  local json url=$shm
  [ "$1" = tcp ] && url=$tcp
  json=$("$bin/iohost" bench "$url/$2" --pattern "$3" --depth "$4" --seconds 0.5 --json)
  [ "$(field errors <<<"$json")" = 0 ] || { echo "error: requests failed: $json" >&2; exit 74; }
  printf '%-6s %-8s %-10s %6s %12.0f %10.2f %10.2f\n' "$1" "$2" "$3" "$4" \
    "$(field iops <<<"$json")" "$(field p50 <<<"$json")" "$(field p99 <<<"$json")" | tee -a "$table"
}
for fabric in shm tcp; do
  for volume in memory disk; do
    for depth in 1 4 16 32 64; do measure "$fabric" "$volume" randread "$depth"; done
    measure "$fabric" "$volume" randwrite 32
  done
done
awk '$3 == "randread" { print $1 "-" $2, $4, $5, $6 }' "$table" >"$data"
echo "table: $table"

if command -v gnuplot >/dev/null; then
  gnuplot <<PLOT
set terminal svg size 800,500 background "white"
set output "$results/depth.svg"
set title "Random reads of 4 KiB"
set xlabel "requests in flight"
set ylabel "reads per second"
set logscale xy
set key left top
plot "< grep shm-memory $data" using 2:3 with linespoints title "memory volume, shared memory", \
     "< grep shm-disk $data" using 2:3 with linespoints title "file volume, shared memory", \
     "< grep tcp-memory $data" using 2:3 with linespoints title "memory volume, TCP", \
     "< grep tcp-disk $data" using 2:3 with linespoints title "file volume, TCP"
PLOT
  echo "plot: $results/depth.svg"
else
  echo "no plot: gnuplot is missing; to add it: apt-get install gnuplot-nox"
fi
echo "== done: everything that was written was read back as it was"
