// The connection manager for the device of no kernel: every address leads to it, and somebody there accepts at once.
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct rdma_cm_id *waiting;
static enum rdma_cm_event_type next_event;

static int tell(struct rdma_cm_id *id, enum rdma_cm_event_type event) {
  const uint64_t one = 1;
  waiting = id;
  next_event = event;
  return write(id->channel->fd, &one, sizeof one) == sizeof one ? 0 : -1;
}

struct rdma_event_channel *rdma_create_event_channel(void) {
  struct rdma_event_channel *channel = calloc(1, sizeof *channel);
  channel->fd = eventfd(0, EFD_CLOEXEC);
  return channel;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel) {
  close(channel->fd);
  free(channel);
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context, enum rdma_port_space ps) {
  static struct ibv_context *device;
  if (!device) device = ibv_open_device(ibv_get_device_list(NULL)[0]);
  *id = calloc(1, sizeof **id);
  **id = (struct rdma_cm_id){.verbs = device, .channel = channel, .context = context, .ps = ps};
  return 0;
}

int rdma_destroy_id(struct rdma_cm_id *id) {
  free(id);
  return 0;
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *address) {
  (void)id, (void)address;
  return 0;
}

int rdma_listen(struct rdma_cm_id *id, int backlog) {
  (void)id, (void)backlog;
  return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int milliseconds) {
  (void)from, (void)milliseconds;
  memcpy(&id->route.addr.dst_sin, to, sizeof id->route.addr.dst_sin);
  if (!id->channel) return 0;
  return tell(id, RDMA_CM_EVENT_ADDR_RESOLVED);
}

int rdma_resolve_route(struct rdma_cm_id *id, int milliseconds) {
  (void)milliseconds;
  return tell(id, RDMA_CM_EVENT_ROUTE_RESOLVED);
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *parameters) {
  (void)parameters;
  return tell(id, RDMA_CM_EVENT_CONNECT_RESPONSE);
}

int rdma_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *attributes, int *mask) {
  (void)id, (void)attributes;
  *mask = 0;
  return 0;
}

int rdma_establish(struct rdma_cm_id *id) {
  (void)id;
  return 0;
}

int rdma_disconnect(struct rdma_cm_id *id) {
  (void)id;
  return 0;
}

int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event) {
  // No bytes of private data: one, which says so.
  static const uint8_t none = 0;
  static struct rdma_cm_event told;
  uint64_t count;
  if (read(channel->fd, &count, sizeof count) != sizeof count || !waiting) return -1;
  told = (struct rdma_cm_event){.id = waiting, .event = next_event};
  told.param.conn.private_data = &none;
  told.param.conn.private_data_len = 1;
  waiting = NULL;
  *event = &told;
  return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *event) {
  (void)event;
  return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id) {
  (void)id;
  return 0;
}

__be16 rdma_get_dst_port(struct rdma_cm_id *id) { return id->route.addr.dst_sin.sin_port; }
