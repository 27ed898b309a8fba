/* working.c - the modules and images of a session: see session.h.
 *
 * A module's memory becomes an image at first use: the warm one from the pool, or one filled from the layout. Fields
 * are replaced, never changed in place: records of undo, the state and other sessions hold them too. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "page/root.h"
#include "store/revision.h"
#include "store/session.h"

/* Bytes of changed pages that an image keeps for its next commit: reading one back from the log costs as much as
 * all the rest of committing it. */
enum { SHADOW_BUDGET = 64 << 20 };
#ifdef VV_TORTURE
enum { MOVE_ABOVE = 8 << 10 };
#else
enum { MOVE_ABOVE = 1 << 20 }; /* private bytes from which on it pays to look for a nearer file */
#endif
#define RESERVE_DEFAULT (UINT64_C(4) << 30)

/* ---- Images ----------------------------------------------------------------------------------- */

/* What the image holds is what a commit holds: the next session on it need not fill one of its own. */
static void image_give(varve_image *image)
{
    uint8_t root[VV_HASH_SIZE];

    if (image->origin == NULL || image->image == NULL ||
        vv_pagetree_root(&image->origin->memory, root) != VARVE_OK)
        return;
    vv_pool_give(image->session->store->pool, image->origin->id.bytes, root, image->image);
    image->image = NULL;
}

static void image_free(varve_image *image)
{
    vv_image_free(image->image);
    vv_module_drop(image->origin);
    vv_free(image);
}

void vv_session_free_images(varve_session *session, bool warm)
{
    for (varve_image *image = session->images, *next = NULL; image != NULL; image = next) {
        next = image->next;
        if (warm)
            image_give(image);
        image_free(image);
    }
    session->images = NULL;
}

static varve_status read_base(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    const varve_image *image = context;
    const varve_store *store = image->session->store;
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    if (image->origin != NULL && index < image->origin->memory.page_count)
        TRY(vv_pagetree_get(&image->origin->memory, index, &leaf, &present));
    if (present)
        TRY(store->layout->read(store->place, &leaf, page));
    else
        memset(page, 0, VV_PAGE_SIZE);
out:
    return rc;
}

static varve_status fill_page(void *context, uint64_t index, const uint8_t *page)
{
    return vv_image_fill(context, index, page, 1);
}

/* The warm image of this memory, if there is one as large as wanted. */
static struct vv_image *take_warm(varve_session *session, struct vv_module *origin,
                                  const struct vv_image_config *config)
{
    const varve_store *store = session->store;
    uint8_t root[VV_HASH_SIZE];

    if (origin == NULL || vv_pagetree_root(&origin->memory, root) != VARVE_OK)
        return NULL;
    struct vv_image *image =
        vv_pool_take_at(store->pool, origin->id.bytes, root, config->limit, config->address);
    const bool sound = image != NULL && (vv_image_backed_pages(image) == 0 ||
                                         vv_image_noted(image) >= store->layout->source_sound(store->place));
    if (image != NULL && (!sound || vv_image_reserve(image) < config->reserve)) {
        vv_image_free(image);
        image = NULL;
    }
    return image;
}

/* A file below an image, until no mapping of it is left. */
struct backing {
    varve_store *store; /* outlives its images */
    struct vv_source source;
};

static void end_backing(void *context)
{
    struct backing *backing = context;

    backing->store->layout->source_end(backing->store->place, &backing->source);
    vv_free(backing);
}

/* The nearest file for this memory; NULL when there is none. A cache never makes an opening fail. */
static struct backing *find_backing(varve_store *store, const struct vv_module *origin)
{
    struct backing *backing = NULL;

    if (vv_alloc(&backing, 1, sizeof *backing) != VARVE_OK)
        return NULL;
    backing->store = store;
    store->layout->source(store->place, &origin->id, &origin->memory, &backing->source);
    if (backing->source.file.fd >= 0 && backing->source.pages > 0)
        return backing;
    end_backing(backing);
    return NULL;
}

static struct vv_backing as_backing(struct backing *backing)
{
    return (struct vv_backing){ .file = &backing->source.file,
                                .offset = backing->source.offset,
                                .pages = backing->source.pages,
                                .release = end_backing,
                                .context = backing };
}

/* A file below, which is taken over, and what differs on top; `backing` NULL: everything is read. */
static varve_status fill_image(varve_session *session, struct vv_module *origin, uint64_t size,
                               const struct vv_image_config *config, struct backing *backing,
                               struct vv_image **out)
{
    const varve_store *store = session->store;
    const struct vv_pagetree *from = backing == NULL ? NULL : backing->source.tree;
    struct vv_tracker *tracker = NULL;
    struct vv_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_store_tracker(session->store, &tracker));
    TRY(vv_image_new(tracker, config, &image));
    TRY(vv_image_set_size(image, size));
    if (backing != NULL) {
        const struct vv_backing below = as_backing(backing);
        TRY(vv_image_back(image, &below));
        backing = NULL;
    }
    if (origin != NULL)
        TRY(store->layout->read_diff(store->place, from, &origin->memory, fill_page, image));
    *out = image;
    image = NULL;
out:
    if (backing != NULL)
        end_backing(backing);
    vv_image_free(image);
    return rc;
}

static varve_status map_image(varve_session *session, struct vv_module *origin, uint64_t size,
                              const struct vv_image_config *config, struct vv_image **out)
{
    varve_store *store = session->store;
    const uint64_t version = store->layout->source_version(store->place);
    struct backing *backing = origin == NULL ? NULL : find_backing(store, origin);
    varve_status rc = VARVE_OK;

    vv_worker_need(&store->worker); /* files that fail are made anew in the background */
    if (backing != NULL) {
        rc = fill_image(session, origin, size, config, backing, out);
        if (rc == VARVE_OK)
            vv_image_note(*out, version);
        if (rc != VARVE_CORRUPT)
            return rc;
    }
    rc = fill_image(session, origin, size, config, NULL, out);
    if (rc == VARVE_OK)
        vv_image_note(*out, version);
    return rc;
}

/* ---- Moving to a nearer file ------------------------------------------------------------------ */

/* Pages of the base that a file has not. */
struct lacking {
    uint32_t *pages;
    size_t count, capacity, most;
    uint64_t page_count;
};

static varve_status list_lacking(void *context, uint64_t index, const struct vv_leaf *from,
                                 const struct vv_leaf *to)
{
    struct lacking *lacking = context;

    (void)from;
    (void)to;
    if (index >= lacking->page_count)
        return VARVE_OK;
    if (lacking->count == lacking->most)
        return VARVE_END;
    if (lacking->count == lacking->capacity) {
        const size_t capacity = lacking->capacity == 0 ? 64 : 2 * lacking->capacity;
        const varve_status rc = vv_resize(&lacking->pages, capacity, sizeof *lacking->pages);
        if (rc != VARVE_OK)
            return rc;
        lacking->capacity = capacity;
    }
    lacking->pages[lacking->count++] = (uint32_t)index;
    return VARVE_OK;
}

/* A clean image whose base is `origin` moves to a file that was written since it was mapped, when that sets at least
 * half of its private memory free; one that a C program may be writing to only leans on it, for its base bytes. Not
 * doing so is no failure, unless the image was lost over it (HOST_LIMIT). */
static varve_status move_image(varve_store *store, struct vv_image *image, const struct vv_module *origin)
{
    const uint64_t version = store->layout->source_version(store->place);
    const uint64_t private_bytes = vv_image_private_bytes(image);
    struct lacking lacking = { .page_count = origin->memory.page_count,
                               .most = (size_t)(private_bytes / VV_PAGE_SIZE / 2) };
    struct backing *backing = NULL;
    bool taken = true;
    varve_status rc = VARVE_OK;

    if (version == vv_image_noted(image) || private_bytes < MOVE_ABOVE)
        return VARVE_OK;
    vv_image_note(image, version);
    backing = find_backing(store, origin);
    if (backing == NULL)
        return VARVE_OK;
    rc = vv_pagetree_diff(backing->source.tree, &origin->memory, list_lacking, &lacking);
    if (rc == VARVE_OK) {
        const struct vv_backing file = as_backing(backing);
        rc = vv_image_exposed(image) ? vv_image_lean(image, &file, lacking.pages, lacking.count, &taken)
                                     : vv_image_move(image, &file, lacking.pages, lacking.count);
        if (rc == VARVE_OK && taken)
            backing = NULL;
    }
    if (backing != NULL)
        end_backing(backing);
    vv_free(lacking.pages);
    return rc == VARVE_HOST_LIMIT ? rc : VARVE_OK;
}

static bool can_come_back(const varve_session *session, const varve_image *image)
{
    for (size_t i = 0; i < session->undo_count; i++)
        if (session->undo[i].working != NULL && session->undo[i].before.image == image)
            return true;
    return image->working->image == image && !image->working->removed;
}

/* Nobody is in the way at an address of the caller's but who is in use: neither a warm image nor one of this session
 * that was removed for good. */
static void make_room(varve_session *session, const struct vv_image_config *config)
{
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        if (image->image == NULL || !vv_image_placed(image->image) || can_come_back(session, image))
            continue;
        vv_image_free(image->image);
        image->image = NULL;
    }
    vv_pool_clear(session->store->pool, config->address, config->reserve + VV_IMAGE_GUARD);
}

/* An image whose base is the memory of `origin`, or `size` zeros. The session has it; no module yet. */
static varve_status make_image(varve_session *session, struct vv_working *working, struct vv_module *origin,
                               uint64_t size, const struct vv_image_config *config, varve_image **out)
{
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&image, 1, sizeof *image));
    *image = (varve_image){ .session = session, .working = working };
    if (origin != NULL) {
        vv_module_hold(origin);
        image->origin = origin;
    }
    image->image = take_warm(session, origin, config);
    if (image->image == NULL && config->address != NULL)
        make_room(session, config);
    if (image->image == NULL)
        TRY(map_image(session, origin, size, config, &image->image));
    TRY(vv_image_arm(image->image, read_base, image));
    if (origin != NULL)
        TRY(move_image(session->store, image->image, origin));
    image->next = session->images;
    session->images = image;
    *out = image;
    image = NULL;
out:
    if (image != NULL)
        image_free(image);
    return rc;
}

varve_status vv_session_rebase_image(varve_image *image, struct vv_module *origin)
{
    varve_status rc = VARVE_OK;

    if (origin != NULL)
        vv_module_hold(origin);
    rc = vv_image_rebase(image->image, read_base, image, SHADOW_BUDGET);
    vv_module_drop(image->origin);
    image->origin = origin;
    if (rc == VARVE_OK && origin != NULL)
        rc = move_image(image->session->store, image->image, origin);
    return rc;
}

static struct vv_image_config config_of(uint64_t limit)
{
    const uint64_t most = limit == 0 ? RESERVE_DEFAULT : limit;

    return (struct vv_image_config){ .limit = most,
                                     .reserve = most < RESERVE_DEFAULT ? RESERVE_DEFAULT : most };
}

static varve_status open_image(varve_session *session, struct vv_working *working,
                               const struct vv_image_config *config)
{
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    if (working->image != NULL)
        return VARVE_OK;
    TRY(make_image(session, working, working->base, working->fields->memory.page_count * VV_PAGE_SIZE, config,
                   &image));
    /* It is as it was at every savepoint there is; whoever entered before it was open writes without a settle. */
    if (session->depth > 0)
        TRY(vv_image_settle(image->image, session->depth));
    working->image = image;
out:
    return rc;
}

varve_status vv_session_image(varve_session *session, struct vv_working *working, uint64_t limit,
                              struct vv_image **image)
{
    const struct vv_image_config config = config_of(limit);
    const varve_status rc = open_image(session, working, &config);

    if (rc == VARVE_OK)
        *image = working->image->image;
    return rc;
}

varve_status vv_session_enter(varve_session *session, struct vv_working *working)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    if (session->depth > working->settled_depth) {
        if (working->guest != NULL)
            TRY(session->hooks.capture(session->hooks.context, working));
        TRY(vv_session_keep(session, working));
    }
    if (working->image != NULL) {
        if (!working->image->exposed)
            vv_image_enter(working->image->image);
        if (session->depth > 0)
            TRY(vv_image_settle(working->image->image, session->depth));
    }
out:
    return rc;
}

/* ---- Modules ---------------------------------------------------------------------------------- */

static varve_status no_module(const varve_module_id *id)
{
    char text[65];

    vv_hex_format(id->bytes, text);
    return vv_fail(VARVE_NOT_FOUND, "the state has no module or image with the id %.12s", text);
}

static varve_status new_working(varve_session *session, const varve_module_id *id, struct vv_working **out)
{
    struct vv_working *working = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&working, 1, sizeof *working));
    working->id = *id;
    working->removed = true;
    TRY(vv_table_put(&session->workings, id, (union vv_value){ .pointer = working }));
    *out = working;
    working = NULL;
out:
    vv_free(working);
    return rc;
}

varve_status vv_session_working(varve_session *session, const varve_module_id *id, struct vv_working **out)
{
    union vv_value *value = vv_table_get(&session->workings, id);
    struct vv_working *working = value == NULL ? NULL : value->pointer;
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    if (working == NULL) {
        TRY(vv_state_get(&session->now, id, &module));
        if (module == NULL)
            return no_module(id);
        TRY(new_working(session, id, &working));
        vv_module_hold(module);
        vv_module_hold(module);
        working->base = working->fields = module;
        working->removed = false;
    }
    if (working->removed)
        return no_module(id);
    *out = working;
out:
    return rc;
}

/* Keep a copy of bytecode until the session ends. */
static varve_status lend_code(varve_session *session, const uint8_t hash[VV_HASH_SIZE], uint8_t *code,
                              size_t size, const uint8_t **lent)
{
    struct vv_lent_code *keep = NULL;
    const varve_status rc = vv_alloc(&keep, 1, sizeof *keep);

    if (rc != VARVE_OK) {
        vv_free(code);
        return rc;
    }
    *keep = (struct vv_lent_code){ .next = session->codes, .code = code, .size = size };
    memcpy(keep->hash, hash, sizeof keep->hash);
    session->codes = keep;
    *lent = code;
    return VARVE_OK;
}

static varve_status lend_copy(varve_session *session, const struct vv_module *fields, const void *code,
                              size_t size, const uint8_t **lent)
{
    uint8_t *copy = NULL;
    varve_status rc = VARVE_OK;

    *lent = NULL;
    if (code == NULL)
        return VARVE_OK;
    TRY(vv_memdup(&copy, code, size));
    TRY(lend_code(session, fields->code, copy, size, lent));
out:
    return rc;
}

varve_status vv_session_code(varve_session *session, struct vv_working *working, const uint8_t **code,
                             size_t *size)
{
    const varve_store *store = session->store;
    uint8_t *loaded = NULL;
    varve_status rc = VARVE_OK;

    for (const struct vv_lent_code *lent = session->codes; lent != NULL; lent = lent->next)
        if (memcmp(lent->hash, working->fields->code, sizeof lent->hash) == 0) {
            *code = lent->code;
            *size = lent->size;
            return VARVE_OK;
        }
    TRY(store->layout->code_get(store->place, working->fields->code, &loaded, size));
    TRY(lend_code(session, working->fields->code, loaded, *size, code));
out:
    return rc;
}

/* As vv_session_add, with all that can be said of the image. */
static varve_status add_module(varve_session *session, struct vv_module *fields, const void *code,
                               size_t code_size, uint64_t size, const struct vv_image_config *config,
                               struct vv_working **out)
{
    struct vv_working *working = NULL;
    const uint8_t *lent = NULL;
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    rc = vv_session_working(session, &fields->id, &working);
    if (rc == VARVE_OK)
        rc = vv_fail(VARVE_EXISTS, "the state has %s already: remove it first, or give another name",
                     fields->name[0] == '\0' ? "this id" : fields->name);
    if (rc != VARVE_NOT_FOUND)
        goto out;
    union vv_value *value = vv_table_get(&session->workings, &fields->id);
    if (value != NULL)
        working = value->pointer;
    else
        TRY(new_working(session, &fields->id, &working));

    vv_pagetree_release(&fields->memory);
    vv_pagetree_init(&fields->memory, size / VV_PAGE_SIZE, NULL);
    TRY(lend_copy(session, fields, code, code_size, &lent));
    TRY(make_image(session, working, NULL, size, config, &image));
    if (session->depth > 0)
        TRY(vv_image_settle(image->image, session->depth));
    TRY(vv_session_keep(session, working));
    TRY(vv_state_set(&session->now, fields)); /* from here on nothing fails */
    vv_module_drop(working->fields);
    working->fields = fields;
    fields = NULL;
    working->image = image;
    working->removed = false;
    working->created = true;
    working->code = lent;
    working->code_size = lent == NULL ? 0 : code_size;
    *out = working;
out:
    vv_module_drop(fields);
    return rc;
}

varve_status vv_session_add(varve_session *session, struct vv_module *fields, const void *code,
                            size_t code_size, uint64_t size, uint64_t limit, struct vv_working **working)
{
    const struct vv_image_config config = config_of(limit);

    return add_module(session, fields, code, code_size, size, &config, working);
}

varve_status vv_session_remove_module(varve_session *session, struct vv_working *working)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_enter(session, working));
    TRY(vv_state_remove(&session->now, &working->id));
    if (working->guest != NULL)
        session->hooks.discard(session->hooks.context, working);
    working->removed = true;
    working->code = NULL;
out:
    return rc;
}

varve_status vv_session_replace(varve_session *session, struct vv_working *working, struct vv_module *fields,
                                const void *code, size_t code_size)
{
    const uint8_t *lent = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_enter(session, working));
    TRY(lend_copy(session, fields, code, code_size, &lent));
    vv_pagetree_release(&fields->memory);
    vv_pagetree_copy(&fields->memory, &working->fields->memory);
    if (working->guest != NULL)
        session->hooks.discard(session->hooks.context, working);
    vv_module_drop(working->fields);
    working->fields = fields;
    fields = NULL;
    working->code = lent;
    working->code_size = lent == NULL ? 0 : code_size;
out:
    vv_module_drop(fields);
    return rc;
}

varve_status vv_session_set_instance(varve_session *session, struct vv_working *working, const void *bytes,
                                     size_t size)
{
    struct vv_module *fields = working->fields;
    struct vv_module *clone = NULL;
    uint8_t *copy = NULL;
    varve_status rc = VARVE_OK;

    (void)session;
    if (size == fields->instance_size && (size == 0 || memcmp(bytes, fields->instance, size) == 0))
        return VARVE_OK;
    TRY(vv_memdup(&copy, bytes, size));
    TRY(vv_module_clone(fields, &clone));
    vv_free(clone->instance);
    clone->instance = copy;
    clone->instance_size = size;
    copy = NULL;
    working->fields = clone;
    vv_module_drop(fields);
out:
    vv_free(copy);
    return rc;
}

/* ---- Images in the hands of a C program ------------------------------------------------------- */

static varve_status fields_of(const varve_module_id *id, const varve_image_options *options,
                              struct vv_module **out)
{
    struct vv_module *fields = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_module_new(&fields));
    fields->id = *id;
    fields->kind = VARVE_KIND_IMAGE;
    if (options->name != NULL)
        (void)snprintf(fields->name, sizeof fields->name, "%s", options->name);
    *out = fields;
out:
    return rc;
}

static varve_status check_image_options(const varve_module_id *id, const varve_image_options *options)
{
    uint8_t named[32];

    if (options->create_size % VV_PAGE_SIZE != 0)
        return vv_fail(VARVE_MISUSE, "the size of an image is a multiple of %u, %llu is none", VV_PAGE_SIZE,
                       (unsigned long long)options->create_size);
    if (options->reserve % VV_PAGE_SIZE != 0 || (uintptr_t)options->address % VV_PAGE_SIZE != 0)
        return vv_fail(VARVE_MISUSE, "what an image reserves, and its address, are multiples of %u",
                       VV_PAGE_SIZE);
    if (options->name == NULL)
        return VARVE_OK;
    const varve_status rc = vv_module_name_check(options->name);
    if (rc != VARVE_OK)
        return rc;
    vv_name_id(options->name, named);
    if (memcmp(named, id->bytes, sizeof named) != 0)
        return vv_fail(VARVE_MISUSE, "the id given is not the one that the name \"%s\" stands for",
                       options->name);
    return VARVE_OK;
}

varve_status vv_session_open_image(varve_session *session, const varve_module_id *id,
                                   const varve_image_options *options, varve_image **out)
{
    const uint64_t reserve = options->reserve == 0 ? RESERVE_DEFAULT : options->reserve;
    const struct vv_image_config config = { .reserve = reserve,
                                            .limit = reserve,
                                            .address = options->address };
    struct vv_working *working = NULL;
    struct vv_module *fields = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(check_image_options(id, options));
    rc = vv_session_working(session, id, &working);
    if (rc == VARVE_NOT_FOUND && options->create_size > 0) {
        TRY(fields_of(id, options, &fields));
        TRY(add_module(session, fields, NULL, 0, options->create_size, &config, &working));
    }
    TRY(rc);
    TRY(open_image(session, working, &config));
    varve_image *image = working->image;
    if (options->address != NULL && vv_image_bytes(image->image) != options->address) {
        rc = vv_fail(VARVE_HOST_LIMIT, "the image is open at another address already");
        goto out;
    }
    if (!image->exposed) {
        vv_image_expose(image->image);
        image->exposed = true;
        session->exposed++;
        TRY(vv_session_enter(session, working));
    }
    *out = image;
out:
    return rc;
}

static varve_status check_image(const varve_image *image)
{
    if (image->working->image != image || image->working->removed)
        return vv_fail(VARVE_MISUSE, "the image is no longer in the session's state");
    return vv_session_usable(image->session);
}

static varve_status check_range(const varve_image *image, uint64_t offset, size_t size)
{
    const varve_status rc = check_image(image);

    if (rc != VARVE_OK)
        return rc;
    const uint64_t length = vv_image_size(image->image);
    if (offset > length || size > length - offset)
        return vv_fail(VARVE_MISUSE, "%zu bytes at %llu are not inside the image, which has %llu", size,
                       (unsigned long long)offset, (unsigned long long)length);
    return VARVE_OK;
}

varve_status vv_session_grow_image(varve_image *image, uint64_t size)
{
    varve_session *session = image->session;
    struct vv_working *working = image->working;
    const uint64_t unit = working->fields->kind == VARVE_KIND_IMAGE ? VV_PAGE_SIZE : VV_WASM_PAGE_SIZE;
    varve_status rc = VARVE_OK;

    TRY(check_image(image));
    if (size % unit != 0 || size < vv_image_size(image->image))
        return vv_fail(VARVE_MISUSE,
                       "an image grows to a multiple of %llu that is not below its size, %llu is none",
                       (unsigned long long)unit, (unsigned long long)size);
    TRY(vv_session_enter(session, working));
    if (working->guest != NULL) {
        /* A live instance keeps the length it saw last. */
        TRY(session->hooks.capture(session->hooks.context, working));
        session->hooks.discard(session->hooks.context, working);
    }
    TRY(vv_image_grow(image->image, size));
out:
    return rc;
}

varve_status vv_session_read_image(const varve_image *image, uint64_t offset, void *data, size_t size)
{
    const varve_status rc = check_range(image, offset, size);

    if (rc == VARVE_OK && size > 0)
        memcpy(data, vv_image_bytes(image->image) + offset, size);
    return rc;
}

varve_status vv_session_write_image(varve_image *image, uint64_t offset, const void *data, size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(check_range(image, offset, size));
    TRY(vv_session_enter(image->session, image->working));
    if (size > 0)
        memcpy(vv_image_bytes(image->image) + offset, data, size);
out:
    return rc;
}
