// libnuma, and what of it Swift cannot reach by itself. It complains of some failures on the standard error, so
// that nothing is asked of it that its kernel has not said to have.
#pragma once

// The C library's headers come through the other module, so that its types have one definition.
#include "../CFabricLinux/linux.h"

#include <numa.h>
#include <numaif.h>

/// numa_num_configured_nodes(3): how many nodes there are; 0 where the kernel knows nothing of nodes.
static inline int fabric_numa_node_count(void) {
  return numa_available() < 0 ? 0 : numa_num_configured_nodes();
}

/// mbind(2), preferred: pages that nobody has touched yet come from `node`, while it has some. 0, or -1 with
/// errno set.
static inline long fabric_numa_prefer(void *address, size_t length, int node) {
  struct bitmask *nodes = numa_allocate_nodemask();
  numa_bitmask_setbit(nodes, (unsigned)node);
  long result = mbind(address, length, MPOL_PREFERRED, nodes->maskp, nodes->size + 1, 0);
  int error = errno;
  numa_bitmask_free(nodes);
  errno = error;
  return result;
}

/// sched_setaffinity(2) of the calling thread: to those of the processors that it may run on that are of `node`. 0,
/// or -1 with errno set; ENODEV where there is none.
static inline int fabric_numa_run_on(int node) {
  struct bitmask *near = numa_allocate_cpumask(), *allowed = numa_allocate_cpumask();
  int result = -1, error = ENODEV;
  if (numa_node_to_cpus(node, near) == 0 && numa_sched_getaffinity(0, allowed) > 0) {
    for (unsigned cpu = 0; cpu < near->size; cpu++)
      if (!numa_bitmask_isbitset(allowed, cpu)) numa_bitmask_clearbit(near, cpu);
    if (numa_bitmask_weight(near) > 0) {
      result = numa_sched_setaffinity(0, near);
      error = errno;
    }
  }
  numa_bitmask_free(near);
  numa_bitmask_free(allowed);
  errno = error;
  return result < 0 ? -1 : 0;
}

/// get_mempolicy(2): the node that the page at an address lies on, which is touched for that; -1 with errno set.
static inline int fabric_numa_node_of(void *address) {
  int node = -1;
  return get_mempolicy(&node, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR) < 0 ? -1 : node;
}

/// mmap(2) flags for private memory of huge pages of 2 MiB.
static const int fabric_map_huge = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << 26);

/// madvise(2) MADV_POPULATE_WRITE, since Linux 5.14: every page now, or an error and no signal later.
static inline int fabric_populate(void *address, size_t length) {
  return madvise(address, length, 23);
}
