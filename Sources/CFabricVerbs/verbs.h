// libibverbs and librdmacm, and what of them Swift cannot reach by itself: calls that are macros, and
// constants of other types. Each function is one call with no policy of its own.
#pragma once

// The C library's headers come through the other module, so that its types have one definition.
#include "../CFabricLinux/linux.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <net/if.h>
#include <netinet/in.h>
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

/// ibv_query_gid_table(3): how many, or a negated errno.
static inline long fabric_verbs_gids(struct ibv_context *context, struct ibv_gid_entry *entries,
                                     size_t capacity) {
  return (long)ibv_query_gid_table(context, entries, capacity, 0);
}

/// The bytes of a socket address's host, 4 or 16 of them, or none of another family.
static inline int fabric_ip_bytes(const struct sockaddr *address, uint8_t *bytes) {
  if (!address) return 0;
  if (address->sa_family == AF_INET) {
    memcpy(bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    return 4;
  }
  if (address->sa_family != AF_INET6) return 0;
  memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
  return 16;
}
