// Counts the calling thread's allocations, by standing in for the C library's allocator.
#pragma once
#include <stdint.h>

/// Allocations of the calling thread since its start.
uint64_t fabric_allocation_count(void);
