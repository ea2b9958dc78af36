// Calls that make block devices and mounts: loop devices, generic netlink, the mount interface of Linux 5.2. Each
// function is one call with no logic of its own; those that return an int give -1 with errno set.
#pragma once

#include "linux.h"

#include <linux/genetlink.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <dirent.h>
#include <poll.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>

// The C library's <sys/mount.h> and the kernel's <linux/mount.h> do not go together everywhere.
enum {
  fabric_fsconfig_set_string = 1,
  fabric_fsconfig_set_flag = 0,
  fabric_fsconfig_create = 6,
  fabric_mount_nosuid = 0x2,
  fabric_mount_nodev = 0x4,
  fabric_mount_noexec = 0x8,
  fabric_umount_force = 1,
  fabric_umount_detach = 2,
  fabric_umount_nofollow = 8,
};

/// fsopen(2), close-on-exec.
static inline int fabric_fsopen(const char *type) { return (int)syscall(SYS_fsopen, type, 1); }

/// fsconfig(2) of a string, a flag (`value` NULL) or a command (`key` NULL, too).
static inline int fabric_fsconfig(int fd, unsigned command, const char *key, const char *value) {
  return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}

/// fsmount(2), close-on-exec.
static inline int fabric_fsmount(int fd, unsigned attributes) {
  return (int)syscall(SYS_fsmount, fd, 1, attributes);
}

/// move_mount(2) of a mount that nobody sees yet to a directory.
static inline int fabric_move_mount(int fd, const char *path) {
  return (int)syscall(SYS_move_mount, fd, "", AT_FDCWD, path, 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
}

/// umount2(2).
static inline int fabric_umount(const char *path, int flags) {
  return (int)syscall(SYS_umount2, path, flags);
}

/// open(2), close-on-exec, without creating anything.
static inline int fabric_open_existing(const char *path, int flags) {
  return open(path, flags | O_CLOEXEC);
}

/// openat(2), likewise.
static inline int fabric_open_at(int directory, const char *name, int flags) {
  return openat(directory, name, flags | O_CLOEXEC);
}

/// open(2) of a file to append to, made for its owner alone when there is none.
static inline int fabric_open_log(const char *path) {
  return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/// open(2) of a file to be locked, made for its owner alone when there is none.
static inline int fabric_open_lock(const char *path) {
  return open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/// flock(2), exclusive, waiting.
static inline int fabric_lock_file(int fd) { return flock(fd, LOCK_EX); }

/// socketpair(2) of sequenced packets, close-on-exec.
static inline int fabric_sequenced_pair(int *pair) {
  return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

/// fcntl(2) F_DUPFD_CLOEXEC to a number of at least `least`.
static inline int fabric_duplicate_above(int fd, int least) {
  return fcntl(fd, F_DUPFD_CLOEXEC, least);
}

/// Whether a descriptor stays open in a program that is started.
static inline int fabric_set_close_on_exec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC); }

static const int fabric_open_direct = O_DIRECT;

/// LOOP_CTL_GET_FREE on /dev/loop-control: a number; nothing is kept for the caller.
static inline int fabric_loop_free_number(int control) { return ioctl(control, LOOP_CTL_GET_FREE); }

/// LOOP_CONFIGURE. `name` is what LOOP_GET_STATUS64 tells later, at most 63 bytes.
static inline int fabric_loop_configure(int loop, int file, uint32_t block_size, bool read_only,
                                        const char *name) {
  struct loop_config config = {0};
  config.fd = (uint32_t)file;
  config.block_size = block_size;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | (read_only ? LO_FLAGS_READ_ONLY : 0);
  strncpy((char *)config.info.lo_file_name, name, LO_NAME_SIZE - 1);
  return ioctl(loop, LOOP_CONFIGURE, &config);
}

/// LOOP_GET_STATUS64: the flags, and the name into `name` of 64 bytes; -1 with ENXIO when nothing is
/// bound, or not any more.
static inline int fabric_loop_status(int loop, char *name) {
  struct loop_info64 info = {0};
  if (ioctl(loop, LOOP_GET_STATUS64, &info) != 0) return -1;
  memcpy(name, info.lo_file_name, LO_NAME_SIZE);
  name[LO_NAME_SIZE - 1] = 0;
  return (int)info.lo_flags;
}

static const int fabric_loop_flag_direct = LO_FLAGS_DIRECT_IO;
static const int fabric_loop_flag_autoclear = LO_FLAGS_AUTOCLEAR;
static const int fabric_loop_flag_read_only = LO_FLAGS_READ_ONLY;

/// LOOP_SET_STATUS64 without autoclear.
static inline int fabric_loop_keep(int loop) {
  struct loop_info64 info = {0};
  if (ioctl(loop, LOOP_GET_STATUS64, &info) != 0) return -1;
  info.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
  return ioctl(loop, LOOP_SET_STATUS64, &info);
}

/// LOOP_SET_CAPACITY: the size of its file.
static inline int fabric_loop_take_size(int loop) { return ioctl(loop, LOOP_SET_CAPACITY, 0); }

/// LOOP_CLR_FD: at once when the caller is the only one who has it open, else when the last closes.
static inline int fabric_loop_clear(int loop) { return ioctl(loop, LOOP_CLR_FD, 0); }

static const int fabric_netlink_control = GENL_ID_CTRL;
static const int fabric_netlink_nested = NLA_F_NESTED;

/// socket(2) of generic netlink.
static inline int fabric_netlink_socket(void) {
  return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
}

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
/// prctl(2) PR_SET_IO_FLUSHER of the calling thread and those that it starts.
static inline int fabric_set_io_flusher(void) { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

/// poll(2).
static inline int fabric_poll(struct pollfd *descriptors, unsigned count, int milliseconds) {
  return poll(descriptors, count, milliseconds);
}

/// pidfd_send_signal(2).
static inline int fabric_pidfd_signal(int fd, int number) {
  return (int)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
}

/// posix_spawn(3) of this program itself, in a session of its own, with signals as they are at first.
/// Its descriptors 0 to 3 are those given, and no others are open. Returns an errno, or 0.
static inline int fabric_spawn_self(char *const arguments[], int input, int output, int errors,
                                    int channel, int *pid) {
  // By its name, where it has one still: that is what tools show.
  char path[4096];
  long length = readlink("/proc/self/exe", path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  if (length < 0 || access(path, X_OK) != 0) strcpy(path, "/proc/self/exe");
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, standard;
  pid_t child = 0;
  int result = posix_spawn_file_actions_init(&actions);
  if (result) return result;
  posix_spawnattr_init(&attributes);
  sigemptyset(&none);
  sigfillset(&standard);
  sigdelset(&standard, SIGKILL);
  sigdelset(&standard, SIGSTOP);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &standard);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                            POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_adddup2(&actions, input, 0);
  posix_spawn_file_actions_adddup2(&actions, output, 1);
  posix_spawn_file_actions_adddup2(&actions, errors, 2);
  posix_spawn_file_actions_adddup2(&actions, channel, 3);
  posix_spawn_file_actions_addclosefrom_np(&actions, 4);
  result = posix_spawn(&child, path, &actions, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  *pid = child;
  return result;
}

/// pthread_sigmask(3): a signal is not blocked for this thread any more.
static inline int fabric_unblock_signal(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
