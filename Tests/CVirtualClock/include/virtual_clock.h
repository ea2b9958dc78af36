// A monotonic clock that stands still on a thread until it is told to go on: for tests whose every run is to be the same.
#pragma once

#include <stdint.h>

/// From here on CLOCK_MONOTONIC of this thread has this many nanoseconds; 0: the machine's again.
void fabric_virtual_clock_set(uint64_t nanoseconds);
