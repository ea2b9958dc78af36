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

/// Three sums side by side, of as many bytes of three blocks in a row: one alone would wait for the
/// instruction's latency each time.
__attribute__((target("sse4.2"))) static inline void fabric_crc32c_three(
    uint32_t *first, uint32_t *second, uint32_t *third, const uint8_t *bytes, size_t block) {
  uint64_t a = *first, b = *second, c = *third;
  for (size_t i = 0; i < block; i += 8) {
    uint64_t x, y, z;
    memcpy(&x, bytes + i, 8);
    memcpy(&y, bytes + block + i, 8);
    memcpy(&z, bytes + 2 * block + i, 8);
    a = __builtin_ia32_crc32di(a, x);
    b = __builtin_ia32_crc32di(b, y);
    c = __builtin_ia32_crc32di(c, z);
  }
  *first = (uint32_t)a, *second = (uint32_t)b, *third = (uint32_t)c;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

__attribute__((target("crc"))) static inline void fabric_crc32c_three(
    uint32_t *first, uint32_t *second, uint32_t *third, const uint8_t *bytes, size_t block) {
  uint32_t a = *first, b = *second, c = *third;
  for (size_t i = 0; i < block; i += 8) {
    uint64_t x, y, z;
    memcpy(&x, bytes + i, 8);
    memcpy(&y, bytes + block + i, 8);
    memcpy(&z, bytes + 2 * block + i, 8);
    a = __builtin_arm_crc32cd(a, x);
    b = __builtin_arm_crc32cd(b, y);
    c = __builtin_arm_crc32cd(c, z);
  }
  *first = a, *second = b, *third = c;
}

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

static inline void fabric_crc32c_three(uint32_t *first, uint32_t *second, uint32_t *third,
                                       const uint8_t *bytes, size_t block) {
  (void)first, (void)second, (void)third, (void)bytes, (void)block;
}
static inline bool fabric_has_crc32c(void) { return false; }
static inline uint32_t fabric_crc32c(uint32_t sum, const uint8_t *bytes, size_t count) {
  (void)bytes, (void)count;
  return sum;
}

#endif
