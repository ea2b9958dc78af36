// The kernel's user-space block driver, ublk_drv. Each function is one step with no policy of its own.
// Debian 12's <linux/ublk_cmd.h> is that of Linux 6.1: what came later is defined here, with the numbers that the
// kernel's documentation (Documentation/block/ublk.rst and include/uapi/linux/ublk_cmd.h) gives.
#pragma once

// The C library's and io_uring's headers come through another module, so that their types have one definition.
#include "../CFabricURing/uring.h"

#include <linux/ublk_cmd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

_Static_assert(sizeof(struct ublksrv_ctrl_cmd) == 32, "as the kernel has it");
_Static_assert(sizeof(struct ublksrv_ctrl_dev_info) == 64, "as the kernel has it");
_Static_assert(sizeof(struct ublksrv_io_cmd) == 16, "as the kernel has it");
_Static_assert(sizeof(struct ublksrv_io_desc) == 24, "as the kernel has it");

static const uint32_t fabric_ublk_get_device_info = UBLK_CMD_GET_DEV_INFO;
static const uint32_t fabric_ublk_add_device = UBLK_CMD_ADD_DEV;
static const uint32_t fabric_ublk_delete_device = UBLK_CMD_DEL_DEV;
static const uint32_t fabric_ublk_start_device = UBLK_CMD_START_DEV;
static const uint32_t fabric_ublk_stop_device = UBLK_CMD_STOP_DEV;
static const uint32_t fabric_ublk_set_parameters = UBLK_CMD_SET_PARAMS;
static const uint32_t fabric_ublk_start_recovery = UBLK_CMD_START_USER_RECOVERY;
static const uint32_t fabric_ublk_end_recovery = UBLK_CMD_END_USER_RECOVERY;
static const uint32_t fabric_ublk_get_features = 0x13;         // UBLK_U_CMD_GET_FEATURES, Linux 6.5
static const uint32_t fabric_ublk_delete_device_later = 0x14;  // UBLK_U_CMD_DEL_DEV_ASYNC, Linux 6.9

static const uint64_t fabric_ublk_recovers = 1ULL << 3;  // UBLK_F_USER_RECOVERY
static const uint64_t fabric_ublk_reissues = 1ULL << 4;  // UBLK_F_USER_RECOVERY_REISSUE

static const uint16_t fabric_ublk_dead = 0;  // UBLK_S_DEV_DEAD
static const int32_t fabric_ublk_ok = 0;     // UBLK_IO_RES_OK

static const uint32_t fabric_ublk_op_mask = 0xff;
static const uint32_t fabric_ublk_read = 0;
static const uint32_t fabric_ublk_write = 1;
static const uint32_t fabric_ublk_flush = 2;
static const uint32_t fabric_ublk_discard = 3;
static const uint32_t fabric_ublk_write_zeroes = 5;
/// UBLK_IO_F_FUA.
static const uint32_t fabric_ublk_force_unit_access = 1U << 13;

static const uint32_t fabric_ublk_attribute_read_only = 1U << 0;
static const uint32_t fabric_ublk_attribute_volatile_cache = 1U << 2;
static const uint32_t fabric_ublk_attribute_fua = 1U << 3;
static const uint32_t fabric_ublk_types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD;

/// A command to the driver, legacy or as an ioctl's number (UBLK_U_CMD_..., Linux 6.4).
static inline uint32_t fabric_ublk_command(uint32_t number, bool is_encoded) {
  if (!is_encoded) return number;
  bool only_reads = number == fabric_ublk_get_device_info || number == fabric_ublk_get_features;
  return only_reads ? (uint32_t)_IOR('u', number, struct ublksrv_ctrl_cmd)
                    : (uint32_t)_IOWR('u', number, struct ublksrv_ctrl_cmd);
}

/// Asks the driver for something and waits for the answer: 0 or a negated errno.
static inline int fabric_ublk_control(uint32_t command, uint32_t device, uint64_t address, uint16_t length,
                                      uint64_t data) {
  int fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct io_uring ring;
  int result = io_uring_queue_init(4, &ring, IORING_SETUP_SQE128);
  if (result < 0) {
    close(fd);
    return result;
  }
  struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
  memset(sqe, 0, 128);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd;
  sqe->cmd_op = command;
  struct ublksrv_ctrl_cmd *given = (struct ublksrv_ctrl_cmd *)sqe->cmd;
  given->dev_id = device;
  given->queue_id = (uint16_t)-1;
  given->len = length;
  given->addr = address;
  given->data[0] = data;
  do result = io_uring_submit(&ring);
  while (result == -EINTR || result == -EAGAIN);
  if (result >= 0) {
    struct io_uring_cqe *cqe;
    do result = io_uring_wait_cqe(&ring, &cqe);
    while (result == -EINTR);
    if (result == 0) result = cqe->res;
  }
  io_uring_queue_exit(&ring);
  close(fd);
  return result;
}

/// Maps the descriptions of a queue's requests; 0 with errno set on failure.
static inline uint64_t fabric_ublk_map(int fd, unsigned queue, size_t byte_count) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t most = UBLK_MAX_QUEUE_DEPTH * sizeof(struct ublksrv_io_desc);
  most = (most + page - 1) / page * page;
  off_t offset = (off_t)(UBLKSRV_CMD_BUF_OFFSET + queue * most);
  void *place = mmap(NULL, byte_count, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, offset);
  return place == MAP_FAILED ? 0 : (uint64_t)(uintptr_t)place;
}

static inline void fabric_ublk_unmap(uint64_t address, size_t byte_count) {
  munmap((void *)(uintptr_t)address, byte_count);
}

/// Fills the next submission entry of registered file 0: fetches a request for a tag, after committing the last one's
/// result where `commits`.
static inline bool fabric_ublk_fetch(struct io_uring *ring, bool is_encoded, bool commits, uint16_t queue,
                                     uint16_t tag, int32_t result, uint64_t address) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
  if (!sqe) return false;
  memset(sqe, 0, sizeof *sqe);
  uint32_t number = commits ? UBLK_IO_COMMIT_AND_FETCH_REQ : UBLK_IO_FETCH_REQ;
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->cmd_op = is_encoded ? (uint32_t)_IOWR('u', number, struct ublksrv_io_cmd) : number;
  sqe->user_data = tag;
  struct ublksrv_io_cmd *given = (struct ublksrv_io_cmd *)sqe->cmd;
  given->q_id = queue;
  given->tag = tag;
  given->result = result;
  given->addr = address;
  return true;
}
