// The low-level interface of libfuse 3, and the steps of it that Swift cannot take by itself: bit
// fields, and arguments in C's shape. Each function is one step with no policy of its own.
#pragma once

// The C library's headers come through the other module, so that its types have one definition.
#include "../CFabricLinux/linux.h"

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include <linux/falloc.h>
#include <sys/ioctl.h>

static const int fabric_falloc_keep_size = FALLOC_FL_KEEP_SIZE;
static const int fabric_falloc_punch_hole = FALLOC_FL_PUNCH_HOLE;
static const int fabric_falloc_zero_range = FALLOC_FL_ZERO_RANGE;
static const unsigned fabric_fuse_cap_async_dio = FUSE_CAP_ASYNC_DIO;
static const unsigned fabric_fuse_caps_unused =
    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;

/// fuse_session_new(3) without options.
static inline struct fuse_session *fabric_fuse_session(const struct fuse_lowlevel_ops *operations,
                                                       void *user) {
  char name[] = "channelfabric";
  char *arguments[] = {name, NULL};
  struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
  return fuse_session_new(&args, operations, sizeof *operations, user);
}

/// fuse_session_mount(3) on a /dev/fuse descriptor whose file system is mounted by other means. The
/// session closes the descriptor.
static inline int fabric_fuse_adopt(struct fuse_session *session, int fd) {
  char path[32];
  snprintf(path, sizeof path, "/dev/fd/%d", fd);
  return fuse_session_mount(session, path);
}

/// fuse_session_process_buf(3) of a request in memory.
static inline void fabric_fuse_process(struct fuse_session *session, void *bytes, size_t count) {
  struct fuse_buf buffer = {0};
  buffer.mem = bytes;
  buffer.size = count;
  fuse_session_process_buf(session, &buffer);
}

/// fuse_reply_open(3) of a file that is read and written past the page cache.
static inline int fabric_fuse_reply_open_direct(fuse_req_t request, struct fuse_file_info *file) {
  file->direct_io = 1;
  file->keep_cache = 0;
  return fuse_reply_open(request, file);
}

static inline int fabric_fuse_file_flags(const struct fuse_file_info *file) {
  return file ? file->flags : 0;
}

/// What `FABRIC_IOCTL_CONTROL` takes and gives back: a control call, and what came of it.
struct fabric_control {
  uint32_t code;
  int32_t result;
  uint16_t payload_bytes;
  uint16_t reserved;
  uint8_t payload[200];
};

/// The ioctl's number: _IOWR('F', 0x43, struct fabric_control).
static const unsigned fabric_ioctl_control = _IOWR('F', 0x43, struct fabric_control);
