#include "virtual_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static __thread uint64_t now __attribute__((tls_model("initial-exec")));

void fabric_virtual_clock_set(uint64_t nanoseconds) { now = nanoseconds; }

// The thread sanitizer has a clock_gettime of its own; with it time is the machine's.
#if !__has_feature(thread_sanitizer)

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock == CLOCK_MONOTONIC && now != 0) {
    time->tv_sec = (time_t)(now / 1000000000u);
    time->tv_nsec = (long)(now % 1000000000u);
    return 0;
  }
  return (int)syscall(SYS_clock_gettime, clock, time);
}

#endif
