import Foundation
import TestSupport
import Testing

@Suite(
  "iohost attach --as loop: a device of the kernel's", .serialized, .timeLimit(.minutes(10)),
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)))
struct LoopDeviceTests {
  @Test(
    "HD-11, HD-17: what is written to the device is what the unit has, and back; sizes are the volume's",
    arguments: [(false, 4096), (false, 512), (true, 4096)])
  func raw(isOverTCP: Bool, block: Int) throws {
    let place = try LoopPlace(
      "disk=%/d.img,size=64MiB,block=\(block)",
      isOverTCP: isOverTCP)
    let device = try place.attach("disk")
    let queue = "/sys/block/\(device.dropFirst(5))/queue"
    let facts = try place.shell(
      """
      blockdev --getsize64 \(device)
      cat \(queue)/logical_block_size \(queue)/rotational \(queue)/write_cache
      cat /sys/block/\(device.dropFirst(5))/loop/dio
      [ $(cat \(queue)/discard_max_bytes) -gt 1000000 ] && echo discards
      [ $(cat \(queue)/write_zeroes_max_bytes) -gt 1000000 ] && echo zeroes
      """)
    #expect(
      facts == ["\(64 << 20)", "\(block)", "0", "write back", "1", "discards", "zeroes"])
    try place.shell(
      """
      head -c 20000000 /dev/urandom >part; truncate -s 19M part; head -c 19M part >in
      dd if=in of=\(device) bs=1M seek=7 oflag=direct conv=fsync status=none
      $bin/iohost read \(place.url("disk")) --block \(7 * 1024 * 1024 / block) \
        --count \(19 * 1024 * 1024 / block) --output there
      cmp in there
      head -c \(block * 16) /dev/urandom >blocks
      $bin/iohost write \(place.url("disk")) --block 3 --input blocks
      dd if=\(device) of=back bs=\(block) skip=3 count=16 iflag=direct status=none
      cmp blocks back
      """)
    let status = try place.status()
    #expect(status["blockByteCount"] as? Int == block)
    #expect(status["errors"] as? Int == 0)
    #expect((status["writeBytes"] as? Int ?? 0) >= 19 << 20)
    let detach = try place.host("detach", device)
    #expect(detach.waitForEnd() == 0, "\(detach.errors)")
    #expect(detach.output == ["detached \(device)"])
  }

  @Test("HD-16: fsync is a flush, and a write with O_DSYNC reaches the unit as one")
  func flush() throws {
    let place = try LoopPlace("disk=memory,size=8MiB")
    let device = try place.attach("disk")
    let before = try #require(try place.status()["flushes"] as? Int)
    try place.shell(
      "dd if=/dev/zero of=\(device) bs=4k count=4 oflag=direct conv=fsync status=none")
    let after = try #require(try place.status()["flushes"] as? Int)
    #expect(after > before)
    let file = try #require(try place.status()["file"] as? String)
    try place.shell("dd if=/dev/zero of=\(file) bs=4k count=4 oflag=direct,dsync conv=notrunc")
    #expect(try place.status()["errors"] as? Int == 0)
  }

  @Test("HD-13: the file takes whole blocks, and ends where the volume ends")
  func wholeBlocks() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    _ = try place.attach("disk")
    let file = try #require(try place.status()["file"] as? String)
    let raw = try #require(RawFile(file))
    #expect(raw.read(100, at: 0) == .failed(EINVAL))
    #expect(raw.read(4096, at: 512) == .failed(EINVAL))
    #expect(raw.write(7, count: 4095, at: 0) == .failed(EINVAL))
    let end = 1 << 20
    #expect(raw.write(7, count: 8192, at: end - 4096) == .failed(ENOSPC))
    #expect(raw.write(7, count: 4096, at: end - 4096) == .done(4096))
    #expect(raw.write(9, count: 16384, at: 0) == .done(16384))
    #expect(raw.read(16384, at: end - 4096) == .done(4096))
    #expect(raw[0] == 7 && raw[4095] == 7 && raw[4096] == 9)
    #expect(raw.read(4096, at: end) == .done(0))
  }

  @Test("HD-14: a unit's errors are the device's: the medium's, and a full disk's")
  func errors() throws {
    let place = try LoopPlace(
      "bad=memory,size=1MiB,fault=error=read:mediaReadError:nth=1",
      "full=memory,size=1MiB,fault=error=write:capacityExceeded:nth=1")
    let bad = try #require(RawFile(try place.attach("bad"), isDirect: true))
    #expect(bad.read(4096, at: 0) == .failed(ENODATA))
    #expect(bad.read(4096, at: 0) == .done(4096))
    let full = try #require(RawFile(try place.attach("full"), isDirect: true))
    #expect(full.write(1, count: 4096, at: 0) == .failed(ENOSPC))
    #expect(full.write(1, count: 4096, at: 0) == .done(4096))
  }

  @Test("HD-15: discards and zeroes reach the unit, give space back, and read as zeroes")
  func discards() throws {
    let place = try LoopPlace("disk=%/d.img,size=32MiB")
    let image = place.file("d.img")
    let device = try place.attach("disk")
    let sizes = try place.shell(
      """
      head -c 32M /dev/urandom | dd of=\(device) bs=1M iflag=fullblock oflag=direct status=none
      du -k \(image) | cut -f 1
      blkdiscard -o 4M -l 8M \(device); du -k \(image) | cut -f 1
      dd if=\(device) bs=1M skip=4 count=8 iflag=direct status=none | tr -d '\\0' | wc -c
      blkdiscard -z -o 16M -l 8M \(device)
      dd if=\(device) bs=1M skip=16 count=8 iflag=direct status=none | tr -d '\\0' | wc -c
      dd if=\(device) bs=1M skip=12 count=4 iflag=direct status=none | cmp - /dev/zero >&2 && exit 1
      echo kept
      """)
    try #require(sizes.count == 5, "\(sizes)")
    let (full, less) = (try #require(Int(sizes[0])), try #require(Int(sizes[1])))
    #expect(full - less >= 8000, "\(sizes)")
    #expect(sizes[2...].map { $0 } == ["0", "0", "kept"])
    #expect((try place.status()["zeroings"] as? Int ?? 0) >= 2)
  }

  @Test("HD-10, HD-12: more than fits at once, longer than the unit takes: all of it comes right")
  func pressure() throws {
    let place = try LoopPlace("disk=memory,size=192MiB,fault=delay=2ms")
    let device = try place.attach("disk")
    try place.shell(
      """
      fio --name=v --filename=\(device) --rw=randwrite --bs=4k-1M --bsrange=4k-1M --size=64M \
        --offset_increment=64M --numjobs=3 --ioengine=libaio --iodepth=64 --direct=1 \
        --verify=crc32c --verify_fatal=1 --group_reporting
      """, limit: 120)
    let status = try place.status()
    #expect(status["errors"] as? Int == 0)
    #expect((status["writeBytes"] as? Int ?? 0) >= 190 << 20)
    #expect(status["inFlight"] as? Int == 0)
  }

  @Test(
    "HD-17: a volume that may only be read is a device that may only be read; so is --read-only")
  func readOnly() throws {
    let place = try LoopPlace("r=memory,size=1MiB,readonly", "w=memory,size=1MiB")
    let refused = try place.host("attach", place.url("r"))
    #expect(refused.waitForEnd() == 77)
    #expect(refused.errors.last?.contains("--read-only") == true, "\(refused.errors)")
    for volume in ["r", "w"] {
      let device = try place.attach(volume, "--read-only")
      #expect(try place.shell("blockdev --getro \(device)") == ["1"])
      #expect(RawFile(device)?.write(1, count: 4096, at: 0).error ?? EACCES != 0)
      #expect(try place.host("detach", volume).waitForEnd() == 0)
    }
    try place.expectNothingLeft(of: [])
  }
}
