/* digest.h - what lies beneath a directory, in 32 bytes: names, kinds, permissions, how many names a file has, lengths,
 * bytes. Two directories with one digest are the same to whoever opens them. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stdbool.h>

#include "page/hash.h"

/* The bytes and the length of a file that is dull (by its name relative to `path`; NULL: none is) do not count, only
 * that it is there. A directory that is absent has a digest, too. Ends the program with words when the system
 * refuses. */
void digest_folder(const char *path, bool (*is_dull)(const char *name), uint8_t digest[VV_HASH_SIZE]);

#endif
