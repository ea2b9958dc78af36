#pragma once
// Network interfaces as tun(4), packet(7) and netdevice(7) give them. Every call returns -1 and sets errno
// where it fails.

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

enum {
  fabric_interface_name_max = IFNAMSIZ - 1,
  fabric_vnet_needs_checksum = VIRTIO_NET_HDR_F_NEEDS_CSUM,
  fabric_vnet_data_valid = VIRTIO_NET_HDR_F_DATA_VALID,
  fabric_vnet_gso_none = VIRTIO_NET_HDR_GSO_NONE,
  fabric_vnet_gso_tcp4 = VIRTIO_NET_HDR_GSO_TCPV4,
  fabric_vnet_gso_tcp6 = VIRTIO_NET_HDR_GSO_TCPV6,
  fabric_vnet_gso_udp = VIRTIO_NET_HDR_GSO_UDP_L4,
  fabric_vnet_gso_ecn = VIRTIO_NET_HDR_GSO_ECN,
};

static inline void fabric_name_interface(struct ifreq *request, const char *name) {
  memset(request, 0, sizeof *request);
  strncpy(request->ifr_name, name, IFNAMSIZ - 1);
}

/// One queue of the TAP interface `name`, which is made where it is not there: frames with a virtio-net header of
/// 10 bytes, non-blocking. One that was made for a single queue is opened as such.
static inline int fabric_tap_open(const char *name, bool has_several_queues) {
  struct ifreq request;
  int size = sizeof(struct virtio_net_hdr);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -1;
  fabric_name_interface(&request, name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (has_several_queues ? IFF_MULTI_QUEUE : 0);
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

/// What the reader of a TAP interface leaves undone: checksums, and the segmentation of TCP and, where the kernel
/// has it, of UDP.
static inline int fabric_tap_offload(int fd) {
  unsigned flags = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (ioctl(fd, TUNSETOFFLOAD, flags | TUN_F_USO4 | TUN_F_USO6) == 0) return 0;
  return ioctl(fd, TUNSETOFFLOAD, flags);
}

static inline int fabric_tap_carrier(int fd, bool is_up) {
  int value = is_up;
  return ioctl(fd, TUNSETCARRIER, &value);
}

/// Whether the interface stays when its last queue is closed.
static inline int fabric_tap_persist(int fd, bool stays) { return ioctl(fd, TUNSETPERSIST, (unsigned long)stays); }

/// What the interface of a TAP queue is called now, in `IFNAMSIZ` bytes; EBADFD where it is gone.
static inline int fabric_tap_name(int fd, char *name) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -1;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  return 0;
}

static inline int fabric_interface_request(const char *name, unsigned long number, struct ifreq *request) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  strncpy(request->ifr_name, name, IFNAMSIZ - 1);
  int result = ioctl(fd, number, request);
  int error = errno;
  close(fd);
  errno = error;
  return result;
}

static inline int fabric_interface_index(const char *name) { return (int)if_nametoindex(name); }

/// What the interface of a number is called, in `IFNAMSIZ` bytes.
static inline int fabric_interface_name(int index, char *name) {
  return if_indextoname((unsigned)index, name) ? 0 : -1;
}

/// The name that whoever serves an interface listens at: unix(7), abstract, of this network namespace.
static inline socklen_t fabric_claim_name(struct sockaddr_un *name, int index) {
  memset(name, 0, sizeof *name);
  name->sun_family = AF_UNIX;
  int count = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "channelfabric/interface/%d", index);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)count);
}

/// Makes the interface of a number this process's, while the socket is open; EADDRINUSE where it is another's.
static inline int fabric_interface_claim(int index) {
  struct sockaddr_un name;
  socklen_t length = fabric_claim_name(&name, index);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&name, length) < 0 || listen(fd, 1) < 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

/// A connection to whoever has claimed an interface, for its credentials.
static inline int fabric_interface_claimant(int index) {
  struct sockaddr_un name;
  socklen_t length = fabric_claim_name(&name, index);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&name, length) < 0) {
    close(fd);
    return -1;
  }
  return fd;
}

/// Removes an interface; it is gone when this returns. (rtnetlink(7))
static inline int fabric_interface_remove(int index) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg body;
  } request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
      .body = {.ifi_family = AF_UNSPEC, .ifi_index = index}};
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[256];
  } answer;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -1;
  memset(&answer, 0, sizeof answer);
  long sent = send(fd, &request, sizeof request, 0);
  long count = sent < 0 ? -1 : recv(fd, &answer, sizeof answer, 0);
  int error = count < 0 ? errno : count < (long)NLMSG_LENGTH(sizeof answer.error) ? EPROTO : -answer.error.error;
  close(fd);
  errno = error;
  return error == 0 ? 0 : -1;
}

/// 0 with the address in `address`; EAFNOSUPPORT where it is no Ethernet interface.
static inline int fabric_interface_address(const char *name, uint8_t *address) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  if (fabric_interface_request(name, SIOCGIFHWADDR, &request) < 0) return -1;
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
    errno = EAFNOSUPPORT;
    return -1;
  }
  memcpy(address, request.ifr_hwaddr.sa_data, 6);
  return 0;
}

static inline int fabric_interface_set_address(const char *name, const uint8_t *address) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(request.ifr_hwaddr.sa_data, address, 6);
  return fabric_interface_request(name, SIOCSIFHWADDR, &request);
}

/// The MTU, or -1.
static inline int fabric_interface_mtu(const char *name) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  return fabric_interface_request(name, SIOCGIFMTU, &request) < 0 ? -1 : request.ifr_mtu;
}

static inline int fabric_interface_set_mtu(const char *name, int mtu) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  request.ifr_mtu = mtu;
  return fabric_interface_request(name, SIOCSIFMTU, &request);
}

/// The flags of netdevice(7), or -1.
static inline int fabric_interface_flags(const char *name) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  return fabric_interface_request(name, SIOCGIFFLAGS, &request) < 0 ? -1 : (uint16_t)request.ifr_flags;
}

static inline int fabric_interface_set_up(const char *name) {
  struct ifreq request;
  int flags = fabric_interface_flags(name);
  if (flags < 0) return -1;
  fabric_name_interface(&request, name);
  request.ifr_flags = (short)(flags | IFF_UP);
  return fabric_interface_request(name, SIOCSIFFLAGS, &request);
}

static inline int fabric_interface_rename(const char *name, const char *other) {
  struct ifreq request;
  fabric_name_interface(&request, name);
  strncpy(request.ifr_newname, other, IFNAMSIZ - 1);
  return fabric_interface_request(name, SIOCSIFNAME, &request);
}

/// A socket that has every frame of an interface that comes from outside, with a virtio-net header of 10 bytes,
/// whoever it is for.
static inline int fabric_packet_open(const char *name) {
  int one = 1;
  struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  struct packet_mreq membership = {.mr_type = PACKET_MR_PROMISC};
  place.sll_ifindex = membership.mr_ifindex = (int)if_nametoindex(name);
  if (place.sll_ifindex == 0) return -1;
  // Of no protocol until it is bound: nothing of other interfaces is to come.
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  // The usual 208 KiB are three frames of 64 KiB; without the right to more as much as there may be.
  int room = 16 << 20;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) < 0 ||
      bind(fd, (struct sockaddr *)&place, sizeof place) < 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

/// Reads a frame behind its virtio-net header from a packet socket, with the VLAN tag that the kernel keeps beside
/// it. At least 32 bytes.
static inline long fabric_packet_read(int fd, uint8_t *bytes, size_t count) {
  enum { tag_place = sizeof(struct virtio_net_hdr) + 12, tag_size = 4 };
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  } control;
  struct iovec piece = {bytes, count - tag_size};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  long result = recvmsg(fd, &message, 0);
  if (result <= (long)tag_place) return result;
  struct cmsghdr *found = CMSG_FIRSTHDR(&message);
  if (!found || found->cmsg_level != SOL_PACKET || found->cmsg_type != PACKET_AUXDATA) return result;
  struct tpacket_auxdata beside;
  memcpy(&beside, CMSG_DATA(found), sizeof beside);
  if (!(beside.tp_status & TP_STATUS_VLAN_VALID)) return result;
  uint16_t type = beside.tp_status & TP_STATUS_VLAN_TPID_VALID ? beside.tp_vlan_tpid : ETH_P_8021Q;
  uint16_t tag[2] = {htons(type), htons(beside.tp_vlan_tci)};
  memmove(bytes + tag_place + tag_size, bytes + tag_place, (size_t)(result - tag_place));
  memcpy(bytes + tag_place, tag, tag_size);
  // What the header says of places in the frame is true behind the tag, too.
  struct virtio_net_hdr header;
  memcpy(&header, bytes, sizeof header);
  if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) header.csum_start += tag_size;
  if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE) header.hdr_len += tag_size;
  memcpy(bytes, &header, sizeof header);
  return result + tag_size;
}

/// Frames that a packet socket had no room for since it was asked last.
static inline uint64_t fabric_packet_drops(int fd) {
  struct tpacket_stats found = {0};
  socklen_t length = sizeof found;
  return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &found, &length) < 0 ? 0 : found.tp_drops;
}

/// Names the network namespace of the calling process: another number for each since the machine started, or, before
/// Linux 5.14, one that a later namespace may have, too; 0 where it cannot be told.
static inline uint64_t fabric_network_namespace(void) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int result = fd < 0 ? -1 : getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length);
  if (fd >= 0) close(fd);
  if (result == 0) return cookie;
  struct stat status;
  return stat("/proc/self/ns/net", &status) < 0 ? 0 : (uint64_t)status.st_ino;
}

/// One record of two pieces.
static inline long fabric_write_two(int fd, const void *first, size_t first_count, const void *second,
                                    size_t second_count) {
  struct iovec pieces[2] = {{(void *)first, first_count}, {(void *)second, second_count}};
  return writev(fd, pieces, 2);
}
