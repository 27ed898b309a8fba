/* scratch.h - directories for tests: made fresh, copied whole, removed. Lies in TMPDIR, or where the system
 * keeps such things. */
#ifndef SCRATCH_H
#define SCRATCH_H

enum { SCRATCH_PATH = 256 };

/* All end the program with words when the system refuses: a test without its directory proves nothing. */
/* From now on in memory, unless TMPDIR says where: thousands of small stores, whose speed is not to be a disk's. */
void scratch_in_memory(void);
void scratch_new(char path[SCRATCH_PATH]);
/* `to` must not exist. Holes stay holes, links stay links (hard links among the copied files included). */
void scratch_copy(const char *from, const char *to);
void scratch_remove(const char *path); /* absent is fine */

#endif
