/* tally.h - what a harness says in the end, in the line that tools/crash.py and tools/plant.py add up. */
#ifndef TALLY_H
#define TALLY_H

#include <stdint.h>
#include <stdio.h>

/* `harness` is one word: kill, fault, replay, corrupt ... */
static inline void tally(const char *harness, uint64_t count, uint64_t violations)
{
    (void)printf("tally: %s %llu %llu\n", harness, (unsigned long long)count, (unsigned long long)violations);
    (void)fflush(stdout);
}

#endif
