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

/// ibv_query_gid_ex(3): 0 or an errno.
static inline int fabric_verbs_gid(struct ibv_context *context, uint32_t port, uint32_t index,
                                   struct ibv_gid_entry *entry) {
  return ibv_query_gid_ex(context, port, index, entry, 0);
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

// MARK: Addresses, as HOST bytes (4 or 16) and a port

static inline struct sockaddr_storage fabric_rdma_address(const uint8_t *host, int length,
                                                          uint16_t port) {
  struct sockaddr_storage result = {0};
  if (length == 4) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    memcpy(&v4.sin_addr, host, 4);
    memcpy(&result, &v4, sizeof v4);
  } else {
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&v6.sin6_addr, host, 16);
    memcpy(&result, &v6, sizeof v6);
  }
  return result;
}

/// rdma_bind_addr(3): 0, or -1 with errno set.
static inline int fabric_rdma_bind(struct rdma_cm_id *id, const uint8_t *host, int length,
                                   uint16_t port) {
  struct sockaddr_storage address = fabric_rdma_address(host, length, port);
  return rdma_bind_addr(id, (struct sockaddr *)&address);
}

/// rdma_resolve_addr(3): 0, or -1 with errno set.
static inline int fabric_rdma_resolve(struct rdma_cm_id *id, const uint8_t *host, int length,
                                      uint16_t port, int milliseconds) {
  struct sockaddr_storage address = fabric_rdma_address(host, length, port);
  return rdma_resolve_addr(id, NULL, (struct sockaddr *)&address, milliseconds);
}

/// The peer's address as text, HOST:PORT; at most `room` bytes with the end.
static inline void fabric_rdma_peer(struct rdma_cm_id *id, char *text, size_t room) {
  char host[INET6_ADDRSTRLEN] = "?";
  const struct sockaddr *peer = rdma_get_peer_addr(id);
  if (peer->sa_family == AF_INET)
    inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, host, sizeof host);
  else
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)peer)->sin6_addr, host, sizeof host);
  snprintf(text, room, peer->sa_family == AF_INET ? "%s:%d" : "[%s]:%d", host,
           ntohs(rdma_get_dst_port(id)));
}

/// The port that an id is bound to.
static inline uint16_t fabric_rdma_port(struct rdma_cm_id *id) {
  return ntohs(rdma_get_src_port(id));
}

/// Makes a descriptor's reads return at once: 0, or -1 with errno set.
static inline int fabric_verbs_unblock(int descriptor) {
  int flags = fcntl(descriptor, F_GETFL);
  return flags < 0 ? -1 : fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}
