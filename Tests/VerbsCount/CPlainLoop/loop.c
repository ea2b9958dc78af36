#include "loop.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdint.h>
#include <stdlib.h>

enum { most = 64, message_size = 64, buffer_size = 4096 };

struct end {
  struct ibv_pd *domain;
  struct ibv_cq *queue;
  struct ibv_qp *pair;
  struct ibv_mr *region;
};

static int open_end(struct ibv_context *context, struct end *end) {
  const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
  end->domain = ibv_alloc_pd(context);
  end->queue = ibv_create_cq(context, 256, NULL, NULL, 0);
  if (!end->domain || !end->queue) return -1;
  struct ibv_qp_init_attr made = {.send_cq = end->queue, .recv_cq = end->queue, .qp_type = IBV_QPT_RC};
  made.cap = (struct ibv_qp_cap){.max_send_wr = 80, .max_recv_wr = 64, .max_send_sge = 2, .max_recv_sge = 2};
  end->pair = ibv_create_qp(end->domain, &made);
  end->region = ibv_reg_mr(end->domain, calloc(1, buffer_size), buffer_size, access);
  if (!end->pair || !end->region) return -1;
  struct ibv_qp_attr first = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qp_access_flags = access};
  errno = ibv_modify_qp(end->pair, &first, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  return errno ? -1 : 0;
}

static int connect_end(struct end *end, struct end *to, const union ibv_gid *gid) {
  struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = to->pair->qp_num,
                                   .max_dest_rd_atomic = 1, .min_rnr_timer = 12};
  attributes.ah_attr = (struct ibv_ah_attr){.is_global = 1, .port_num = 1, .grh = {.dgid = *gid, .hop_limit = 1}};
  errno = ibv_modify_qp(end->pair, &attributes,
                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                            IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (errno) return -1;
  attributes = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7,
                                    .max_rd_atomic = 1};
  errno = ibv_modify_qp(end->pair, &attributes,
                        IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                            IBV_QP_MAX_QP_RD_ATOMIC);
  return errno ? -1 : 0;
}

static void close_end(struct end *end) {
  ibv_destroy_qp(end->pair);
  ibv_destroy_cq(end->queue);
  void *memory = end->region->addr;
  ibv_dereg_mr(end->region);
  free(memory);
  ibv_dealloc_pd(end->domain);
}

static size_t loop(const struct end *from, const struct end *to, size_t count, size_t batch) {
  struct ibv_send_wr requests[most];
  struct ibv_sge elements[most];
  struct ibv_wc ended[most];
  size_t sent = 0, done = 0;
  while (done < count) {
    size_t now = count - sent < batch ? count - sent : batch;
    // One batch is under way at a time.
    if (sent > done) now = 0;
    for (size_t index = 0; index < now; index++) {
      elements[index] = (struct ibv_sge){
          .addr = (uintptr_t)from->region->addr, .length = message_size, .lkey = from->region->lkey};
      requests[index] = (struct ibv_send_wr){
          .wr_id = sent + index,
          .next = index + 1 < now ? &requests[index + 1] : NULL,
          .sg_list = &elements[index],
          .num_sge = 1,
          .opcode = IBV_WR_RDMA_WRITE,
          .send_flags = IBV_SEND_SIGNALED,
          .wr.rdma = {.remote_addr = (uintptr_t)to->region->addr, .rkey = to->region->rkey}};
    }
    struct ibv_send_wr *bad = NULL;
    if (now && (errno = ibv_post_send(from->pair, requests, &bad))) return done;
    sent += now;
    int found = ibv_poll_cq(from->queue, most, ended);
    if (found < 0) return done;
    for (int index = 0; index < found; index++) {
      if (ended[index].status != IBV_WC_SUCCESS || ended[index].wr_id != done) return done;
      done++;
    }
  }
  return done;
}

size_t plain_loop(size_t count, size_t batch) {
  struct ibv_device **list = ibv_get_device_list(NULL);
  if (!list || !list[0]) return 0;
  struct ibv_context *context = ibv_open_device(list[0]);
  struct end from = {0}, to = {0};
  union ibv_gid gid;
  if (!context || open_end(context, &from) || open_end(context, &to) || ibv_query_gid(context, 1, 0, &gid) ||
      connect_end(&from, &to, &gid) || connect_end(&to, &from, &gid))
    return 0;
  size_t done = loop(&from, &to, count, batch);
  close_end(&from);
  close_end(&to);
  ibv_close_device(context);
  ibv_free_device_list(list);
  return done;
}
