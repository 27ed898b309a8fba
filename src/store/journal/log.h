/* log.h - one endless address space of records, kept in segment files.
 *
 *   log.<start> log.<start> ...     addresses rise; 0 is none; the first record of all lies at VV_LOG_START
 *   chain                           each record holds the header sum and the sequence of the one before
 * Where the log ends, precisely (J2). A record *joins* when its header is whole, lies where it says, and its
 * sequence, previous sum and epoch continue the chain (an OPEN record brings a new epoch); it is looked for
 * behind the record before, else at the start of a later segment. A joining record is *whole* when its sections
 * have their sums. Of the last record, and of any that no later one calls synced, all sections are read; of the
 * others the facts alone, for they were acknowledged. The first place where no whole record joins is
 *   damage   when `head` acknowledged bytes beyond it, or when any valid header further on says that the log
 *            was synced to beyond it: what stood there was acknowledged. The scan goes on with the next valid
 *            header, so that later commits are found; nothing is appended to such a log but by a repair
 *            (repair.c), whose record begins a segment of its own and says which damage is dealt with.
 *   the end  otherwise: what follows is debris of appends that nobody was told of. It stays where it is; the
 *            next opening's OPEN record is laid over its beginning, and no debris can follow that one's sum.
 * Closed: a writer that leaves says so where the next record would go, when zeros were written ahead there. Nothing is
 * acknowledged behind that place in its segment before another record lies there, synced, for the log never passes it
 * by: so while it stands, and `head` knows of nothing further, an opening need not look through the zeros behind it. It
 * is never synced, nor needed: without it, or where it is damaged, an opening looks. A check always does.
 * Spare space: before anything ordinary is appended, the segment behind the one that it goes to is made, and its first
 * bytes are written, as zeros. What makes room (removals, a reclaim) goes there when the disk is full; the log then
 * goes on there, and the rest of the segment before is unused.
 * Files are opened by need, and the least recently used is closed when there are too many: but never one that a
 * thread is using, nor one that was written to and not synced, nor one whose sync failed (P4).
 * Threads: reads at any time from any thread; what appends is called by one thread at a time. */
#ifndef VV_LOG_H
#define VV_LOG_H

#include <pthread.h>

#include "store/journal/segment.h"
#include "store/record.h"

#define VV_LOG_START UINT64_C(4096)

struct vv_chain;

struct vv_log_limits {
    uint64_t segment; /* bytes of a segment, unless one record needs more */
    uint64_t ahead;   /* bytes of zeros written ahead; records as large are written without */
    size_t files;     /* open at once, about; at least 1 */
};

struct vv_log {
    const struct vv_dir *dir; /* the store's; lent */
    bool read_only;
    struct vv_log_limits limits;
    pthread_mutex_t mutex;        /* guards the lists; segments in them never move */
    struct vv_segment **segments; /* by start */
    size_t count;
    struct vv_segment **open; /* those whose file is open */
    size_t open_count, open_capacity;
    uint64_t turn; /* counts uses */
};

/* Learn which segments there are. Opens none of them yet. */
varve_status vv_log_open(struct vv_log *log, const struct vv_dir *dir, bool read_only,
                         const struct vv_log_limits *limits);
void vv_log_close(struct vv_log *log);
/* For a reader: another process has appended up to `end`. One thread at a time. */
varve_status vv_log_follow(struct vv_log *log, uint64_t end);

/* Bytes of the log at `address`, within one segment: VARVE_CORRUPT when they are not there. */
varve_status vv_log_read(struct vv_log *log, uint64_t address, void *data, size_t size);
/* As many as there are, up to `size`; none is no failure. */
varve_status vv_log_read_some(struct vv_log *log, uint64_t address, void *data, size_t size, size_t *got);
/* How many bytes of address space follow in the same segment; 0: no segment is there. */
uint64_t vv_log_left(struct vv_log *log, uint64_t address);
/* The first segment that begins behind `address`. */
bool vv_log_segment_after(struct vv_log *log, uint64_t address, uint64_t *start);
/* Bytes on disk. */
varve_status vv_log_stored(struct vv_log *log, uint64_t *bytes);
/* The name of the file that holds `address`, for words. */
void vv_log_file_name(struct vv_log *log, uint64_t address, char name[VV_SEGMENT_NAME]);

/* ---- Appending -------------------------------------------------------------------------------- */

/* Where a record of `size` bytes goes when the log ends at `end`: there, or at the start of another segment,
 * which is made when it is not there. On failure nothing but zeros was written. Behind the segment of that place
 * there is another one then, whose first `spare` bytes are on the disk, for vv_log_place_spare. */
varve_status vv_log_place(struct vv_log *log, uint64_t end, uint64_t size, uint64_t spare, uint64_t *address);
/* The same on a full disk: a place where all of it is on the disk already, so that writing it needs no more. FULL when
 * there is none, or not `leave` bytes in one piece would be left. */
varve_status vv_log_place_spare(struct vv_log *log, uint64_t end, uint64_t size, uint64_t leave,
                                uint64_t *address);
/* How many bytes in one piece there are for that at most. */
varve_status vv_log_spare(struct vv_log *log, uint64_t end, uint64_t *bytes);
/* Where the log can go on without touching any file that holds something below `least`: the start of a segment that is
 * yet to be made, or of one that a crash left behind there. */
uint64_t vv_log_fresh(struct vv_log *log, uint64_t least);
/* Write it, or several records one behind the other. On failure nothing of them can ever be taken for a record (a
 * failing disk: VARVE_UNCERTAIN). */
varve_status vv_log_write(struct vv_log *log, uint64_t address, const void *data, size_t size);
/* Make all that was written from one address to another durable. VARVE_UNCERTAIN on failure. */
varve_status vv_log_sync(struct vv_log *log, uint64_t from, uint64_t to);
/* All of the log is synced and nothing more will be appended: say so at its end. A failure is none, for without it the
 * next opening reads more. */
void vv_log_tell_closed(struct vv_log *log, const struct vv_chain *chain);
/* Does that stand there, whatever log it ended? */
varve_status vv_log_closed_at(struct vv_log *log, uint64_t address, bool *closed);
/* Let what lies there be read from the disk next time. */
varve_status vv_log_forget(struct vv_log *log, uint64_t from, uint64_t to);

/* ---- Giving up space -------------------------------------------------------------------------- */

/* Bytes of one segment on disk, and the length of its file. */
varve_status vv_log_allocated(struct vv_log *log, uint64_t start, uint64_t *allocated, uint64_t *written);
/* Make a hole, in one segment. Where the system makes none, the bytes stay. */
varve_status vv_log_punch(struct vv_log *log, uint64_t address, uint64_t size);
/* Remove the first segment, which begins at `start` and is not the last; durably. `freed`: what it took up. */
varve_status vv_log_drop(struct vv_log *log, uint64_t start, uint64_t *freed);

/* ---- Reading records -------------------------------------------------------------------------- */

/* The header of the record at `address`, whole and of `kind` (0: any), its sections inside the segment. */
varve_status vv_log_record(struct vv_log *log, uint64_t address, enum vv_record_kind kind,
                           struct vv_record *record);
/* A section, checked; the caller frees. */
varve_status vv_log_facts(struct vv_log *log, const struct vv_record *record, uint8_t **facts);
varve_status vv_log_directory(struct vv_log *log, const struct vv_record *record, uint8_t **directory);
/* The header, and the facts with it (in one read when they are as small as usual). */
varve_status vv_log_record_facts(struct vv_log *log, uint64_t address, enum vv_record_kind kind,
                                 struct vv_record *record, uint8_t **facts);
/* All sections have their sums? VARVE_CORRUPT says which has not. */
varve_status vv_log_verify(struct vv_log *log, const struct vv_record *record);

/* The place behind a record, and what the next must continue. */
struct vv_chain {
    uint64_t end, sequence;
    uint64_t synced; /* everything below was synced, for all that is known */
    uint8_t epoch[16], sum[VV_SUM];
    bool begins; /* what lies at `end` is taken for the first record, whatever it continues */
};
void vv_chain_start(struct vv_chain *chain);
/* Where the log begins: at its first segment. When segments before that one are gone, so is what its first record
 * continues. */
void vv_log_begin(struct vv_log *log, struct vv_chain *chain);
/* Does the record, whose header is whole, continue the chain? */
bool vv_chain_joins(const struct vv_chain *chain, const struct vv_record *record);
void vv_chain_advance(struct vv_chain *chain, const struct vv_record *record);

struct vv_log_scan {
    uint64_t acknowledged; /* by `head`; 0: unknown */
    uint64_t limit;        /* go no further: another process appends there; 0: none does */
    bool deep;             /* verify every section of every record */
    bool thorough;         /* look into spare space too, though `head` says that nothing is there */
    /* One record of the chain; `facts` is lent, NULL when they are damaged, or the record is a damaged checkpoint. */
    varve_status (*record)(void *context, const struct vv_record *record, const uint8_t *facts);
    /* Damage at an address; `record` when its header is whole. `words` say what. */
    varve_status (*damage)(void *context, uint64_t address, const struct vv_record *record,
                           const char *words);
    /* The log ends at `address`, and what follows there is not only zeros. */
    void (*debris)(void *context, uint64_t address);
    void *context;
};
/* Follow the chain from behind `chain` to its end, which it then holds. */
varve_status vv_log_scan(struct vv_log *log, struct vv_chain *chain, const struct vv_log_scan *scan);

#endif
