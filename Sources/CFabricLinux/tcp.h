// TCP sockets: calls that Swift cannot reach by itself. Each function is one call, or one option, with
// no logic of its own.
#pragma once

// The C library's headers come through this one, so that its types have one definition.
#include "linux.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

/// An address of either family, as the kernel takes it.
struct fabric_internet_address {
  uint8_t bytes[sizeof(struct sockaddr_in6)];
};

static const int fabric_family_v4 = AF_INET;
static const int fabric_family_v6 = AF_INET6;

static inline struct fabric_internet_address fabric_make_address_v4(const uint8_t *host,
                                                                    uint16_t port) {
  struct fabric_internet_address result = {{0}};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  memcpy(&address.sin_addr, host, 4);
  memcpy(&result, &address, sizeof address);
  return result;
}

static inline struct fabric_internet_address fabric_make_address_v6(const uint8_t *host,
                                                                    uint16_t port,
                                                                    uint32_t scope) {
  struct fabric_internet_address result = {{0}};
  struct sockaddr_in6 address = {
      .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope};
  memcpy(&address.sin6_addr, host, 16);
  memcpy(&result, &address, sizeof address);
  return result;
}

static inline int fabric_address_family(const struct fabric_internet_address *address) {
  struct sockaddr head;
  memcpy(&head, address, sizeof head);
  return head.sa_family;
}

static inline uint16_t fabric_address_port(const struct fabric_internet_address *address) {
  struct sockaddr_in v4;
  memcpy(&v4, address, sizeof v4);
  return ntohs(v4.sin_port);
}

static inline uint32_t fabric_address_scope(const struct fabric_internet_address *address) {
  struct sockaddr_in6 v6;
  memcpy(&v6, address, sizeof v6);
  return v6.sin6_scope_id;
}

/// Copies the host's bytes: 4 or 16.
static inline void fabric_address_host(const struct fabric_internet_address *address,
                                       uint8_t *host) {
  if (fabric_address_family(address) == AF_INET) {
    struct sockaddr_in v4;
    memcpy(&v4, address, sizeof v4);
    memcpy(host, &v4.sin_addr, 4);
  } else {
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    memcpy(host, &v6.sin6_addr, 16);
  }
}

static inline socklen_t fabric_address_length(const struct fabric_internet_address *address) {
  return fabric_address_family(address) == AF_INET ? sizeof(struct sockaddr_in)
                                                   : sizeof(struct sockaddr_in6);
}

/// A stream socket that never blocks.
static inline int fabric_tcp_socket(int family) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
}

static inline int fabric_tcp_bind(int fd, const struct fabric_internet_address *address) {
  struct sockaddr_in6 storage;
  memcpy(&storage, address, sizeof storage);
  return bind(fd, (struct sockaddr *)&storage, fabric_address_length(address));
}

static inline int fabric_tcp_connect(int fd, const struct fabric_internet_address *address) {
  struct sockaddr_in6 storage;
  memcpy(&storage, address, sizeof storage);
  return connect(fd, (struct sockaddr *)&storage, fabric_address_length(address));
}

static inline int fabric_tcp_accept(int fd, struct fabric_internet_address *peer) {
  struct sockaddr_in6 storage = {0};
  socklen_t length = sizeof storage;
  int result = accept4(fd, (struct sockaddr *)&storage, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
  memcpy(peer, &storage, sizeof storage);
  return result;
}

static inline int fabric_tcp_own_address(int fd, struct fabric_internet_address *address) {
  struct sockaddr_in6 storage = {0};
  socklen_t length = sizeof storage;
  int result = getsockname(fd, (struct sockaddr *)&storage, &length);
  memcpy(address, &storage, sizeof storage);
  return result;
}

static inline int fabric_set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value);
}

static const int fabric_level_socket = SOL_SOCKET;
static const int fabric_level_tcp = IPPROTO_TCP;
static const int fabric_level_v6 = IPPROTO_IPV6;
static const int fabric_tcp_user_timeout = TCP_USER_TIMEOUT;
static const int fabric_v6_only = IPV6_V6ONLY;

/// SO_LINGER: whether closing resets the connection instead of ending it in order.
static inline int fabric_set_reset_on_close(int fd, bool resets) {
  struct linger linger = {.l_onoff = resets, .l_linger = 0};
  return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/// connect(2) to nobody: resets the connection.
static inline int fabric_tcp_reset(int fd) {
  struct sockaddr nobody = {.sa_family = AF_UNSPEC};
  return connect(fd, &nobody, sizeof nobody);
}

/// SO_ERROR: why a connection attempt failed, or 0.
static inline int fabric_socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

/// sendmsg(2), or send(2) of one piece, which costs less; never blocking, never SIGPIPE. Called past
/// the C library, whose calls are points of cancellation, of which we have no use, at a price.
static inline long fabric_tcp_send(int fd, const struct iovec *pieces, size_t count) {
  if (count == 1)
    return syscall(SYS_sendto, fd, pieces->iov_base, pieces->iov_len,
                   MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
  struct msghdr message = {0};
  message.msg_iov = (struct iovec *)pieces;
  message.msg_iovlen = count;
  return syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/// recvmsg(2), or recv(2) of one piece; never blocking.
static inline long fabric_tcp_receive(int fd, struct iovec *pieces, size_t count) {
  if (count == 1)
    return syscall(SYS_recvfrom, fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT, NULL,
                   NULL);
  struct msghdr message = {0};
  message.msg_iov = pieces;
  message.msg_iovlen = count;
  return syscall(SYS_recvmsg, fd, &message, MSG_DONTWAIT);
}

/// epoll_ctl(2): input, hang-up, and room for output after there was none, each told once when it
/// comes.
static inline int fabric_epoll_add_edges(int epoll, int fd, uint64_t tag) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              .data.u64 = tag};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// epoll_wait(2) without waiting, for at most 64 events; their tags go to `tags`, and a bit of `ended`
/// is set for each whose peer has ended its direction or whose connection has failed.
static inline int fabric_epoll_take_edges(int epoll, uint64_t *tags, uint64_t *ended) {
  struct epoll_event events[64];
  // As for the calls above, past the C library.
  int count = (int)syscall(SYS_epoll_pwait, epoll, events, 64, 0, NULL, 0);
  *ended = 0;
  for (int i = 0; i < count; i++) {
    tags[i] = events[i].data.u64;
    if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) *ended |= (uint64_t)1 << i;
  }
  return count;
}

/// poll(2): whether the peer has ended its direction or the connection has failed.
static inline bool fabric_peer_has_ended(int fd) {
  struct pollfd look = {.fd = fd, .events = POLLRDHUP};
  return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/// epoll_ctl(2): room for output, as long as there is some.
static inline int fabric_epoll_add_output(int epoll, int fd, uint64_t tag) {
  struct epoll_event event = {.events = EPOLLOUT, .data.u64 = tag};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// getaddrinfo(3) for stream sockets: at most `room` addresses, their count or a negative EAI code.
static inline int fabric_resolve(const char *host, const char *port,
                                 struct fabric_internet_address *addresses, int room) {
  struct addrinfo hints = {0};
  hints.ai_socktype = SOCK_STREAM;
  struct addrinfo *found = NULL;
  int error = getaddrinfo(host, port, &hints, &found);
  if (error != 0) return error;
  int count = 0;
  for (struct addrinfo *next = found; next && count < room; next = next->ai_next)
    if (next->ai_addrlen <= sizeof addresses[count])
      memcpy(&addresses[count++], next->ai_addr, next->ai_addrlen);
  freeaddrinfo(found);
  return count;
}

/// A Unix stream socket that never blocks.
static inline int fabric_unix_stream_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}
