// libibverbs and librdmacm, and what of them Swift cannot reach by itself: calls that are macros, and
// constants of other types. Each function is one call with no policy of its own.
#pragma once

// The C library's headers come through the other module, so that its types have one definition.
#include "../CFabricLinux/linux.h"

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

/// ibv_get_device_list(3): NULL with errno set on failure.
static inline struct ibv_device **fabric_verbs_devices(int *count) {
  return ibv_get_device_list(count);
}

/// ibv_query_port(3): 0 or an errno.
static inline int fabric_verbs_query_port(struct ibv_context *context, uint8_t port,
                                          struct ibv_port_attr *attributes) {
  return ibv_query_port(context, port, attributes);
}

/// ibv_reg_mr(3): NULL with errno set on failure.
static inline struct ibv_mr *fabric_verbs_register(struct ibv_pd *domain, void *address,
                                                   size_t length, int access) {
  return ibv_reg_mr(domain, address, length, access);
}
