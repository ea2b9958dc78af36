// The processor's own CRC-32C (Castagnoli) instruction, where it has one.
#pragma once

// The C library's headers come through this one, so that its types have one definition.
#include "linux.h"

#include <stdbool.h>

#if defined(__x86_64__)
#include <cpuid.h>

static inline bool fabric_has_crc32c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_SSE4_2);
}

__attribute__((target("sse4.2"))) static inline uint32_t fabric_crc32c(uint32_t sum,
                                                                       const uint8_t *bytes,
                                                                       size_t count) {
  uint64_t wide = sum;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  sum = (uint32_t)wide;
  for (; count > 0; count--, bytes++) sum = __builtin_ia32_crc32qi(sum, *bytes);
  return sum;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static inline bool fabric_has_crc32c(void) { return getauxval(AT_HWCAP) & (1 << 7); }

__attribute__((target("crc"))) static inline uint32_t fabric_crc32c(uint32_t sum,
                                                                    const uint8_t *bytes,
                                                                    size_t count) {
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    sum = __builtin_arm_crc32cd(sum, word);
  }
  for (; count > 0; count--, bytes++) sum = __builtin_arm_crc32cb(sum, *bytes);
  return sum;
}

#else

static inline bool fabric_has_crc32c(void) { return false; }
static inline uint32_t fabric_crc32c(uint32_t sum, const uint8_t *bytes, size_t count) {
  (void)bytes, (void)count;
  return sum;
}

#endif
