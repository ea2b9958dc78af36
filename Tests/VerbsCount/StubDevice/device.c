// A device of no kernel, loaded before libibverbs: the calls that queues and memory need. A request is written into a ring
// of 64-byte entries, and a completion read from another; that is less than a card's driver does.
#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

enum { ring_size = 1024 };

struct request {
  uint64_t id, address, remote_address;
  uint32_t length, local_key, remote_key, immediate;
  uint8_t opcode, flags;
} __attribute__((aligned(64)));

struct completion {
  uint64_t id;
  uint32_t length, queue_pair;
  uint8_t opcode, is_there;
} __attribute__((aligned(32)));

struct queue {
  struct ibv_cq base;
  pthread_spinlock_t lock;
  uint32_t written, taken;
  struct completion ring[ring_size];
};

struct pair {
  struct ibv_qp base;
  pthread_spinlock_t lock;
  volatile uint32_t doorbell;
  uint32_t posted;
  struct request ring[ring_size];
};

static struct ibv_device device = {
    .node_type = IBV_NODE_CA, .transport_type = IBV_TRANSPORT_IB, .name = "stub0", .dev_name = "uverbs0"};

static const enum ibv_wc_opcode completed[] = {
    [IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE, [IBV_WR_SEND] = IBV_WC_SEND, [IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ};

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
  struct pair *pair = (struct pair *)qp;
  struct queue *queue = (struct queue *)qp->send_cq;
  int status = 0;
  pthread_spin_lock(&pair->lock);
  for (; wr; wr = wr->next) {
    if (pair->posted - queue->taken >= ring_size || wr->opcode > IBV_WR_RDMA_READ) {
      *bad = wr;
      status = ENOMEM;
      break;
    }
    struct request *entry = &pair->ring[pair->posted++ % ring_size];
    entry->id = wr->wr_id;
    entry->opcode = (uint8_t)wr->opcode;
    entry->flags = (uint8_t)wr->send_flags;
    entry->length = 0;
    for (int index = 0; index < wr->num_sge; index++) {
      entry->address = wr->sg_list[index].addr;
      entry->local_key = wr->sg_list[index].lkey;
      entry->length += wr->sg_list[index].length;
    }
    if (wr->opcode != IBV_WR_SEND) {
      entry->remote_address = wr->wr.rdma.remote_addr;
      entry->remote_key = wr->wr.rdma.rkey;
    }
    // From here on it is what the hardware would do.
    if (!(wr->send_flags & IBV_SEND_SIGNALED)) continue;
    struct completion *end = &queue->ring[queue->written++ % ring_size];
    end->id = entry->id;
    end->length = entry->length;
    end->queue_pair = qp->qp_num;
    end->opcode = entry->opcode;
    end->is_there = 1;
  }
  pair->doorbell = pair->posted;
  pthread_spin_unlock(&pair->lock);
  return status;
}

static int poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc) {
  struct queue *queue = (struct queue *)cq;
  int found = 0;
  pthread_spin_lock(&queue->lock);
  for (; found < count; found++, wc++) {
    struct completion *end = &queue->ring[queue->taken % ring_size];
    if (!end->is_there) break;
    end->is_there = 0;
    queue->taken++;
    wc->wr_id = end->id;
    wc->status = IBV_WC_SUCCESS;
    wc->opcode = completed[end->opcode];
    wc->vendor_err = 0;
    wc->byte_len = end->length;
    wc->qp_num = end->queue_pair;
    wc->wc_flags = 0;
  }
  pthread_spin_unlock(&queue->lock);
  return found;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad) {
  (void)qp, (void)wr, (void)bad;
  return 0;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited) {
  (void)cq, (void)solicited;
  return 0;
}

struct ibv_device **ibv_get_device_list(int *count) {
  static struct ibv_device *list[2];
  list[0] = &device;
  if (count) *count = 1;
  return list;
}

void ibv_free_device_list(struct ibv_device **list) { (void)list; }

const char *ibv_get_device_name(struct ibv_device *which) { return which->name; }

struct ibv_context *ibv_open_device(struct ibv_device *which) {
  struct ibv_context *context = calloc(1, sizeof *context);
  context->device = which;
  context->ops.post_send = post_send;
  context->ops.post_recv = post_recv;
  context->ops.poll_cq = poll_cq;
  context->ops.req_notify_cq = req_notify_cq;
  context->async_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return context;
}

int ibv_close_device(struct ibv_context *context) {
  free(context);
  return 0;
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attributes) {
  (void)context;
  *attributes = (struct ibv_device_attr){
      .max_cqe = 65536, .max_qp_wr = ring_size, .max_qp_rd_atom = 16, .max_qp_init_rd_atom = 16};
  return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *compatible) {
  (void)context, (void)port;
  struct ibv_port_attr *attributes = (struct ibv_port_attr *)compatible;
  attributes->state = IBV_PORT_ACTIVE;
  attributes->max_msg_sz = 1u << 31;
  return 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *context, struct ibv_gid_entry *entries, size_t capacity,
                             uint32_t flags, size_t size) {
  (void)context, (void)entries, (void)capacity, (void)flags, (void)size;
  return 0;
}

int ibv_query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid) {
  (void)context, (void)port, (void)index;
  memset(gid, 0, sizeof *gid);
  return 0;
}

int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index, struct ibv_gid_entry *entry,
                      uint32_t flags, size_t size) {
  (void)context, (void)port, (void)index, (void)entry, (void)flags, (void)size;
  return ENODATA;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context) {
  struct ibv_pd *domain = calloc(1, sizeof *domain);
  domain->context = context;
  return domain;
}

int ibv_dealloc_pd(struct ibv_pd *domain) {
  free(domain);
  return 0;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *domain, void *address, size_t length, uint64_t as, unsigned access) {
  static uint32_t next_key = 1;
  (void)as, (void)access;
  struct ibv_mr *region = calloc(1, sizeof *region);
  *region = (struct ibv_mr){.context = domain->context, .pd = domain, .addr = address, .length = length};
  region->lkey = region->rkey = next_key++;
  return region;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *domain, void *address, size_t length, int access) {
  return ibv_reg_mr_iova2(domain, address, length, (uintptr_t)address, (unsigned)access);
}

int ibv_dereg_mr(struct ibv_mr *region) {
  free(region);
  return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context) {
  struct ibv_comp_channel *channel = calloc(1, sizeof *channel);
  channel->context = context;
  channel->fd = eventfd(0, EFD_CLOEXEC);
  return channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel) {
  free(channel);
  return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int count, void *owner, struct ibv_comp_channel *channel,
                             int vector) {
  (void)vector;
  struct queue *queue = aligned_alloc(64, (sizeof *queue + 63) / 64 * 64);
  memset(queue, 0, sizeof *queue);
  queue->base = (struct ibv_cq){.context = context, .channel = channel, .cq_context = owner, .cqe = count};
  pthread_spin_init(&queue->lock, PTHREAD_PROCESS_PRIVATE);
  return &queue->base;
}

int ibv_destroy_cq(struct ibv_cq *queue) {
  free(queue);
  return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **queue, void **context) {
  (void)channel, (void)queue, (void)context;
  return -1;
}

void ibv_ack_cq_events(struct ibv_cq *queue, unsigned count) { (void)queue, (void)count; }

struct ibv_qp *ibv_create_qp(struct ibv_pd *domain, struct ibv_qp_init_attr *attributes) {
  static uint32_t next_number = 17;
  struct pair *pair = aligned_alloc(64, (sizeof *pair + 63) / 64 * 64);
  memset(pair, 0, sizeof *pair);
  pair->base = (struct ibv_qp){.context = domain->context, .pd = domain, .send_cq = attributes->send_cq,
                               .recv_cq = attributes->recv_cq, .qp_num = next_number++, .qp_type = IBV_QPT_RC};
  pthread_spin_init(&pair->lock, PTHREAD_PROCESS_PRIVATE);
  return &pair->base;
}

int ibv_modify_qp(struct ibv_qp *pair, struct ibv_qp_attr *attributes, int mask) {
  (void)pair, (void)attributes, (void)mask;
  return 0;
}

int ibv_destroy_qp(struct ibv_qp *pair) {
  free(pair);
  return 0;
}

int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *event) {
  (void)context, (void)event;
  return -1;
}
