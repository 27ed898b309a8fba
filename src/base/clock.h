/* clock.h - time and chance from the system, and times as text. */
#ifndef VV_CLOCK_H
#define VV_CLOCK_H

#include "base/error.h"

int64_t vv_clock_now_ns(void);        /* since 1970 */
uint64_t vv_clock_monotonic_ns(void); /* for measuring */
void vv_clock_sleep_ms(uint64_t ms);  /* a signal ends it early */
varve_status vv_clock_random(void *bytes, size_t size);

/* "2026-11-20T23:59:01.000000000Z" and a NUL; and back: RFC 3339, any offset, 0 to 9 digits of a second. */
void vv_time_format(int64_t time_ns, char text[31]);
varve_status vv_time_parse(const char *text, int64_t *time_ns); /* VARVE_INVALID */

#endif
