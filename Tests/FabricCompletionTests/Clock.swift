import CFabricLinux
import FabricPlatform

/// Lets real time pass where the passing is what is tested.
func pause(milliseconds: Int) {
  var time = timespec(
    tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000)
  _ = unsafe nanosleep(&time, nil)
}

/// Processor time that this process has used, in nanoseconds.
func processorTime() -> UInt64 {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Processor time that the calling thread has used, in nanoseconds.
func threadTime() -> UInt64 {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
