// Linux calls that Swift cannot reach by itself: variadic functions, macros and inline
// instructions. Each function is one call with no logic of its own.
#pragma once

// Swift's own module of the C library is made without _GNU_SOURCE. Types whose definition depends on
// it must look here as they do there, or the first build of a clean clone fails.
#ifndef _GNU_SOURCE
#include <sys/resource.h>
#include <sys/select.h>
#undef _FEATURES_H
#define _GNU_SOURCE 1
#include <features.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/// membarrier(2). Returns -1 with errno set on failure.
static inline int fabric_membarrier(int command) {
  return (int)syscall(SYS_membarrier, command, 0, 0);
}

/// memfd_create(2) with sealing allowed and close-on-exec.
static inline int fabric_memfd_create(const char *name) {
  return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/// fcntl(2) F_ADD_SEALS.
static inline int fabric_add_seals(int fd, int seals) { return fcntl(fd, F_ADD_SEALS, seals); }

/// fcntl(2) F_GET_SEALS; -1 when the descriptor cannot be sealed at all.
static inline int fabric_get_seals(int fd) { return fcntl(fd, F_GET_SEALS); }

static const int fabric_seal_seal = F_SEAL_SEAL;
static const int fabric_seal_shrink = F_SEAL_SHRINK;
static const int fabric_seal_grow = F_SEAL_GROW;
static const int fabric_seal_future_write = F_SEAL_FUTURE_WRITE;

/// futex(2) wait on a word shared between the threads of this process.
static inline int fabric_futex_wait(const uint32_t *word, uint32_t expected,
                                    const struct timespec *timeout) {
  return (int)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout, NULL, 0);
}

/// futex(2) wake on a word shared between the threads of this process.
static inline int fabric_futex_wake(const uint32_t *word, int count) {
  return (int)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/// pidfd_open(2).
static inline int fabric_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

static inline int fabric_gettid(void) { return (int)syscall(SYS_gettid); }

/// Fetches the line of the cache that holds an address, meanwhile.
static inline void fabric_prefetch(const void *address) { __builtin_prefetch(address); }

/// Tells the processor that this is a spin-wait loop.
static inline void fabric_spin_hint(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Keeps the compiler, not the processor, from moving memory accesses across this point.
static inline void fabric_compiler_barrier(void) { __asm__ volatile("" ::: "memory"); }

/// Binds the calling thread to one processor.
static inline int fabric_set_affinity(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

/// Number of processors this thread may run on, or -1.
static inline int fabric_available_cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return -1;
  return CPU_COUNT(&set);
}

/// The n-th processor (from 0) this thread may run on, or -1.
static inline int fabric_nth_available_cpu(int n) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set) && n-- == 0) return cpu;
  return -1;
}

enum { fabric_max_passed_descriptors = 8 };

/// sendmsg(2) of one datagram with descriptors attached, never blocking, never SIGPIPE.
static inline long fabric_send_with_descriptors(int fd, const void *bytes, size_t count,
                                                const int *fds, int fd_count) {
  char control[CMSG_SPACE(sizeof(int) * fabric_max_passed_descriptors)];
  struct iovec vector = {(void *)bytes, count};
  struct msghdr message = {0};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (fd_count > 0) {
    memset(control, 0, sizeof control);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)fd_count);
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/// recvmsg(2) of one datagram, never blocking. Descriptors arrive close-on-exec in `fds`, at most
/// fabric_max_passed_descriptors; `truncated` is set when the datagram or its descriptors did not fit.
static inline long fabric_receive_with_descriptors(int fd, void *bytes, size_t count, int *fds,
                                                   int *fd_count, int *truncated) {
  char control[CMSG_SPACE(sizeof(int) * fabric_max_passed_descriptors)];
  struct iovec vector = {bytes, count};
  struct msghdr message = {0};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  *fd_count = 0;
  *truncated = 0;
  long received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) return received;
  *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int passed = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < passed && *fd_count < fabric_max_passed_descriptors; i++)
      memcpy(&fds[(*fd_count)++], CMSG_DATA(header) + sizeof(int) * (size_t)i, sizeof(int));
  }
  return received;
}

/// The credentials of the process at the other end of a Unix socket; 0 on success.
static inline int fabric_peer_credentials(int fd, int *pid, uint32_t *uid, uint32_t *gid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  *pid = credentials.pid;
  *uid = credentials.uid;
  *gid = credentials.gid;
  return 0;
}

/// ioctl(2) BLKGETSIZE64 and BLKSSZGET.
static inline int fabric_block_device_size(int fd, uint64_t *bytes) {
  return ioctl(fd, BLKGETSIZE64, bytes);
}
static inline int fabric_block_device_sector(int fd, int *bytes) {
  return ioctl(fd, BLKSSZGET, bytes);
}

static const int fabric_o_direct = O_DIRECT;

/// fcntl(2) F_OFD_SETLK: a write lock on the whole open file description; 0 on success.
static inline int fabric_lock_whole_file(int fd) {
  struct flock lock = {0};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &lock);
}

/// getrandom(2).
static inline long fabric_random(void *bytes, size_t count) { return getrandom(bytes, count, 0); }

static inline int fabric_errno(void) { return errno; }

/// fcntl(2) F_DUPFD_CLOEXEC.
static inline int fabric_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }

/// fcntl(2) F_SETFL O_NONBLOCK.
static inline int fabric_set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? flags : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

enum { fabric_unix_path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

/// A Unix socket that keeps datagrams whole and in order.
static inline int fabric_sequenced_socket(void) {
  return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/// socketpair(2) of local streams that never block.
static inline int fabric_stream_pair(int *fds) {
  return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
}

/// Whether a descriptor is a local stream socket.
static inline int fabric_is_stream(int fd) {
  int type = 0, domain = 0;
  socklen_t length = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return 0;
  length = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return 0;
  return type == SOCK_STREAM && domain == AF_UNIX;
}

/// chmod(2) to the owner alone.
static inline int fabric_make_private(const char *path) { return chmod(path, 0600); }

/// connect(2) to a path of at most fabric_unix_path_max bytes.
static inline int fabric_unix_connect(int fd, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, fabric_unix_path_max);
  return connect(fd, (struct sockaddr *)&address, sizeof address);
}

/// bind(2) to a path of at most fabric_unix_path_max bytes.
static inline int fabric_unix_bind(int fd, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, fabric_unix_path_max);
  return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static inline int fabric_accept(int fd) {
  return accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static inline int fabric_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

/// epoll_ctl(2): watches for input and hang-up, level-triggered.
static inline int fabric_epoll_add(int epoll, int fd, uint64_t tag) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = tag};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// epoll_wait(2) for at most 64 events; their tags go to `tags`.
static inline int fabric_epoll_wait(int epoll, uint64_t *tags, int milliseconds) {
  struct epoll_event events[64];
  int count = epoll_wait(epoll, events, 64, milliseconds);
  for (int i = 0; i < count; i++) tags[i] = events[i].data.u64;
  return count;
}

static inline int fabric_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

/// open(2) O_RDWR.
static inline int fabric_open_read_write(const char *path) { return open(path, O_RDWR | O_CLOEXEC); }

/// open(2) O_RDONLY, without waiting for the other end of a pipe.
static inline int fabric_open_read_at_once(const char *path) {
  return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/// open(2) O_RDONLY.
static inline int fabric_open_read(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }

/// flock(2) LOCK_EX without waiting. Swift cannot name the call, which is also a structure's.
static inline int fabric_try_lock_file(int fd) { return flock(fd, LOCK_EX | LOCK_NB); }

/// prctl(2) PR_SET_PDEATHSIG.
static inline int fabric_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }

/// fstatfs(2): whether the file lies in ordinary memory. Reading a memory file of huge pages that
/// are not there raises SIGBUS.
static inline int fabric_is_ordinary_memory(int fd) {
  struct statfs status;
  return fstatfs(fd, &status) == 0 && status.f_type == 0x01021994;  // TMPFS_MAGIC
}
