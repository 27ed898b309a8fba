/* place.h - an open store of the layout chain: what its files share.
 *
 *   line      of one module: its versions in the order in which they were committed
 *   version   a module as some commit has it. The first of a line lies in a full image, each later one in a delta
 *             against the one before it; the newest in a second full image too, which is a cache
 *   <mod>_<id>        the full image of the first version, and that of the newest (one file when they are one)
 *   <mod>_<id>_<n>    the delta of a version between; `id`: its module commit id; `n`: so that no two are the same
 *   .<mod>_<id>_<n>   the delta of the newest: when a newer one comes it loses its dot
 *   commits           what was persisted: versions, commits, refs
 *   .varve/nodes      page trees of versions        .varve/images   which version each newest image holds
 * Laws: (C1) First image and deltas are the truth. They are written once, under names of their own, and go only when a
 *            durable `commits` names them no more, nor a hold needs them.
 *       (C2) An image that is mapped does not change: it is copied first.
 *       (C3) `.varve/images` names a newest image only while it is whole, durably: the name goes before the first page
 *            is written into it.
 *       (C4) A page's locator names the version that last changed it in commit order, so the versions that share the
 *            page share the leaf, and a line that loses its oldest versions finds the page in its new first image.
 * Locks, in this order: `writing` (one commit, persist or gc at a time), `shape` (lines and names; read while files are
 * read), the plain's own (history), `held` (who maps what). */
#ifndef VV_CHAIN_PLACE_H
#define VV_CHAIN_PLACE_H

#include "store/chain/deltafile.h"
#include "store/plain/backing.h"
#include "store/plain/nodefile.h"
#include "store/plain/plain.h"

enum { VV_CHAIN_NAME = 152 }; /* the longest: a dot, 64, _, 64, _, 10, .tmp, and the end */

struct vv_version {
    uint64_t serial; /* rises with every version of the store */
    uint64_t number; /* of the commit that made it */
    uint32_t copy;   /* the n of its delta's name */
    uint8_t leaf[VV_HASH_SIZE];
    struct vv_module *module;           /* held */
    struct vv_deltafile *_Atomic delta; /* header and directory, when somebody needed them */
    uint64_t pages, bytes;              /* in its delta; of the file that was written for it */
    bool written;                       /* a durable `commits` names it */
    bool seen;                          /* while the place opens: its file is there */
};
/* Serials of versions that are gone and that pages of the line's first image still name, in order. */
struct vv_gone {
    uint64_t *serials;
    size_t count;
};
struct vv_line {
    varve_module_id id;
    struct vv_version **versions;
    size_t count, room;
    uint64_t _Atomic image; /* the version that the newest image holds; 0: there is none that can be used */
    bool stamped;           /* .varve/images says so */
    bool patching;          /* it is being written into; `holding` */
    bool
        first_rotten; /* the first image has other bytes than it should: it is not mapped any more; `holding` */
    uint64_t patched; /* pages since sessions were last told of a nearer file */
    struct vv_gone gone;
    /* What the `commits` that is being written leaves out, and what `gone` is from then on. */
    size_t drop_front, drop_back;
    struct vv_gone next_gone;
};
/* What a serial is; in order. */
struct vv_serial {
    uint64_t serial;
    struct vv_line *line;
    struct vv_version *version; /* NULL: it is gone; its pages lie in the line's first image */
};
/* A file that is mapped. */
struct vv_held {
    struct vv_held *next;
    struct vv_line *line;
    uint64_t serial; /* whose memory it holds */
    bool first;      /* the line's first image, not the newest */
    bool replaced;   /* its name is another file's by now, or nobody's */
    unsigned holders;
    struct vv_module *module; /* held: whose tree the source lends */
    struct vv_file file;
};

struct vv_place {
    struct vv_plain plain;
    struct vv_dir dir, own; /* the store, .varve */
    struct vv_layout_options options;
    pthread_mutex_t writing, holding;
    pthread_rwlock_t shape;
    bool poisoned, damaged;
    struct vv_nodefile nodes;
    struct vv_table by_id; /* module: line */
    struct vv_line **lines;
    struct vv_serial *serials;
    size_t line_count, line_room, serial_count, serial_room;
    uint64_t last_serial;
    struct vv_held *held;
    uint64_t _Atomic source_version, source_sound;
    uint64_t unpersisted; /* commits and moves since the last persist */
    bool dirty;           /* `commits` is to be written: these, or removals */
    bool trim_due;        /* versions may be there that nobody needs */
    bool marked;          /* .varve/persisted is there: there was a `commits` */
    struct vv_backings backings;
    uint64_t commit_count, commit_ns, sync_count, sync_ns, freed;
};

static inline void vv_chain_read_lock(struct vv_place *place)
{
    VV_ASSERT(pthread_rwlock_rdlock(&place->shape) == 0);
}
static inline void vv_chain_write_lock(struct vv_place *place)
{
    VV_ASSERT(pthread_rwlock_wrlock(&place->shape) == 0);
}
static inline void vv_chain_unlock(struct vv_place *place)
{
    VV_ASSERT(pthread_rwlock_unlock(&place->shape) == 0);
}

/* ---- line.c: lines, versions, names; `shape` is held ------------------------------------------ */

struct vv_line *vv_chain_line(const struct vv_place *place, const varve_module_id *id); /* NULL: none */
varve_status vv_chain_line_new(struct vv_place *place, const varve_module_id *id, struct vv_line **line);
void vv_chain_line_free(struct vv_line *line);
static inline struct vv_version *vv_chain_newest(const struct vv_line *line)
{
    return line->versions[line->count - 1];
}
static inline bool vv_chain_is_first(const struct vv_line *line, const struct vv_version *version)
{
    return line->versions[0] == version;
}
void vv_chain_version_free(struct vv_version *version); /* NULL is fine */
/* Room for one more in the line, and for so many of all lines, so that vv_chain_append cannot fail. */
varve_status vv_chain_room(struct vv_place *place, struct vv_line *line, size_t serials);
void vv_chain_append(struct vv_place *place, struct vv_line *line, struct vv_version *version);
/* What a locator's version is; CORRUPT when there is none of this number. */
varve_status vv_chain_resolve(const struct vv_place *place, uint64_t locator, const struct vv_serial **found);
/* Does the newest version lie in the first image alone: is it the first, or as that was? */
bool vv_chain_shares_first(const struct vv_line *line);

void vv_chain_image_name(const struct vv_line *line, const struct vv_version *version,
                         char name[VV_CHAIN_NAME]);
/* `newest`: with the dot. */
void vv_chain_delta_name(const struct vv_line *line, const struct vv_version *version, bool newest,
                         char name[VV_CHAIN_NAME]);
struct vv_chain_name {
    bool delta, newest; /* what kind of file */
    varve_module_id module;
    uint8_t leaf[VV_HASH_SIZE];
    uint32_t copy;
};
bool vv_chain_parse_name(const char *name, struct vv_chain_name *parsed);
/* Is it the name of a full image that is needed? `version`: of the first or the newest; else NULL. */
struct vv_version *vv_chain_whose_image(const struct vv_line *line, const uint8_t leaf[VV_HASH_SIZE]);

/* Open the delta of a version, under whichever of its two names it has. CORRUPT: neither. */
varve_status vv_chain_open_delta(const struct vv_place *place, const struct vv_line *line,
                                 const struct vv_version *version, bool write, struct vv_file *file);
varve_status vv_chain_open_image(const struct vv_place *place, const struct vv_line *line,
                                 const struct vv_version *version, bool write, struct vv_file *file);
/* Header and directory of a version's delta. When they had to be read and the file is small, all of it is in `whole`,
 * which is empty before; NULL: nobody wants it. */
varve_status vv_chain_directory(const struct vv_place *place, const struct vv_line *line,
                                struct vv_version *version, struct vv_bytes *whole,
                                const struct vv_deltafile **delta);

/* ---- read.c ------------------------------------------------------------------------------------- */

enum vv_chain_use { VV_CHAIN_ANY, VV_CHAIN_TRUTH }; /* TRUTH: the newest image is not asked */
varve_status vv_chain_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE]);
varve_status vv_chain_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                                const struct vv_pagetree *tree,
                                varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                void *context);
/* The same, `shape` is held. */
varve_status vv_chain_fetch(struct vv_place *place, enum vv_chain_use use, const struct vv_pagetree *from,
                            const struct vv_pagetree *tree,
                            varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                            void *context);
varve_status vv_chain_fetch_page(struct vv_place *place, enum vv_chain_use use, const struct vv_leaf *leaf,
                                 uint8_t page[VV_PAGE_SIZE]);

/* ---- image.c: full images ----------------------------------------------------------------------- */

void vv_chain_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                     struct vv_source *source);
void vv_chain_source_end(struct vv_place *place, struct vv_source *source);
void vv_chain_source_rotten(struct vv_place *place, const varve_module_id *module);
/* A page that a commit changed. */
struct vv_chain_patch {
    uint64_t index;
    const uint8_t *bytes; /* NULL: zero */
};
/* See that no newest image of these lines is named by .varve/images. `writing` is held, `shape` is not. */
varve_status vv_chain_unstamp(struct vv_place *place, struct vv_line *const *lines, size_t count);
/* The newest image follows from the version before to the newest one; best effort, as it is a cache. */
void vv_chain_follow(struct vv_place *place, struct vv_line *line, const struct vv_version *before,
                     const struct vv_chain_patch *pages, size_t count);
/* Make the newest image of a line anew, or right, from the truth. */
varve_status vv_chain_rebuild(struct vv_place *place, struct vv_line *line);
/* The image of a version as a new file under its name, whatever has that name now; synced when `durable`. */
varve_status vv_chain_write_image(struct vv_place *place, const struct vv_line *line,
                                  const struct vv_version *version, bool durable, uint64_t *bytes);
/* The newest image has no use any more: its name goes, unless it is the first's too. */
void vv_chain_drop_image(struct vv_place *place, struct vv_line *line, const struct vv_version *of);
/* What .varve/images says is taken over; read-only places only believe it. */
varve_status vv_chain_load_stamps(struct vv_place *place);
void vv_chain_store_stamps(struct vv_place *place); /* of what is whole, at the close; best effort */

/* ---- commit.c ----------------------------------------------------------------------------------- */

varve_status vv_chain_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **pending);
varve_status vv_chain_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                              const struct vv_ref_move *move, varve_durability durability);
void vv_chain_discard(struct vv_place *place, struct vv_pending *pending);
varve_status vv_chain_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                int64_t time_ns);
varve_status vv_chain_writable(const struct vv_place *place);
varve_status vv_chain_poison_if(struct vv_place *place, varve_status rc);

/* ---- persist.c: the file `commits` --------------------------------------------------------------- */

varve_status vv_chain_persist(struct vv_place *place);
varve_status vv_chain_persist_locked(struct vv_place *place); /* `writing` is held */
/* Everything that it says, into a place that is empty. */
varve_status vv_chain_load(struct vv_place *place);
/* Its bytes (not its sum) into a place; for vv_chain_load and the fuzzer. `place` has been through vv_chain_init. */
varve_status vv_chain_decode(struct vv_place *place, const uint8_t *bytes, size_t size, uint64_t *nodes_end);

/* ---- trim.c: what goes --------------------------------------------------------------------------- */

varve_status vv_chain_remove(struct vv_place *place, const varve_commit_id *ids, size_t count,
                             int64_t time_ns);
/* Find what the next `commits` need not name, and make the first images that then are needed. `writing` is held.
 * Afterwards vv_chain_trimmed, when it is durable, or vv_chain_untrim. */
varve_status vv_chain_plan_trim(struct vv_place *place);
void vv_chain_trimmed(struct vv_place *place);
void vv_chain_untrim(struct vv_place *place);
varve_status vv_chain_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                               void *context, uint64_t *freed);
varve_status vv_chain_tidy(struct vv_place *place, uint64_t budget, bool *more);
void vv_chain_configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes);
/* Every name in the store's directory, and what it is. */
enum vv_chain_kind {
    VV_CHAIN_OTHER, /* no file of this layout */
    VV_CHAIN_COMMITS,
    VV_CHAIN_BACKING,
    VV_CHAIN_IMAGE, /* `version`: the first or the newest of its line */
    VV_CHAIN_DELTA,
    VV_CHAIN_DEBRIS /* nobody needs it */
};
struct vv_chain_file {
    const char *name;
    enum vv_chain_kind kind;
    struct vv_line *line; /* of an image or a delta */
    struct vv_version *version;
};
typedef varve_status (*vv_chain_file_fn)(void *context, const struct vv_chain_file *file);
varve_status vv_chain_each_file(struct vv_place *place, vv_chain_file_fn each, void *context);

/* ---- chain.c ------------------------------------------------------------------------------------- */

varve_status vv_chain_init(const struct vv_dir *dir, const struct vv_layout_options *options,
                           struct vv_place **place);
varve_status vv_chain_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                           struct vv_place **place);
void vv_chain_close(struct vv_place *place);
void vv_chain_find(const struct vv_place *place, varve_severity severity, const char *file,
                   const varve_commit_id *commit, const varve_module_id *module, const char *text);

/* ---- check.c, files.c ---------------------------------------------------------------------------- */

varve_status vv_chain_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                            uint64_t *damage);
varve_status vv_chain_files(struct vv_place *place, vv_file_facts_fn each, void *context);

#endif
