import Foundation

/// What a drill does on a device: a file system, data that is verified, again and again for so many seconds, a copy
/// of a tree, and a check of it all.
///
/// Where fio goes by time it begins a file anew while requests are under way, so that two of them may be
/// for the same blocks, whose order is nobody's: hence one fio after the other.
struct FileSystemWork {
  /// ext4 or xfs.
  let kind: String
  let device: String
  let seconds: Int

  /// To be run in a directory of the test's, by bash with `set -e`.
  var script: String {
    """
    mkfs.\(kind) -q \(device); mkdir -p mnt; mount \(device) mnt
    until [ $SECONDS -ge \(seconds) ]; do
      fio --name=verified --directory=mnt --rw=randrw --bs=4k --size=16m --numjobs=3 --iodepth=8 \
        --ioengine=libaio --direct=1 --verify=crc32c >fio.out
    done
    cp -a \(Self.sources) mnt/copy; sync -f mnt; echo 3 >/proc/sys/vm/drop_caches
    diff -r \(Self.sources) mnt/copy
    umount mnt
    \(kind == "xfs" ? "xfs_repair -n \(device) 2>/dev/null" : "fsck.ext4 -fn \(device)") >/dev/null
    """
  }

  private static let sources = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Sources/FabricVerbs")
    .path
}
