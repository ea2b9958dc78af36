#pragma once
// Network interfaces as tun(4), packet(7) and netdevice(7) give them. Every call returns -1 and sets errno
// where it fails.

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
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
/// 10 bytes, non-blocking.
static inline int fabric_tap_open(const char *name) {
  struct ifreq request;
  int size = sizeof(struct virtio_net_hdr);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -1;
  fabric_name_interface(&request, name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
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
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) < 0 ||
      bind(fd, (struct sockaddr *)&place, sizeof place) < 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

/// Names the network namespace of the calling process: another number for each; 0 where it cannot be told.
static inline uint64_t fabric_network_namespace(void) {
  struct stat status;
  return stat("/proc/self/ns/net", &status) < 0 ? 0 : (uint64_t)status.st_ino;
}

/// One record of two pieces.
static inline long fabric_write_two(int fd, const void *first, size_t first_count, const void *second,
                                    size_t second_count) {
  struct iovec pieces[2] = {{(void *)first, first_count}, {(void *)second, second_count}};
  return writev(fd, pieces, 2);
}
