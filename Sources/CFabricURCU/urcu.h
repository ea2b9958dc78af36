// Userspace RCU's membarrier flavour with its inline fast paths, to measure the gate against.
#pragma once

#include "../CFabricLinux/linux.h"
#define _LGPL_SOURCE
#define RCU_MEMBARRIER
#include <urcu/urcu-memb.h>

static inline void fabric_urcu_register(void) { urcu_memb_register_thread(); }
static inline void fabric_urcu_unregister(void) { urcu_memb_unregister_thread(); }
static inline void fabric_urcu_read_lock(void) { urcu_memb_read_lock(); }
static inline void fabric_urcu_read_unlock(void) { urcu_memb_read_unlock(); }
static inline void fabric_urcu_synchronize(void) { urcu_memb_synchronize_rcu(); }
