/* compact.c - saved nodes without those that nobody needs: `.varve/nodes.<n+1>` takes the place of `.varve/nodes.<n>`.
 *
 *   REWRITE   the tree of every version, leaf by leaf, into the new file; synced, its name too
 *   SWAP      versions and states in memory are over the new file; views of before still read the old one
 *   PUBLISH   `commits` names the new file; the old one's name goes. Killed before: the new one is debris; after: the old
 * The old file stays open until no hold is older and nothing lent is over it. */
#include <string.h>

#include "base/alloc.h"
#include "store/flat/place.h"

#ifdef VV_TORTURE
enum { GARBAGE_LEAST = 1 }; /* bytes: below that nothing is done */
#else
enum { GARBAGE_LEAST = 1 << 20 };
#endif

/* A version as it will be. */
struct moved {
    struct vv_version *version;
    struct vv_module *entry;
    uint64_t address, node_bytes;
};
struct compaction {
    struct vv_place *place;
    struct vv_flat_nodes *nodes;
    struct moved *moved;
    size_t moved_count;
    struct vv_table by_version; /* number of a version: its place in `moved` */
    struct vv_state *states;    /* of the commits that have one, in order */
    size_t state_count;
    struct vv_state *state;     /* that is being made */
};

uint64_t vv_flat_node_garbage(const struct vv_place *place)
{
    const uint64_t end = place->nodes->file.end;
    uint64_t live = VV_NODEFILE_START;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&place->versions, &cursor, &key, &value))
        live += ((const struct vv_version *)value->pointer)->node_bytes;
    return end > live ? end - live : 0;
}

bool vv_flat_compacts(const struct vv_place *place)
{
    const uint64_t garbage = vv_flat_node_garbage(place);

    return garbage >= GARBAGE_LEAST && garbage > place->nodes->file.end / 2 && place->pending_count == 0;
}

/* ---- Rewriting ---------------------------------------------------------------------------------- */

static varve_status copy_leaf(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    return vv_pagetree_set(context, index, leaf);
}

static varve_status rewrite(struct compaction *work, struct vv_version *version)
{
    struct moved *moved = &work->moved[work->moved_count];
    const struct vv_pagetree *memory = &version->entry->memory;
    struct vv_nodefile *file = &work->nodes->file;
    const uint64_t before = file->end;
    struct vv_pagetree tree;
    uint8_t top[VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    *moved = (struct moved){ .version = version };
    vv_pagetree_init(&tree, memory->page_count, NULL);
    TRY(vv_pagetree_each(memory, 0, copy_leaf, &tree));
    TRY(vv_pagetree_top(&tree, top));
    TRY(vv_pagetree_save(&tree, vv_nodefile_put, file, &moved->address));
    moved->node_bytes = file->end - before;
    TRY(vv_table_put(&work->by_version, &version->number, (union vv_value){ .number = work->moved_count }));
    TRY(vv_module_clone(version->entry, &moved->entry));
    work->moved_count++;
    vv_pagetree_release(&moved->entry->memory);
    TRY(vv_pagetree_open(&moved->entry->memory, tree.page_count, moved->address, top, &file->source));
out:
    vv_pagetree_release(&tree);
    return rc;
}

static varve_status rewrite_all(struct compaction *work)
{
    struct vv_place *place = work->place;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    char name[32];
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&work->nodes, 1, sizeof *work->nodes));
    work->nodes->file.file = VV_FILE_NONE;
    work->nodes->number = place->nodes->number + 1;
    vv_flat_nodes_name(work->nodes->number, name);
    TRY(vv_dir_unlink(&place->own, name));
    TRY(vv_nodefile_create(&place->own, name, 0, work->nodes->number << VV_FLAT_NODE_BITS, &work->nodes->file));
    TRY(vv_alloc(&work->moved, place->versions.count, sizeof *work->moved));
    while (vv_table_next(&place->versions, &cursor, &key, &value))
        TRY(rewrite(work, value->pointer));
    TRY(vv_nodefile_flush(&work->nodes->file));
    TRY(vv_flat_poison_if(place, vv_nodefile_sync(&work->nodes->file)));
    TRY(vv_flat_poison_if(place, vv_dir_sync(&place->own)));
    work->nodes->durable = work->nodes->file.end;
out:
    return rc;
}

/* ---- States ------------------------------------------------------------------------------------- */

static varve_status move_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    struct compaction *work = context;
    varve_module_id module;

    if (to == NULL) {
        memcpy(module.bytes, from->key, sizeof module.bytes);
        return vv_state_remove(work->state, &module);
    }
    memcpy(module.bytes, to->key, sizeof module.bytes);
    const struct vv_version *version = vv_version_named(work->place, &module, to->hash);
    VV_ASSERT(version != NULL);
    const union vv_value *at = vv_table_get(&work->by_version, &version->number);
    return vv_state_set(work->state, work->moved[at->number].entry);
}

/* The same state over the new entries, from that of the commit before. */
static varve_status move_state(struct compaction *work, const struct vv_state *before, struct vv_state *state)
{
    struct vv_state *made = &work->states[work->state_count];
    varve_root was, is;
    varve_status rc = VARVE_OK;

    TRY(before == NULL ? vv_state_init(made, NULL, NULL) : vv_state_copy(made, made - 1));
    work->state_count++;
    work->state = made;
    TRY(vv_trie_diff(before == NULL ? NULL : &before->trie, &state->trie, move_item, work));
    while (made->meta_count > 0)
        TRY(vv_state_set_meta(made, made->meta[0]->key, NULL, 0));
    for (size_t i = 0; i < state->meta_count; i++)
        TRY(vv_state_set_meta(made, state->meta[i]->key, state->meta[i]->value, state->meta[i]->value_size));
    TRY(vv_state_root(made, &is));
    TRY(vv_state_root(state, &was));
    VV_ASSERT(memcmp(&was, &is, sizeof was) == 0);
out:
    return rc;
}

static varve_status move_states(struct compaction *work)
{
    const struct vv_plain *plain = &work->place->plain;
    const struct vv_state *before = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&work->states, plain->commit_count, sizeof *work->states));
    for (size_t i = 0; i < plain->commit_count; i++)
        if (plain->commits[i]->has_state) {
            TRY(move_state(work, before, &plain->commits[i]->state));
            before = &plain->commits[i]->state;
        }
out:
    return rc;
}

/* Nothing fails here. What was there before is left in `work`, to be released. */
static void swap(struct compaction *work)
{
    struct vv_place *place = work->place;
    struct vv_plain *plain = &place->plain;
    size_t at = 0;

    vv_plain_lock(plain);
    for (size_t i = 0; i < work->moved_count; i++) {
        struct moved *moved = &work->moved[i];
        struct vv_module *entry = moved->version->entry;
        moved->version->entry = moved->entry;
        moved->version->address = moved->address;
        moved->version->node_bytes = moved->node_bytes;
        moved->entry = entry;
    }
    for (size_t i = 0; i < plain->commit_count; i++)
        if (plain->commits[i]->has_state) {
            const struct vv_state state = plain->commits[i]->state;
            plain->commits[i]->state = work->states[at];
            work->states[at++] = state;
        }
    place->nodes_since = ++plain->generation;
    place->nodes->retired_in = plain->generation;
    work->nodes->next = place->nodes;
    place->nodes = work->nodes;
    work->nodes = NULL;
    vv_plain_unlock(plain);
}

static void release(struct compaction *work)
{
    char name[32];

    for (size_t i = 0; i < work->state_count; i++)
        vv_state_release(&work->states[i]);
    vv_free(work->states);
    for (size_t i = 0; i < work->moved_count; i++)
        vv_module_drop(work->moved[i].entry);
    vv_free(work->moved);
    vv_table_release(&work->by_version);
    if (work->nodes != NULL) {
        vv_flat_nodes_name(work->nodes->number, name);
        vv_nodefile_close(&work->nodes->file);
        (void)vv_dir_unlink(&work->place->own, name);
        vv_free(work->nodes);
    }
}

varve_status vv_flat_compact(struct vv_place *place, uint64_t *freed)
{
    struct compaction work = { .place = place };
    const uint64_t before = place->nodes->file.end, old = place->nodes->number;
    char name[32];
    varve_status rc = VARVE_OK;

    if (!vv_flat_compacts(place))
        return VARVE_OK;
    vv_table_init(&work.by_version, sizeof(uint64_t));
    TRY(rewrite_all(&work));
    TRY(move_states(&work));
    swap(&work);
    if (place->generation > 0) /* nothing was persisted: nothing names them */
        TRY(vv_flat_publish_commits(place, false, NULL, 0));
    if (place->generation > 0) {
        vv_flat_nodes_name(old, name);
        (void)vv_dir_unlink(&place->own, name);
        *freed += before > place->nodes->file.end ? before - place->nodes->file.end : 0;
    }
out:
    release(&work);
    vv_flat_close_nodes(place);
    return rc;
}
