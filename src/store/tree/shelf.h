/* shelf.h - what an open tree has in memory of its directories: which there are, their indexes, and the files in them.
 *
 *   directory  one for each root that a commit names, and for each that waits to be deleted; its index while it is in use
 *   version    one memory of one module as a file: a base image (with its tree) or a diff. Known by what it holds, not by
 *              where: the same version lies in many directories as hard links, or as copies, and any of them is as good
 *   handle     an open file of a version; few are open at a time
 * A page's locator is its version's number << 32 | its index + 1, good for this opening. In files addresses and locators
 * are relative to the file: the number is added when a node is read.
 * Laws: (D1) A version is read through its home, a directory that has it. A view of a directory sees that all that it has
 *            is at home there, or in one that stays as long, if a directory went since its last view; so whoever
 *            looks under a hold reads from directories that no removal before that hold has doomed, and these stay
 *            until it goes.
 *       (D2) So when a directory goes, nobody reads the versions that are at home in it: they go with it. */
#ifndef VV_TREE_SHELF_H
#define VV_TREE_SHELF_H

#include <pthread.h>

#include "base/table.h"
#include "page/pagetree.h"
#include "store/plain/nodefile.h"
#include "store/tree/overlay.h"
#include "store/tree/listing.h"

enum { VV_TREE_NAME = 80 }; /* of anything in the store's directory: 64 digits and a little in front */

enum vv_part { VV_PART_MEMORY, VV_PART_NODES, VV_PART_DIFF };
extern const char *const vv_part_dirs[]; /* "memory", "tree", "memory" */

struct vv_shelf;
struct vv_tree_version;
struct vv_handle {
    struct vv_tree_version *version;
    enum vv_part part;
    bool open;
    unsigned uses;
    uint64_t used; /* when, in takes of the shelf */
    struct vv_file file; /* of a memory */
    struct vv_nodefile nodes;
    struct vv_overlay overlay;
};
struct vv_tree_version {
    struct vv_shelf *shelf;
    uint32_t number;
    bool is_diff;
    bool homeless; /* its directory went while somebody had a handle: freed by the last one */
    varve_module_id module;
    struct vv_memory_key base, memory; /* of a base image both are the same */
    uint64_t nodes_size, diff_size, address;
    struct vv_tree_version *below;          /* of a diff: its base */
    struct vv_pagetree tree;           /* of a base; read by anybody, changed by nobody */
    struct vv_node_source source;      /* of a base: its saved nodes */
    struct vv_folder *home;
    struct vv_tree_version *next, *previous; /* at home in the same directory */
    unsigned uses;                     /* handles that are taken */
    struct vv_handle handles[2];       /* of a base: memory and nodes; of a diff: the one */
};
struct vv_folder {
    varve_root root;
    uint32_t number;
    size_t commits;       /* that are there and have this root */
    uint64_t doomed_in;   /* the generation in which the last of them went; 0: they are there */
    bool missing;         /* it should be there and is not */
    uint64_t viewed;      /* the generation of its last view + 1; 0: none */
    struct vv_tree_version *versions; /* at home here */
    bool has_index, has_state;
    unsigned pins; /* somebody uses its index */
    uint64_t used;
    struct vv_listing index;
    struct vv_state state;
};
struct vv_shelf {
    const struct vv_dir *dir; /* the store, lent */
    struct vv_module_source modules; /* set by the owner: for states */
    pthread_mutex_t mutex;    /* guards all below and in the above; never held while a tree is read */
    struct vv_table roots, numbers; /* directories by root, by number */
    struct vv_table versions, by_number; /* by what they hold, by number */
    uint32_t last_number;     /* of versions and directories alike */
    uint64_t clock;
    size_t open_count, loaded_count;
};

void vv_shelf_init(struct vv_shelf *shelf, const struct vv_dir *dir, const struct vv_module_source *modules);
void vv_shelf_release(struct vv_shelf *shelf);
static inline void vv_shelf_lock(struct vv_shelf *shelf)
{
    VV_ASSERT(pthread_mutex_lock(&shelf->mutex) == 0);
}
static inline void vv_shelf_unlock(struct vv_shelf *shelf)
{
    VV_ASSERT(pthread_mutex_unlock(&shelf->mutex) == 0);
}

/* ---- Directories; the shelf is locked ---------------------------------------------------------- */

struct vv_folder *vv_shelf_folder(const struct vv_shelf *shelf, const varve_root *root); /* NULL */
struct vv_folder *vv_shelf_numbered(const struct vv_shelf *shelf, uint32_t number);         /* NULL */
/* A new one; nobody has the root. */
varve_status vv_shelf_add(struct vv_shelf *shelf, const varve_root *root, struct vv_folder **directory);
/* It is gone from the disk, or it never was there; (D2). */
void vv_shelf_drop(struct vv_shelf *shelf, struct vv_folder *directory);
/* Its index, read when it must be, until it is unpinned. CORRUPT names the file. */
varve_status vv_shelf_pin(struct vv_shelf *shelf, struct vv_folder *directory);
void vv_shelf_unpin(struct vv_shelf *shelf, struct vv_folder *directory);
/* (D1) All versions that a pinned directory has are known and can be read in `generation`. */
varve_status vv_shelf_look(struct vv_shelf *shelf, struct vv_folder *directory, uint64_t generation);
/* Its state; pinned and looked at. */
varve_status vv_shelf_state(struct vv_shelf *shelf, struct vv_folder *directory, struct vv_state *state);

/* ---- Versions; the shelf is locked -------------------------------------------------------------- */

/* The base and (NULL: none) the diff of an entry; NULL: it is not known. */
struct vv_tree_version *vv_shelf_base(const struct vv_shelf *shelf, const struct vv_listing_entry *entry);
struct vv_tree_version *vv_shelf_diff(const struct vv_shelf *shelf, const struct vv_listing_entry *entry);
struct vv_tree_version *vv_shelf_version(const struct vv_shelf *shelf, uint32_t number); /* NULL */
/* A version that no directory has yet, with a number; `known`: of what it is a base or diff. */
varve_status vv_tree_version_new(struct vv_shelf *shelf, const struct vv_listing_entry *entry, bool is_diff,
                            struct vv_tree_version **version);
void vv_tree_version_free(struct vv_tree_version *version); /* never put up; NULL is fine */
/* What vv_shelf_put needs room for. */
varve_status vv_shelf_reserve(struct vv_shelf *shelf, size_t versions);
/* It lies in this directory from now on. There is room. One that holds the same is known: false, and nothing is done. */
bool vv_shelf_put(struct vv_shelf *shelf, struct vv_tree_version *version, struct vv_folder *home);

/* ---- Files; these lock -------------------------------------------------------------------------- */

/* An open file of a version, checked as far as its length, until it is given back. CORRUPT, naming it; also when it is
 * missing. */
varve_status vv_tree_version_take(struct vv_tree_version *version, enum vv_part part, struct vv_handle **handle);
void vv_tree_version_give(struct vv_handle *handle);
/* More files are in use than should be open: who can do without keeps none. */
bool vv_shelf_is_crowded(struct vv_shelf *shelf);

/* ---- Locators ----------------------------------------------------------------------------------- */

static inline uint64_t vv_locator_of(const struct vv_tree_version *version, uint64_t index)
{
    return (uint64_t)version->number << 32 | (index + 1);
}
static inline uint32_t vv_locator_number(uint64_t locator)
{
    return (uint32_t)(locator >> 32);
}
static inline uint64_t vv_locator_index(uint64_t locator)
{
    return (locator & UINT32_MAX) - 1;
}
/* In a file: without the number. And the bytes of a node, with it. */
static inline uint64_t vv_locator_in_file(uint64_t index)
{
    return index + 1;
}
varve_status vv_node_shift(struct vv_bytes *node, size_t from, uint64_t by);

/* Names: 64 upper-case digits; with ".diff" behind. */
enum { VV_PART_NAME = 72 };
void vv_part_name(const varve_module_id *id, enum vv_part part, char name[VV_PART_NAME]);
/* "ROOT/memory/MOD": for words. */
void vv_part_path(const varve_root *root, const varve_module_id *id, enum vv_part part, char path[160]);
/* The directory of a root, or one in it. A missing one is CORRUPT. */
varve_status vv_root_open(const struct vv_dir *store, const varve_root *root, struct vv_dir *dir);
varve_status vv_root_open_in(const struct vv_dir *dir, const char *name, const varve_root *root, struct vv_dir *in);

#endif
