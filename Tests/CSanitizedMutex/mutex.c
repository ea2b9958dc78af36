// A `Mutex` that nobody else wants is taken by code within our own, which the sanitizer sees. One
// that is contended is taken in Swift's library, which it does not see, and what the mutex
// guards would look like a race. So these two stand in for the library's, and tell it.
#define _GNU_SOURCE
#include "sanitized_mutex.h"

#if __has_feature(thread_sanitizer)

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>
#include <stdint.h>

#define PREFIX "$s15Synchronization12_MutexHandleV"
#define SWIFT_NAME(name) __asm__(PREFIX name)
#define LOCK "9_lockSlowyys6UInt32VF"
#define UNLOCK "11_unlockSlowyyF"
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

typedef SWIFT void (*Lock)(uint32_t thread, SELF void *mutex);
typedef SWIFT void (*Unlock)(SELF void *mutex);

SWIFT void fabric_lock(uint32_t thread, SELF void *mutex) SWIFT_NAME(LOCK);
SWIFT void fabric_unlock(SELF void *mutex) SWIFT_NAME(UNLOCK);

static void *original(const char *name) { return dlsym(RTLD_NEXT, name); }

SWIFT void fabric_lock(uint32_t thread, SELF void *mutex) {
  ((Lock)original(PREFIX LOCK))(thread, mutex);
  __tsan_acquire(mutex);
}

SWIFT void fabric_unlock(SELF void *mutex) {
  __tsan_release(mutex);
  ((Unlock)original(PREFIX UNLOCK))(mutex);
}

#endif
