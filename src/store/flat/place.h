/* place.h - an open store of the layout flat, as the files of this folder share it. The layout's map: flat.c. */
#ifndef VV_FLAT_PLACE_H
#define VV_FLAT_PLACE_H

#include "store/plain/backing.h"
#include "store/plain/memfile.h"
#include "store/plain/nodefile.h"
#include "store/plain/plain.h"

/* A locator is a version and a page of it. */
enum { VV_VERSION_PAGE_BITS = 28 };
#define VV_VERSION_PAGES_MAX (UINT64_C(1) << VV_VERSION_PAGE_BITS)
#define VV_VERSION_NUMBER_MAX ((UINT64_C(1) << (64 - VV_VERSION_PAGE_BITS)) - 1)
/* Addresses of saved nodes: which nodefile, and where in it. */
enum { VV_FLAT_NODE_BITS = 40 };

enum { VV_FLAT_NAME = 64 + 1 + 64 + 1, VV_FLAT_OPEN_MAX = 32 };

/* A file of a version, open as long as somebody reads or maps it, and a while longer. */
struct vv_version_file {
    struct vv_file file;
    size_t holders; /* the version's own among them while it is among the open ones */
};

/* One module commit: a module's memory as the file `<mod>_<modcommit>` holds it. Law: a file that is named by a version
 * was written by whoever made the version, or named by `commits` when the store was opened; it never changes. */
struct vv_version {
    uint64_t number; /* of this place; in locators; never used again in its life */
    varve_module_id module;
    uint8_t leaf[VV_HASH_SIZE];
    struct vv_module *entry; /* its tree's locators name this version, its nodes lie in `nodes` */
    uint64_t address;        /* of the tree's top; 0: all zero */
    uint64_t node_bytes, file_bytes;
    uint64_t first; /* number of the commit that it came with, for words; 0: none yet */
    size_t pins;    /* pending commits that have it */
    bool used;      /* a state has it, or had */
    bool needed;    /* by a state, as the last look found (keep.c, mark) */
    bool synced;    /* its bytes are durable */
    bool rotten;    /* not to be mapped any more */
    bool missing;   /* its file, when the store was opened; told */
    struct vv_version_file *open; /* NULL: not open */
};

/* A file of saved nodes; the place has the newest, and older ones stay while somebody may read by them. */
struct vv_flat_nodes {
    struct vv_nodefile file;
    uint64_t number;
    uint64_t durable;    /* how long it is for certain */
    uint64_t retired_in; /* generation from which on nobody new looks at it; 0: it is the newest */
    size_t lent;         /* trees that are lent with a file to map */
    struct vv_flat_nodes *next;
};

struct vv_place {
    struct vv_plain plain; /* its mutex also guards versions and what is open */
    pthread_mutex_t writer; /* one at a time changes anything; taken before plain's */
    const struct vv_dir *dir;
    struct vv_dir own; /* .varve */
    const struct vv_vfs *vfs;
    varve_finding_fn finding;
    void *context;
    bool read_only, damaged;
    bool _Atomic poisoned;
    bool behind;      /* a pointer could not be moved: all are looked at again */
    bool reclaim_due; /* something was removed */
    uint64_t retain;
    uint64_t generation; /* of `commits`: how often it was published; 0: never */
    size_t last_from;    /* moves that are older are in `commits`, if they are durable at all */
    uint64_t nodes_since; /* plain's generation when the newest nodes came to be */
    struct vv_flat_nodes *nodes;
    struct vv_table versions; /* number: struct vv_version */
    struct vv_table by_name;  /* module id, leaf: struct vv_version */
    uint64_t last_version;
    struct vv_version *open[VV_FLAT_OPEN_MAX]; /* whose file is open, in no order */
    size_t open_count;
    size_t pending_count; /* commits that are prepared and not yet published */
    uint64_t rotten_in, source_version;
    struct vv_backings backings;
    uint64_t commit_count, commit_ns, sync_count, sync_ns, commits_bytes;
};

static inline void vv_flat_take_turn(struct vv_place *place)
{
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
}
static inline void vv_flat_end_turn(struct vv_place *place)
{
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
}
/* MISUSE for a reader, UNCERTAIN when a sync failed, CORRUPT after damage. */
varve_status vv_flat_writable(const struct vv_place *place);
/* A sync that failed is the last that was tried (P4). Returns `rc`. */
varve_status vv_flat_poison_if(struct vv_place *place, varve_status rc);
void vv_flat_tell(const struct vv_place *place, varve_severity severity, const char *file, const char *text);
/* Where `main` stands: its state, lent; NULL: there is none. */
const struct vv_state *vv_flat_main(const struct vv_place *place);

/* ---- version.c ----------------------------------------------------------------------------------- */

void vv_version_name(const struct vv_version *version, char name[VV_FLAT_NAME]);
/* Is this a name that a version can have? */
bool vv_version_is_name(const char *name, uint8_t key[64]);
struct vv_version *vv_version_numbered(const struct vv_place *place, uint64_t number);
struct vv_version *vv_version_named(const struct vv_place *place, const varve_module_id *module,
                                    const uint8_t leaf[VV_HASH_SIZE]);
/* Take it over, into both tables. `plain` is locked. */
varve_status vv_version_add(struct vv_place *place, struct vv_version *version);
/* Out of the tables, closed and freed; its file is the caller's matter. `plain` is locked. */
void vv_version_drop(struct vv_place *place, struct vv_version *version);
void vv_version_free(struct vv_version *version);
/* Its file, held; `plain` is not locked. NOT_FOUND becomes CORRUPT. */
varve_status vv_version_open(struct vv_place *place, struct vv_version *version, struct vv_version_file **file);
void vv_version_let_go(struct vv_place *place, struct vv_version_file *file);
void vv_versions_close(struct vv_place *place); /* all of them */

/* Pages one after the other, neighbours of one version read together, each held against its hash. */
struct vv_version_reader {
    struct vv_place *place;
    varve_status (*put)(void *context, uint64_t index, const uint8_t *page);
    void *context;
    uint64_t locator; /* of the first that waits */
    uint64_t index;
    size_t count;
    uint8_t (*hashes)[VV_HASH_SIZE];
    uint8_t *bytes;
};
varve_status vv_version_reader_begin(struct vv_version_reader *reader, struct vv_place *place,
                                     varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                     void *context);
varve_status vv_version_reader_put(struct vv_version_reader *reader, uint64_t index, const struct vv_leaf *leaf);
varve_status vv_version_reader_flush(struct vv_version_reader *reader);
void vv_version_reader_release(struct vv_version_reader *reader);

/* Entries of the layout's table. */
varve_status vv_flat_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE]);
varve_status vv_flat_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                               const struct vv_pagetree *tree,
                               varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                               void *context);
void vv_flat_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                    struct vv_source *source);
void vv_flat_source_end(struct vv_place *place, struct vv_source *source);
uint64_t vv_flat_source_version(struct vv_place *place);
void vv_flat_source_rotten(struct vv_place *place, const varve_module_id *module);
uint64_t vv_flat_source_sound(struct vv_place *place);

/* ---- pointer.c ----------------------------------------------------------------------------------- */

/* Pointers `<mod>_last` on their way to where a state says that they belong. */
struct vv_pointer {
    varve_module_id module;
    uint8_t leaf[VV_HASH_SIZE]; /* zeros: it goes */
};
struct vv_pointers {
    struct vv_pointer *moves;
    size_t count, room, ready; /* so many have their temporary link */
};
bool vv_pointer_is_name(const char *name, varve_module_id *module);
/* What differs from one state to the other; NULL: none. */
varve_status vv_pointers_plan(const struct vv_state *from, const struct vv_state *to, struct vv_pointers *pointers);
/* All that can fail for want of space: links under temporary names. */
varve_status vv_pointers_ready(struct vv_place *place, struct vv_pointers *pointers);
/* Rename them over. What fails leaves the place `behind`. */
void vv_pointers_move(struct vv_place *place, struct vv_pointers *pointers);
/* Temporary links that were not renamed go. */
void vv_pointers_release(struct vv_place *place, struct vv_pointers *pointers);
/* Those that are not where `main` stands. */
varve_status vv_pointers_astray(struct vv_place *place, struct vv_pointers *pointers);
/* Look at every pointer and move those that are not where `main` stands. */
varve_status vv_pointers_follow(struct vv_place *place);

/* ---- ledger.c ------------------------------------------------------------------------------------ */

/* Publish `commits`: all of the history, or only what is durable already; without `gone`, which are removed by it. The
 * place's generation rises with it. */
varve_status vv_flat_publish_commits(struct vv_place *place, bool all, const varve_commit_id *gone, size_t gone_count);
/* Publish `.varve/last`: the durable moves since `commits`, and those of `more` that are `durable`. */
varve_status vv_flat_publish_last(struct vv_place *place, const struct vv_ref_move *more, const bool *durable,
                                  size_t count, int64_t time_ns);
/* Read both into an empty place and open the nodes. `last`: how reading `.varve/last` went: its damage costs moves of
 * refs alone. */
varve_status vv_flat_load(struct vv_place *place, varve_status *last);
void vv_flat_nodes_name(uint64_t number, char name[32]);
/* Decoders alone, for fuzzing: bytes of `commits` and of `last` over no files. */
varve_status vv_flat_decode_commits(struct vv_place *place, const uint8_t *data, size_t size);
varve_status vv_flat_decode_last(struct vv_place *place, const uint8_t *data, size_t size);

/* ---- commit.c ------------------------------------------------------------------------------------ */

varve_status vv_flat_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **pending);
varve_status vv_flat_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                             const struct vv_ref_move *move, varve_durability durability);
void vv_flat_discard(struct vv_place *place, struct vv_pending *pending);
varve_status vv_flat_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                               int64_t time_ns);

/* ---- keep.c: what lasts and what goes -------------------------------------------------------------- */

varve_status vv_flat_persist(struct vv_place *place);
varve_status vv_flat_remove(struct vv_place *place, const varve_commit_id *ids, size_t count, int64_t time_ns);
varve_status vv_flat_tidy(struct vv_place *place, uint64_t budget, bool *more);
varve_status vv_flat_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress, void *context,
                              uint64_t *freed);
/* A file of a life that ended before it was persisted. */
bool vv_flat_is_debris(const struct vv_place *place, const char *name);
/* States and files that nobody needs any more go. In a turn. */
varve_status vv_flat_reclaim(struct vv_place *place, uint64_t *freed);
/* Set `first` of every version to the first commit that has it and is there. In a turn. */
varve_status vv_flat_number_versions(struct vv_place *place);
void vv_flat_stat(struct vv_place *place, struct vv_layout_stat *stat);
varve_status vv_flat_files(struct vv_place *place, vv_file_facts_fn each, void *context);

/* ---- compact.c ----------------------------------------------------------------------------------- */

uint64_t vv_flat_node_garbage(const struct vv_place *place); /* bytes of saved nodes that no version has */
/* Is most of it garbage, and enough to bother? */
bool vv_flat_compacts(const struct vv_place *place);
/* If so: a new file of nodes. In a turn. A failure after the swap leaves the old file to be named by `commits`. */
varve_status vv_flat_compact(struct vv_place *place, uint64_t *freed);

/* ---- check.c ------------------------------------------------------------------------------------- */

varve_status vv_flat_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                           uint64_t *damage);
/* flat.c: for check.c. */
varve_status vv_flat_open(const struct vv_dir *dir, const struct vv_layout_options *options, struct vv_place **place);
void vv_flat_close(struct vv_place *place);
/* Nodes that nobody may read by any more are closed. In a turn. */
void vv_flat_close_nodes(struct vv_place *place);

#endif
