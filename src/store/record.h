/* record.h - framing of all bytes in a log: a header that is checked, and three sections behind it.
 *
 *   header      VV_RECORD_HEADER bytes: what it is, where it lies, what it follows, sums of all that follows
 *   facts       commit: who, when, why, and the moves of refs; refs: moves, and commits that were removed;
 *               checkpoint: where its trees begin; kept: a commit's, less moves, and where its state's trie begins
 *   directory   commit: meta, removed ids, per module its entry and where each changed page lies;
 *               checkpoint: all named values and all refs; kept: all named values and what the commit changed
 *   pages       commit: frames of page bytes; checkpoint: nodes and entries, each with its own sum; kept: both
 * A *kept* record is a commit once more: it needs nothing of the record that the commit was made by.
 * and zeros up to the next multiple of VV_RECORD_ALIGN, so that no sector is shared with another record (J3).
 * The directory comes before the pages, so that opening reads no page bytes. Positions inside are relative to
 * the record. Byte by byte: docs/format.md, "Records". Decoders believe nothing. */
#ifndef VV_RECORD_H
#define VV_RECORD_H

#include "base/bytes.h"
#include "page/delta.h"
#include "page/pagetree.h"

/* The page cache writes whole pages, and drives may have sectors as large: so 4096 whatever the drive says. */
enum { VV_RECORD_HEADER = 264, VV_RECORD_ALIGN = 4096, VV_SUM = 16, VV_REF_NAME_MAX = 255 };

enum vv_record_kind {
    VV_RECORD_OPEN = 1,
    VV_RECORD_COMMIT = 2,
    VV_RECORD_REFS = 3,
    VV_RECORD_CHECKPOINT = 4,
    VV_RECORD_KEPT = 5
};

struct vv_record {
    enum vv_record_kind kind;
    bool repairs;  /* a checkpoint made by a repair: it begins an epoch, and its facts go on (struct vv_repair) */
    uint64_t size; /* header, sections and padding */
    uint64_t address, sequence;
    uint64_t number;       /* of the commit; checkpoint: the last number given; else 0 */
    uint64_t synced;       /* the log was synced up to here when this was written */
    uint64_t parent;       /* commit: its parent's record; checkpoint: the commit's that it is of; 0: none */
    uint64_t checkpoint;   /* the nearest one along the parents (checkpoint: the one before it); 0: none */
    uint32_t line_records; /* commits on this line since `checkpoint` */
    uint64_t line_bytes;   /* and their bytes */
    uint64_t facts_size, directory_size, pages_size;
    int64_t time_ns;
    uint8_t epoch[16];
    uint8_t previous[VV_SUM]; /* header sum of the record before */
    uint8_t id[32], root[32]; /* of the commit (checkpoint: that it is of); else zeros */
    uint8_t facts_sum[VV_SUM], directory_sum[VV_SUM], pages_sum[VV_SUM];
    uint8_t sum[VV_SUM]; /* of all the above */
};

void vv_record_sum(const void *bytes, size_t size, uint8_t sum[VV_SUM]);
/* How much a record with these sections takes up. */
uint64_t vv_record_padded(const struct vv_record *record);
/* Header and sections without padding. */
uint64_t vv_record_used(const struct vv_record *record);
static inline uint64_t vv_record_facts_at(const struct vv_record *record)
{
    return record->address + VV_RECORD_HEADER;
}
static inline uint64_t vv_record_directory_at(const struct vv_record *record)
{
    return vv_record_facts_at(record) + record->facts_size;
}
static inline uint64_t vv_record_pages_at(const struct vv_record *record)
{
    return vv_record_directory_at(record) + record->directory_size;
}

/* Sets `sum`. */
void vv_record_encode(struct vv_record *record, uint8_t out[VV_RECORD_HEADER]);
/* Might these bytes begin a record? Cheap, and silent. */
bool vv_record_magic(const uint8_t *bytes);
uint64_t vv_record_size(const uint8_t *header); /* of one that was encoded here */
/* VARVE_CORRUPT unless it is whole and lies at `address`; VARVE_NEWER names a format that came later. */
varve_status vv_record_decode(const uint8_t bytes[VV_RECORD_HEADER], uint64_t address,
                              struct vv_record *record);

/* No record, but what stands where the next one goes when the log was closed there: see log.h. */
enum { VV_CLOSING = 56 };
struct vv_closing {
    uint64_t address, sequence; /* its own address; of the record before it */
    uint8_t previous[VV_SUM];   /* header sum of that record */
};
void vv_closing_encode(const struct vv_closing *closing, uint8_t out[VV_CLOSING]);
/* Is it one, and whole? */
bool vv_closing_decode(const uint8_t bytes[VV_CLOSING], struct vv_closing *closing);

/* ---- Facts of a commit, and moves of refs ----------------------------------------------------- */

/* A piece of text or bytes in a section, lent. */
struct vv_piece {
    const uint8_t *data;
    size_t size;
};
struct vv_piece vv_piece_of(const struct vv_bytes *bytes); /* never a NULL, not even for none */
struct vv_piece vv_piece_of_text(const char *text);        /* NULL: none */

struct vv_record_move {
    struct vv_piece name, what;
    uint8_t from[32], to[32]; /* zeros: none */
    uint64_t previous;        /* record of this ref's move before; 0: its first */
    uint64_t moves;           /* how many, this one included */
};
/* Where a saved tree begins. */
struct vv_saved_top {
    uint64_t address;
    uint8_t hash[VV_HASH_SIZE];
};
/* A commit that is taken out of the history. */
struct vv_record_removal {
    uint8_t id[32], ancestor[32]; /* the nearest commit before it that is retained; zeros: none */
    uint64_t number;
};
struct vv_record_facts {
    /* Commit and kept. */
    uint8_t parent[32], seed[32];
    uint64_t modules, modules_changed, pages_changed;
    struct vv_piece message, branch, engine;
    /* Commit and refs. */
    struct vv_record_move *moves;
    size_t move_count;
    /* Refs only. */
    struct vv_record_removal *removals;
    size_t removal_count;
    /* Kept only. */
    uint64_t written;        /* bytes of the record that the commit was made by */
    struct vv_saved_top top; /* of the state's trie */
};

/* `id` is the commit's: a move to it, or from its parent, does not spell it again. */
varve_status vv_record_facts_encode(enum vv_record_kind kind, const struct vv_record_facts *facts,
                                    const uint8_t id[32], struct vv_bytes *out);
/* Lends from `bytes`; the caller ends it with release. */
varve_status vv_record_facts_decode(const struct vv_record *record, const void *bytes,
                                    struct vv_record_facts *facts);
void vv_record_facts_release(struct vv_record_facts *facts);

/* ---- Facts of a checkpoint -------------------------------------------------------------------- */

enum { VV_CHECKPOINT_FACTS = 4 * 40 + 5 * 8 };
struct vv_checkpoint {
    struct vv_saved_top state, ids, roots, numbers;
    uint64_t number_pages; /* page count of `numbers` */
    uint64_t commits;      /* in the index */
    uint64_t stored;       /* bytes of all records up to and with this one */
    uint64_t generation;   /* how often something was retired, with what this one retires */
    uint64_t start;        /* segments that begin below are needed no more */
};
void vv_checkpoint_encode(const struct vv_checkpoint *checkpoint, uint8_t out[VV_CHECKPOINT_FACTS]);
varve_status vv_checkpoint_decode(const struct vv_record *record, const void *bytes,
                                  struct vv_checkpoint *checkpoint);

/* What a repair declares, in its checkpoint's facts: where the damage is that it has dealt with, which commits are
 * given up, and how refs that named them moved. */
struct vv_dead {
    uint64_t address, size;
};
struct vv_repair {
    struct vv_record_move *moves;
    size_t move_count;
    struct vv_dead *dead; /* by address; each is a record, or a stretch between two */
    size_t dead_count;
    struct vv_record_removal *removals;
    size_t removal_count;
};
varve_status vv_repair_encode(const struct vv_repair *repair, struct vv_bytes *out);
/* Lends texts from `bytes`, the facts of a checkpoint that repairs; the caller ends it with release. */
varve_status vv_repair_decode(const struct vv_record *record, const void *bytes, struct vv_repair *repair);
void vv_repair_release(struct vv_repair *repair);
/* Whether `address` is in one of these places. */
bool vv_is_dead(const struct vv_dead *dead, size_t count, uint64_t address);

/* ---- The directory of a commit ---------------------------------------------------------------- */

/* A page's locator: address of its frame, how many bases are below it, its slot. 0 is none of them. */
enum { VV_LOCATOR_DEPTH_MAX = 7 };
static inline uint64_t vv_locator_make(uint64_t frame, unsigned depth, unsigned slot)
{
    return frame << 9 | (uint64_t)depth << 6 | slot;
}
static inline uint64_t vv_locator_frame(uint64_t locator)
{
    return locator >> 9;
}
static inline unsigned vv_locator_depth(uint64_t locator)
{
    return (unsigned)(locator >> 6) & 7;
}
static inline unsigned vv_locator_slot(uint64_t locator)
{
    return (unsigned)locator & 63;
}
#define VV_ADDRESS_MAX (UINT64_C(1) << 54)
#define VV_GENERATION_MAX (UINT64_C(1) << 54)

/* Written in this order: meta, removed, frames, then per module: module, its pages in order. */
void vv_directory_meta(struct vv_bytes *out, const void *key, size_t key_size, const void *value,
                       size_t value_size); /* value_size 0: removed */
void vv_directory_page_zero(struct vv_bytes *out, uint64_t step);
/* A page of this record: they are numbered in the order in which they are named, 64 to a frame. */
void vv_directory_page_new(struct vv_bytes *out, uint64_t step, const uint8_t hash[VV_HASH_SIZE],
                           unsigned depth);
/* A page whose bytes another record holds. */
void vv_directory_page_old(struct vv_bytes *out, uint64_t step, const struct vv_leaf *leaf);

/* What a directory says, in its order. A status other than VARVE_OK stops the walk and is returned. */
struct vv_directory_visitor {
    varve_status (*meta)(void *context, const char *key, const void *value,
                         size_t size); /* size 0: removed */
    varve_status (*removed)(void *context, const uint8_t id[32]);
    /* `fresh`: its pages are on top of nothing, not of what the parent has under this id. */
    varve_status (*module)(void *context, struct vv_piece entry, bool fresh, uint64_t pages, uint64_t bytes);
    varve_status (*page)(void *context, uint64_t index, const struct vv_leaf *leaf); /* NULL: zero */
    void *context;
};
varve_status vv_directory_walk(const struct vv_record *record, const void *bytes,
                               const struct vv_directory_visitor *visitor);

#endif
