// io_uring through liburing, and the file calls that Swift cannot reach by itself. Each function
// is one step with no policy of its own.
#pragma once

// The C library's headers come through the other module, so that its types have one definition.
#include "../CFabricLinux/linux.h"

#include <liburing.h>
#include <poll.h>
#include <stdbool.h>

static const unsigned fabric_uring_single_issuer = IORING_SETUP_SINGLE_ISSUER;
static const unsigned fabric_uring_defer_taskrun = IORING_SETUP_DEFER_TASKRUN;
static const unsigned fabric_uring_coop_taskrun = IORING_SETUP_COOP_TASKRUN;
static const unsigned fabric_uring_taskrun_flag = IORING_SETUP_TASKRUN_FLAG;
static const unsigned fabric_uring_disabled = IORING_SETUP_R_DISABLED;

static const int fabric_rwf_dsync = RWF_DSYNC;
static const int fabric_punch_hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
/// lseek(2) SEEK_DATA and SEEK_HOLE, which move a position that nobody uses; -1 with errno set.
static inline int64_t fabric_next_data(int fd, int64_t offset) { return lseek(fd, offset, SEEK_DATA); }
static inline int64_t fabric_next_hole(int fd, int64_t offset) { return lseek(fd, offset, SEEK_HOLE); }

static const int fabric_zero_range = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

/// io_uring_queue_init(3); 0 or a negated errno.
static inline int fabric_uring_open(struct io_uring *ring, unsigned entries, unsigned flags) {
  return io_uring_queue_init(entries, ring, flags);
}

/// Lets a ring that was made disabled take entries, from the calling thread. By system call: Debian
/// 12's library declares io_uring_enable_rings(3) without exporting it.
static inline int fabric_uring_enable(struct io_uring *ring) {
  long result =
      syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
  return result < 0 ? -errno : 0;
}

/// Fills the next submission entry with a read of registered file 0.
static inline bool fabric_uring_read(struct io_uring *ring, uint64_t tag, uint64_t address,
                                     unsigned count, uint64_t offset) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  io_uring_prep_read(sqe, 0, (void *)(uintptr_t)address, count, offset);
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->user_data = tag;
  return true;
}

/// Fills the next submission entry with a write to registered file 0; `flags` are RWF_ flags.
static inline bool fabric_uring_write(struct io_uring *ring, uint64_t tag, uint64_t address,
                                      unsigned count, uint64_t offset, int flags) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  io_uring_prep_write(sqe, 0, (const void *)(uintptr_t)address, count, offset);
  sqe->rw_flags = flags;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->user_data = tag;
  return true;
}

/// Fills the next submission entry with a wait, once, until a file has something to read.
static inline bool fabric_uring_poll(struct io_uring *ring, uint64_t tag, int file) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  io_uring_prep_poll_add(sqe, file, POLLIN);
  sqe->user_data = tag;
  return true;
}

/// Fills the next submission entry with fdatasync(2) of registered file 0.
static inline bool fabric_uring_datasync(struct io_uring *ring, uint64_t tag) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->user_data = tag;
  return true;
}

/// Fills the next submission entry with fallocate(2) of registered file 0.
static inline bool fabric_uring_fallocate(struct io_uring *ring, uint64_t tag, int mode,
                                          uint64_t offset, uint64_t count) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  io_uring_prep_fallocate(sqe, 0, mode, (off_t)offset, (off_t)count);
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->user_data = tag;
  return true;
}

/// Moves at most `limit` completions that are already in memory to `tags` and `results`.
static inline unsigned fabric_uring_take(struct io_uring *ring, uint64_t *tags, int32_t *results,
                                         unsigned limit) {
  struct io_uring_cqe *cqe;
  unsigned head, count = 0;
  io_uring_for_each_cqe(ring, head, cqe) {
    if (count == limit) break;
    tags[count] = cqe->user_data;
    results[count] = cqe->res;
    count++;
  }
  io_uring_cq_advance(ring, count);
  return count;
}

/// Whether the kernel holds completions that one io_uring_enter(2) would bring into memory.
static inline bool fabric_uring_has_deferred(const struct io_uring *ring) {
  return (IO_URING_READ_ONCE(*ring->sq.kflags) &
          (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static inline unsigned fabric_uring_ready(const struct io_uring *ring) {
  return io_uring_cq_ready(ring);
}
static inline unsigned fabric_uring_unsubmitted(const struct io_uring *ring) {
  return io_uring_sq_ready(ring);
}

/// Whether the kernel signals the registered eventfd. The fence keeps a look at the queue that
/// follows from being done before the kernel can see the answer.
static inline void fabric_uring_signal(struct io_uring *ring, bool enabled) {
  io_uring_cq_eventfd_toggle(ring, enabled);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/// open(2), close-on-exec.
static inline int fabric_open(const char *path, int flags, unsigned mode) {
  return open(path, flags | O_CLOEXEC, mode);
}

/// rename(2).
static inline int fabric_rename(const char *from, const char *to) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/// Adds or removes O_DIRECT on an open file.
static inline int fabric_set_direct(int fd, bool direct) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return flags;
  return fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

/// fcntl(2) F_OFD_SETLK: a read lock on the whole open file description.
static inline int fabric_lock_whole_file_shared(int fd) {
  struct flock lock = {0};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &lock);
}

/// fcntl(2) F_OFD_SETLK: gives up the locks of the open file description.
static inline int fabric_unlock_whole_file(int fd) {
  struct flock lock = {0};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &lock);
}

/// What direct I/O asks of memory addresses and of file offsets, in bytes, by statx(2); 0 where the
/// kernel or the file system does not say.
static inline int fabric_direct_alignment(int fd, uint32_t *memory, uint32_t *offset) {
  *memory = 0;
  *offset = 0;
#ifdef STATX_DIOALIGN
  struct statx info;
  int result = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info);
  if (result != 0) return result;
  if (info.stx_mask & STATX_DIOALIGN) {
    *memory = info.stx_dio_mem_align;
    *offset = info.stx_dio_offset_align;
  }
#endif
  return 0;
}
