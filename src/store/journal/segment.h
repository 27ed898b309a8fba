/* segment.h - one file of the log: log.<start>, a stretch of the endless address space.
 *
 *   start      address of its first byte, as 16 hex digits in its name
 *   capacity   bytes of address space; the next segment begins behind them
 *   written    bytes from the start that the file holds already: a commit that stays below overwrites blocks
 *              that are allocated, so that its fdatasync has no metadata to write
 * Laws: a segment's name is durable before its first record is written; zeros are written ahead in
 * steps, so the cost of the file's growth is one fsync per step; what is at or above the log's end may be
 * anything (J2). */
#ifndef VV_SEGMENT_H
#define VV_SEGMENT_H

#include "base/vfs.h"

struct vv_segment {
    uint64_t start, capacity;
    uint64_t written;
    struct vv_file file;
    bool settled;  /* name and length are known to be durable */
    bool measured; /* `written` is known, and stays so when the file is closed */
    bool sounded;  /* `solid` was looked for */
    uint64_t solid; /* from the log's end to here all blocks are known to be on the disk */
    /* The log's own, which opens and closes the file: */
    bool unsynced;  /* written to since its last sync: who opens it anew may not be told that writing back failed */
    uint64_t turn;  /* when it was last used */
    unsigned users; /* threads that have it in hand: its file stays open */
    bool gone;      /* not of the log any more: its last user frees it */
};

enum { VV_SEGMENT_NAME = 24 };
void vv_segment_name(uint64_t start, char name[VV_SEGMENT_NAME]);
bool vv_segment_parse(const char *name, uint64_t *start);

/* Open the file of a segment whose start is set; learns `written` the first time. A file that is open already:
 * nothing. */
varve_status vv_segment_open(struct vv_segment *segment, const struct vv_dir *dir, bool write);
/* Learn `written` again, of a file that is open: another process appends to it. */
varve_status vv_segment_measure(struct vv_segment *segment);
/* Make the file, empty, and its name durable. What a crash left there is kept: it is debris. */
varve_status vv_segment_create(struct vv_segment *segment, const struct vv_dir *dir);
/* See that the `size` bytes at `offset`, where the log ends, are written, and `ahead` more when the disk has them;
 * durably. */
varve_status vv_segment_extend(struct vv_segment *segment, uint64_t offset, uint64_t size, uint64_t ahead);
/* Learn `solid` of a file that is open; a file with holes gives 0. */
varve_status vv_segment_sound(struct vv_segment *segment);
/* Of a segment that holds nothing of the log: see that its first `size` bytes are on the disk; durably. */
varve_status vv_segment_fill(struct vv_segment *segment, uint64_t size);
void vv_segment_close(struct vv_segment *segment);

#endif
