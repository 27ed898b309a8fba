/* clone.c - see clone.h. A store of the same layout that holds still is copied as files (copyfiles.h). Else
 * commits are made again one by one, oldest first, each from what differs between it and its parent: what a
 * session would have handed to the layout, so that any layout can be read and any be written.
 *
 *   COMMITS  state of the commit and of its parent, from the source; pages that differ; prepare, publish
 *   REFS     each ref's moves again, oldest first, as far as the commits that they name were copied
 *   DONE     persist; `.varve/cloning`, which was there before the format, goes: until then nobody opens it
 * Laws: (C1) The source is only read, under a hold. (C2) Of commits, what is read is checked against its hash,
 * and each one's root is computed anew and must be the same; files are copied with what damage they have.
 * A commit whose parent the source does not retain is made from nothing, and its parent gets a tombstone; so does, with
 * SALVAGE, one that is damaged, and it is told of.  */
#include "store/clone.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

struct module_copy {
    varve_module_id id;
    struct vv_module *after; /* held; NULL: removed */
    struct vv_page_change *pages;
    uint8_t *bytes; /* of pages and of their bases, in turn */
    size_t page_count, page_room;
};
struct vv_clone {
    varve_store *from, *to;
    const varve_clone_options *options;
};

/* One commit on its way. */
struct copy {
    varve_store *from, *to;
    struct vv_commit_facts facts, base; /* as the source and as the clone tell them */
    bool has_base;
    struct vv_state was, is, after; /* of the source: parent and commit; of the clone */
    struct vv_state begun;          /* of the clone: the parent's */
    struct module_copy *modules;
    size_t module_count, module_room;
    struct module_copy *module; /* the one at hand */
    struct vv_module *old;      /* in `begun`; lent; NULL: not there */
};

static void copy_release(struct copy *copy)
{
    for (size_t i = 0; i < copy->module_count; i++) {
        vv_module_drop(copy->modules[i].after);
        vv_free(copy->modules[i].pages);
        vv_free(copy->modules[i].bytes);
    }
    vv_free(copy->modules);
    vv_state_release(&copy->was);
    vv_state_release(&copy->is);
    vv_state_release(&copy->begun);
    vv_state_release(&copy->after);
    vv_commit_facts_release(&copy->facts);
    vv_commit_facts_release(&copy->base);
}

/* ---- What differs ------------------------------------------------------------------------------- */

static varve_status note_module(void *context, const struct vv_item *from, const struct vv_item *to)
{
    struct copy *copy = context;
    varve_status rc = VARVE_OK;

    if (copy->module_count == copy->module_room) {
        const size_t room = 2 * copy->module_room + 8;
        TRY(vv_resize(&copy->modules, room, sizeof *copy->modules));
        copy->module_room = room;
    }
    struct module_copy *module = &copy->modules[copy->module_count++];
    *module = (struct module_copy){ .page_count = 0 };
    memcpy(module->id.bytes, to != NULL ? to->key : from->key, sizeof module->id.bytes);
out:
    return rc;
}

static varve_status note_page(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    struct module_copy *module = ((struct copy *)context)->module;
    varve_status rc = VARVE_OK;

    (void)from;
    if (module->page_count == module->page_room) {
        const size_t room = 2 * module->page_room + 16;
        TRY(vv_resize(&module->pages, room, sizeof *module->pages));
        module->page_room = room;
    }
    struct vv_page_change *page = &module->pages[module->page_count++];
    *page = (struct vv_page_change){ .index = index };
    if (to != NULL)
        memcpy(page->hash, to->hash, VV_HASH_SIZE);
out:
    return rc;
}

/* The page's new bytes from the source; those it had, too, where the clone has them to build on. */
static varve_status read_page(struct copy *copy, const struct vv_module *module, struct vv_page_change *page,
                              uint8_t *bytes)
{
    const varve_store *from = copy->from;
    struct vv_leaf leaf = { .locator = 0 };
    bool present = false;
    varve_status rc = VARVE_OK;

    if (!vv_hash_is_zero(page->hash)) {
        TRY(vv_pagetree_get(&module->memory, page->index, &leaf, &present));
        VV_ASSERT(present);
        TRY(from->layout->read(from->place, &leaf, bytes));
        page->bytes = bytes;
    }
    if (copy->old == NULL || page->index >= copy->old->memory.page_count || page->bytes == NULL)
        goto out;
    TRY(vv_pagetree_get(&copy->old->memory, page->index, &leaf, &present));
    if (!present)
        goto out;
    TRY(copy->to->layout->read(copy->to->place, &leaf, bytes + VV_PAGE_SIZE));
    page->base = bytes + VV_PAGE_SIZE;
    page->base_locator = leaf.locator;
out:
    return rc;
}

/* The module as the clone is to have it: the source's, but with the tree that the clone has so far, and the
 * changed leaves in it. */
static varve_status make_module(struct copy *copy, struct vv_module *module)
{
    struct module_copy *made = copy->module;
    struct vv_pagetree tree;
    varve_status rc = VARVE_OK;

    TRY(vv_module_clone(module, &made->after));
    if (copy->old != NULL)
        vv_pagetree_copy(&tree, &copy->old->memory);
    else
        vv_pagetree_init(&tree, module->memory.page_count, NULL);
    vv_pagetree_release(&made->after->memory);
    made->after->memory = tree;
    if (made->after->memory.page_count != module->memory.page_count)
        TRY(vv_pagetree_resize(&made->after->memory, module->memory.page_count));
    for (size_t i = 0; i < made->page_count; i++) {
        struct vv_page_change *page = &made->pages[i];
        struct vv_leaf leaf = { .locator = 0 };
        TRY(read_page(copy, module, page, made->bytes + 2 * i * VV_PAGE_SIZE));
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        TRY(vv_pagetree_set(&made->after->memory, page->index, page->bytes == NULL ? NULL : &leaf));
    }
out:
    return rc;
}

/* Pages beyond the new end went with the length: they are no changes. */
static void drop_beyond(struct module_copy *module, uint64_t page_count)
{
    while (module->page_count > 0 && module->pages[module->page_count - 1].index >= page_count)
        module->page_count--;
}

static varve_status copy_module(struct copy *copy, struct module_copy *at)
{
    struct vv_module *was = NULL, *is = NULL;
    varve_status rc = VARVE_OK;

    copy->module = at;
    TRY(vv_state_get(&copy->was, &at->id, &was));
    TRY(vv_state_get(&copy->is, &at->id, &is));
    TRY(vv_state_get(&copy->begun, &at->id, &copy->old));
    if (is == NULL)
        return vv_state_remove(&copy->after, &at->id);
    TRY(vv_pagetree_diff(was == NULL ? NULL : &was->memory, &is->memory, note_page, copy));
    drop_beyond(at, is->memory.page_count);
    TRY(vv_alloc(&at->bytes, 2 * at->page_count, VV_PAGE_SIZE));
    TRY(make_module(copy, is));
    TRY(vv_state_set(&copy->after, at->after));
    if (!vv_hash_is_zero(is->code)) {
        uint8_t *code = NULL;
        size_t size = 0;
        rc = copy->from->layout->code_get(copy->from->place, is->code, &code, &size);
        if (rc == VARVE_OK)
            rc = copy->to->layout->code_put(copy->to->place, is->code, code, size);
        vv_free(code);
    }
out:
    return rc;
}

/* ---- Named values ------------------------------------------------------------------------------- */

struct meta_change {
    const struct vv_meta_pair **set;
    const char **removed;
};

static varve_status copy_meta(struct copy *copy, struct vv_change *change, struct meta_change *meta)
{
    const struct vv_meta_pair *pair = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&meta->set, copy->is.meta_count, sizeof *meta->set));
    TRY(vv_alloc(&meta->removed, copy->was.meta_count, sizeof *meta->removed));
    for (size_t i = 0; i < copy->is.meta_count; i++) {
        const struct vv_meta_pair *is = copy->is.meta[i];
        const struct vv_meta_pair *was = vv_state_meta(&copy->was, is->key);
        if (was != NULL && was->value_size == is->value_size &&
            memcmp(was->value, is->value, is->value_size) == 0)
            continue;
        TRY(vv_state_set_meta(&copy->after, is->key, is->value, is->value_size));
        meta->set[change->meta_set_count++] = is;
    }
    for (size_t i = 0; i < copy->was.meta_count; i++) {
        pair = copy->was.meta[i];
        if (vv_state_meta(&copy->is, pair->key) != NULL)
            continue;
        TRY(vv_state_set_meta(&copy->after, pair->key, NULL, 0));
        meta->removed[change->meta_removed_count++] = pair->key;
    }
    change->meta_set = meta->set;
    change->meta_removed = meta->removed;
out:
    return rc;
}

/* ---- One commit --------------------------------------------------------------------------------- */

/* The states to compare: the commit's, and its parent's where both stores have it. */
static varve_status open_states(struct copy *copy)
{
    varve_store *from = copy->from, *to = copy->to;
    struct vv_commit_facts parent = { .locator = 0 };
    varve_status rc = VARVE_OK;

    TRY(from->layout->view(from->place, &copy->facts, &copy->is));
    rc = vv_id_is_zero(&copy->facts.parent) ? VARVE_NOT_FOUND
                                            : from->layout->facts(from->place, &copy->facts.parent, &parent);
    if (rc == VARVE_OK)
        rc = to->layout->facts(to->place, &copy->facts.parent, &copy->base);
    copy->has_base = rc == VARVE_OK;
    if (copy->has_base) {
        TRY(from->layout->view(from->place, &parent, &copy->was));
        TRY(to->layout->view(to->place, &copy->base, &copy->begun));
    } else if (rc == VARVE_NOT_FOUND) {
        TRY(vv_state_init(&copy->was, NULL, NULL));
        TRY(vv_state_init(&copy->begun, NULL, NULL));
    }
    TRY(rc == VARVE_NOT_FOUND ? VARVE_OK : rc);
    TRY(vv_state_copy(&copy->after, &copy->begun));
out:
    vv_commit_facts_release(&parent);
    return rc;
}

static varve_status check_root(struct copy *copy)
{
    varve_root root;
    char hex[65];
    varve_status rc = VARVE_OK;

    TRY(vv_state_root(&copy->after, &root));
    if (memcmp(&root, &copy->facts.root, sizeof root) != 0) {
        vv_hex_format(copy->facts.id.bytes, hex);
        rc = vv_fail(VARVE_CORRUPT, "commit %.12s: its state has another root than it says", hex);
    }
out:
    return rc;
}

/* Where a layout keeps one line, main goes along: a commit that no ref names has no place there. */
static varve_status publish(struct copy *copy, struct vv_change *change)
{
    varve_store *to = copy->to;
    struct vv_ref_move move = { .name = "main", .to = &change->facts.id, .what = "commit", .force = true };
    struct vv_pending *pending = NULL;
    varve_status rc = VARVE_OK;

    TRY(to->layout->prepare(to->place, change, &pending));
    rc = to->layout->publish(to->place, change, pending,
                             (to->layout->can & VV_CAN_BRANCH) != 0 ? NULL : &move, VARVE_BUFFERED);
out:
    return rc;
}

static varve_status make_commit(struct copy *copy, uint64_t hold)
{
    struct vv_change change = { .hold = hold, .after = &copy->after };
    struct meta_change meta = { .set = NULL };
    struct vv_module_change *modules = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_trie_diff(&copy->was.trie, &copy->is.trie, note_module, copy));
    TRY(vv_alloc(&modules, copy->module_count, sizeof *modules));
    for (size_t i = 0; i < copy->module_count; i++)
        TRY(copy_module(copy, &copy->modules[i]));
    TRY(copy_meta(copy, &change, &meta));
    TRY(check_root(copy));
    TRY(vv_commit_facts_copy(&change.facts, &copy->facts));
    change.facts.number = change.facts.locator = change.facts.bytes_written = 0;
    change.base = copy->has_base ? &copy->base : NULL;
    for (size_t i = 0; i < copy->module_count; i++) {
        const struct module_copy *module = &copy->modules[i];
        modules[change.module_count++] = (struct vv_module_change){
            .id = module->id, .after = module->after, .pages = module->pages, .page_count = module->page_count
        };
    }
    change.modules = modules;
    rc = publish(copy, &change);
out:
    vv_commit_facts_release(&change.facts);
    vv_free(modules);
    vv_free(meta.set);
    vv_free(meta.removed);
    return rc;
}

/* A parent that was removed in the source: the clone steps over it as the source does. */
static varve_status bury_parent(struct copy *copy)
{
    const varve_store *from = copy->from, *to = copy->to;
    const varve_commit_id *parent = &copy->facts.parent;
    varve_commit_id before, known;
    varve_status rc = VARVE_OK;

    if (copy->has_base || vv_id_is_zero(parent))
        return VARVE_OK;
    TRY(from->layout->ancestor(from->place, parent, &before));
    TRY(to->layout->ancestor(to->place, parent, &known));
    if (!vv_id_equal(&before, parent) && vv_id_equal(&known, parent)) /* two may have the same parent */
        rc = to->layout->bury(to->place, parent, &before);
out:
    return rc;
}

static varve_status copy_commit(varve_store *from, varve_store *to, uint64_t number)
{
    struct copy copy = { .from = from, .to = to };
    varve_commit_id id;
    const uint64_t hold = to->layout->hold(to->place);
    varve_status rc = from->layout->find_number(from->place, number, &id);

    if (rc == VARVE_NOT_FOUND) { /* it was deleted */
        to->layout->drop(to->place, hold);
        return VARVE_OK;
    }
    TRY(rc);
    TRY(from->layout->facts(from->place, &id, &copy.facts));
    TRY(open_states(&copy));
    TRY(bury_parent(&copy));
    TRY(make_commit(&copy, copy.has_base ? hold : UINT64_MAX));
out:
    copy_release(&copy);
    to->layout->drop(to->place, hold);
    return rc;
}

static void tell(const struct vv_clone *clone, const varve_commit_id *commit, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void tell(const struct vv_clone *clone, const varve_commit_id *commit, const char *format, ...)
{
    const varve_clone_options *options = clone->options;
    char text[512];
    const varve_finding finding = { .severity = VARVE_DAMAGE, .commit = commit, .text = text };
    va_list arguments;

    if (options->finding == NULL)
        return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    options->finding(options->context, &finding);
}

/* A damaged commit is left out: in the clone it is as if it had been deleted. */
static varve_status leave_out(const struct vv_clone *clone, uint64_t number)
{
    const varve_store *from = clone->from, *to = clone->to;
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id id, before;
    char why[400];
    varve_status rc = VARVE_OK;

    (void)snprintf(why, sizeof why, "%s", vv_words());
    const bool known = from->layout->find_number(from->place, number, &id) == VARVE_OK;
    tell(clone, known ? &id : NULL, "r%llu was left out: %s", (unsigned long long)number, why);
    if (!known || from->layout->facts(from->place, &id, &facts) != VARVE_OK)
        goto out; /* not even what it was can be read */
    TRY(to->layout->ancestor(to->place, &facts.parent, &before));
    rc = to->layout->bury(to->place, &id, &before);
out:
    vv_commit_facts_release(&facts);
    return rc;
}

static varve_status copy_commits(const struct vv_clone *clone)
{
    const varve_clone_options *options = clone->options;
    const uint64_t last = clone->from->layout->last_number(clone->from->place);
    varve_status rc = VARVE_OK;

    for (uint64_t number = 1; number <= last; number++) {
        const varve_progress progress = {
            .what = "copying", .done = number - 1, .total = last, .unit = "commits"
        };
        if (options->progress != NULL && options->progress(options->context, &progress) != 0)
            return vv_fail(VARVE_CANCELLED, "the clone was stopped: what there is of it can be removed");
        rc = copy_commit(clone->from, clone->to, number);
        if (rc == VARVE_CORRUPT && (options->flags & VARVE_CLONE_SALVAGE) != 0)
            rc = leave_out(clone, number);
        else if (rc == VARVE_CORRUPT)
            rc = vv_fail_within(rc, "r%llu is damaged (`varve clone --salvage` leaves it out)",
                                (unsigned long long)number);
        TRY(rc);
    }
out:
    return rc;
}

/* ---- Refs --------------------------------------------------------------------------------------- */

static bool is_there(varve_store *store, const varve_commit_id *id)
{
    varve_commit_id found[2];
    size_t count = 0;

    return store->layout->find_id(store->place, id->bytes, 64, found, &count) == VARVE_OK && count > 0;
}

static varve_status move_ref(varve_store *to, const char *name, const struct vv_move_facts *facts)
{
    struct vv_ref_move move = { .what = facts->what, .force = true };

    if (!vv_id_is_zero(&facts->to))
        move.to = &facts->to;
    memcpy(move.name, name, strlen(name) + 1);
    return to->layout->move_refs(to->place, &move, 1, facts->time_ns);
}

/* All moves of a ref, newest first, of which those are left out that name what was not copied. */
static varve_status moves_of(varve_store *from, varve_store *to, const char *name,
                             struct vv_move_facts **moves, size_t *count)
{
    struct vv_move_facts move = { .locator = 0 };
    varve_status rc = VARVE_OK;

    *count = 0;
    do {
        rc = from->layout->ref_move(from->place, name, move.previous, &move);
        if (rc == VARVE_END)
            return VARVE_OK;
        TRY(rc);
        if (!vv_id_is_zero(&move.to) && !is_there(to, &move.to))
            continue;
        TRY(vv_resize(moves, *count + 1, sizeof **moves));
        (*moves)[(*count)++] = move;
    } while (move.previous != 0);
out:
    return rc;
}

/* Where a ref is to stand: where it stands in the source, or, when that was left out, before it. */
static varve_status place_of(const struct vv_clone *clone, const struct vv_ref_facts *ref,
                             varve_commit_id *at)
{
    const varve_store *to = clone->to;
    varve_status rc = VARVE_OK;

    *at = ref->commit;
    if (is_there(clone->to, at))
        return VARVE_OK;
    TRY(to->layout->ancestor(to->place, &ref->commit, at));
    if (!is_there(clone->to, at))
        *at = (varve_commit_id){ { 0 } };
    tell(clone, &ref->commit, "%s named it, and %s", ref->name,
         vv_id_is_zero(at) ? "is left out too" : "goes back to its nearest ancestor that was copied");
out:
    return rc;
}

static varve_status copy_ref(const struct vv_clone *clone, const struct vv_ref_facts *ref)
{
    const bool line = (clone->to->layout->can & VV_CAN_BRANCH) == 0;
    struct vv_move_facts *moves = NULL;
    struct vv_move_facts last = { .what = "restore" };
    struct vv_ref_facts stands = { .moves = 0 };
    size_t count = 0;
    varve_status rc = VARVE_OK;

    /* Where main went along with the commits, it is only moved to where it stands. */
    rc = clone->to->layout->ref_get(clone->to->place, ref->name, &stands);
    if (!line || rc == VARVE_NOT_FOUND) {
        TRY(moves_of(clone->from, clone->to, ref->name, &moves, &count));
        while (count > 0) {
            stands.commit = moves[--count].to;
            TRY(move_ref(clone->to, ref->name, &moves[count]));
        }
    }
    TRY(place_of(clone, ref, &last.to));
    rc = vv_id_equal(&stands.commit, &last.to) ? VARVE_OK : move_ref(clone->to, ref->name, &last);
out:
    vv_free(moves);
    return rc;
}

static varve_status copy_refs(const struct vv_clone *clone)
{
    const varve_store *from = clone->from;
    struct vv_ref_facts ref = { .moves = 0 };
    char after[sizeof ref.name] = "";
    varve_status rc = VARVE_OK;

    while ((rc = from->layout->ref_next(from->place, after[0] == '\0' ? NULL : after, &ref)) == VARVE_OK) {
        memcpy(after, ref.name, sizeof after);
        TRY(copy_ref(clone, &ref));
    }
out:
    return rc == VARVE_END ? VARVE_OK : rc;
}

/* A layout of one line has no place for branches: better known before the first byte than after the last. */
static varve_status check_refs(varve_store *from, const struct vv_layout *layout)
{
    struct vv_ref_facts ref = { .moves = 0 };
    char after[sizeof ref.name] = "";
    varve_status rc = VARVE_OK;

    if ((layout->can & VV_CAN_BRANCH) != 0)
        return VARVE_OK;
    while ((rc = from->layout->ref_next(from->place, after[0] == '\0' ? NULL : after, &ref)) == VARVE_OK) {
        memcpy(after, ref.name, sizeof after);
        if (strcmp(ref.name, "main") != 0 && strncmp(ref.name, "tags/", 5) != 0)
            return vv_fail(
                VARVE_UNSUPPORTED,
                "the layout %s keeps one line, main, and tags, and the store has the branch %s: delete "
                "it, or clone to the layout tree or journal",
                layout->name, ref.name);
    }
    return rc == VARVE_END ? VARVE_OK : rc;
}

/* ---- All of it ---------------------------------------------------------------------------------- */

/* Can the source's files be copied as they are? Only those of the same layout that hold still: a layout with
 * readers beside a writer is asked to keep the writer out for a while, and if one is there already, it is not
 * possible. */
static bool hold_still(varve_store *source, const struct vv_layout *layout, bool *locked)
{
    *locked = false;
    if (layout != source->layout || !source->read_only)
        return false;
    if ((layout->can & VV_CAN_READ_BESIDE) != 0)
        *locked = vv_file_lock(&source->lock, VV_LOCK_SHARED, 0, 1, 0) == VARVE_OK;
    return *locked || (layout->can & VV_CAN_READ_BESIDE) == 0;
}

varve_status vv_store_clone(varve_store *source, const struct vv_vfs *vfs, const char *path,
                            const varve_clone_options *options)
{
    const varve_store_options make = {
        .size = sizeof make,
        .flags = VARVE_STORE_CREATE | VARVE_STORE_NO_THREADS,
        .layout = options->layout == VARVE_LAYOUT_DEFAULT ? source->layout->id : options->layout,
    };
    const struct vv_layout *layout = vv_layout_with(make.layout);
    const uint64_t hold = source->layout->hold(source->place); /* (C1) */
    struct vv_layout_stat stat = { .damaged = false };
    bool locked = false;
    const bool as_files = (options->flags & VARVE_CLONE_SALVAGE) == 0 && hold_still(source, layout, &locked);
    varve_store *made = NULL;
    varve_status rc = VARVE_OK;

    source->layout->stat(source->place, &stat);
    if (stat.damaged && (options->flags & VARVE_CLONE_SALVAGE) == 0)
        TRY(vv_fail(
            VARVE_CORRUPT,
            "the store is damaged: `varve fsck` tells what, `varve clone --salvage` leaves that out"));
    if (layout != NULL)
        TRY(check_refs(source, layout));
    TRY(vv_store_begin_clone(vfs, path, &make, as_files ? source : NULL, &made));
    if (!as_files) {
        const struct vv_clone clone = { .from = source, .to = made, .options = options };
        TRY(copy_commits(&clone));
        TRY(copy_refs(&clone));
    }
    TRY(made->layout->persist(made->place));
    TRY(vv_store_end_clone(made));
out:
    if (rc != VARVE_OK)
        rc = vv_fail_within(rc, "clone to %s", path);
    vv_store_close(made);
    if (locked)
        (void)vv_file_lock(&source->lock, VV_LOCK_RELEASE, 0, 1, 0);
    source->layout->drop(source->place, hold);
    return rc;
}
