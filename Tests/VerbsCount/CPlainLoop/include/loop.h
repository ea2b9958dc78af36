// The plain C loop that our adapter is counted against, on the same verbs.
#pragma once

#include <stddef.h>

/// Writes `count` messages of 64 bytes to a second queue pair of the same device, `batch` with one doorbell, each with a
/// completion, and takes these. Returns how many came; fewer than `count` when something failed, errno says what.
size_t plain_loop(size_t count, size_t batch);
