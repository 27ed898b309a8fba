/* past.c - see past.h. */
#include "past.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "page/root.h"
#include "store/session.h"

static unsigned find_ref(const struct past *past, const char *name)
{
    unsigned i = 0;

    while (i < past->ref_count && strcmp(past->refs[i].name, name) != 0)
        i++;
    return i;
}

unsigned past_stands(const struct past *past, const char *name)
{
    const unsigned ref = find_ref(past, name);

    return ref < past->ref_count ? past->refs[ref].commit : PAST_COMMITS;
}

static void note_ref(struct past *past, const char *name, unsigned commit)
{
    const unsigned ref = find_ref(past, name);

    VV_ASSERT(ref < PAST_REFS);
    if (ref == past->ref_count)
        past->ref_count++;
    (void)snprintf(past->refs[ref].name, sizeof past->refs[ref].name, "%s", name);
    past->refs[ref].commit = commit;
}

varve_status past_commit(struct past *past, varve_store *store, const char *branch, unsigned from,
                         varve_durability durability)
{
    varve_status rc = VARVE_OK;
    const unsigned number = past->commit_count;
    const unsigned stood = past_stands(past, branch);
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts made = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &made.id };
    struct model_state state = { .meta = 0 };
    char message[16];

    VV_ASSERT(number < PAST_COMMITS);
    from = stood == PAST_COMMITS ? from : stood;
    if (from < PAST_COMMITS) {
        state = past->commits[from].state;
        TRY(store->layout->facts(store->place, &past->commits[from].id, &parent));
    }
    if (stood < PAST_COMMITS)
        move.expected = &parent.id;
    (void)snprintf(move.name, sizeof move.name, "%s", branch);
    (void)snprintf(message, sizeof message, "%u", number);
    for (unsigned i = 0; i < 4; i++)
        model_mutate(&state, &past->chance);
    state.meta = number + 1;
    TRY(model_commit(store->layout, store->place, from < PAST_COMMITS ? &past->commits[from].state : NULL,
                     from < PAST_COMMITS ? &parent : NULL, &state, message, &move, durability, &made));
    past->commits[number].id = made.id;
    past->commits[number].state = state;
    past->commits[number].deleted = false;
    past->commit_count++;
    note_ref(past, branch, number);
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

varve_status past_ref(struct past *past, varve_store *store, const char *name, unsigned commit)
{
    struct vv_ref_move move = { .what = "create", .to = &past->commits[commit].id, .force = true };

    (void)snprintf(move.name, sizeof move.name, "%s", name);
    const varve_status rc = store->layout->move_refs(store->place, &move, 1, 1000);
    if (rc == VARVE_OK)
        note_ref(past, name, commit);
    return rc;
}

varve_status past_ref_gone(struct past *past, varve_store *store, const char *name)
{
    struct vv_ref_move move = { .what = "delete", .force = true };
    const unsigned ref = find_ref(past, name);

    (void)snprintf(move.name, sizeof move.name, "%s", name);
    const varve_status rc = store->layout->move_refs(store->place, &move, 1, 1000);
    if (rc == VARVE_OK && ref < past->ref_count)
        past->refs[ref] = past->refs[--past->ref_count];
    return rc;
}

bool past_is_named(const struct past *past, unsigned commit)
{
    for (unsigned i = 0; i < past->ref_count; i++)
        if (past->refs[i].commit == commit)
            return true;
    return false;
}

varve_status past_remove(struct past *past, varve_store *store, unsigned commit)
{
    const varve_status rc = store->layout->remove(store->place, &past->commits[commit].id, 1, 1000);

    past->commits[commit].deleted = past->commits[commit].deleted || rc == VARVE_OK;
    return rc;
}

varve_status past_tidy(varve_store *store, uint64_t budget)
{
    varve_status rc = VARVE_OK;
    bool more = true;

    while (rc == VARVE_OK && more)
        rc = store->layout->tidy(store->place, budget, &more);
    return rc;
}

static void code_bytes(unsigned code, uint8_t bytes[PAST_CODE_SIZE], uint8_t hash[VV_HASH_SIZE])
{
    struct model_chance chance = { .state = code + 77 };

    for (unsigned i = 0; i < PAST_CODE_SIZE; i++)
        bytes[i] = (uint8_t)model_chance(&chance, 256);
    vv_code_hash(bytes, PAST_CODE_SIZE, hash);
}

varve_status past_code(struct past *past, varve_store *store)
{
    uint8_t bytes[PAST_CODE_SIZE];
    uint8_t hash[VV_HASH_SIZE];

    VV_ASSERT(past->code_count < PAST_CODES);
    code_bytes(past->code_count, bytes, hash);
    const varve_status rc = store->layout->code_put(store->place, hash, bytes, sizeof bytes);
    past->code_count += rc == VARVE_OK;
    return rc;
}

varve_status past_read(const struct past *past, varve_store *store, unsigned commit)
{
    return model_compare(store->layout, store->place, &past->commits[commit].id,
                         &past->commits[commit].state);
}

varve_status past_read_ref(const struct past *past, varve_store *store, unsigned ref)
{
    struct vv_ref_facts facts;
    const varve_status rc = store->layout->ref_get(store->place, past->refs[ref].name, &facts);

    if (rc == VARVE_OK && !vv_id_equal(&facts.commit, &past->commits[past->refs[ref].commit].id))
        return vv_fail(VARVE_CONFLICT, "%s names another commit", past->refs[ref].name);
    return rc;
}

varve_status past_read_code(varve_store *store, unsigned code)
{
    uint8_t bytes[PAST_CODE_SIZE];
    uint8_t hash[VV_HASH_SIZE];
    uint8_t *found = NULL;
    size_t size = 0;

    code_bytes(code, bytes, hash);
    varve_status rc = store->layout->code_get(store->place, hash, &found, &size);
    if (rc == VARVE_OK && (size != sizeof bytes || memcmp(found, bytes, size) != 0))
        rc = vv_fail(VARVE_CONFLICT, "code %u is other bytes", code);
    vv_free(found);
    return rc;
}

static varve_status compare_image(const varve_image *image, const struct model_state *state, unsigned module)
{
    uint8_t wanted[VV_PAGE_SIZE];
    const uint8_t *bytes = vv_image_bytes(image->image);

    if (vv_image_size(image->image) != state->size[module] * (uint64_t)VV_PAGE_SIZE)
        return vv_fail(VARVE_CONFLICT, "the image of module %u has another size", module);
    for (uint32_t i = 0; i < state->size[module]; i++) {
        model_page(state->page[module][i], wanted);
        if (memcmp(bytes + (size_t)i * VV_PAGE_SIZE, wanted, VV_PAGE_SIZE) != 0)
            return vv_fail(VARVE_CONFLICT, "page %u of the image of module %u is another", i, module);
    }
    return VARVE_OK;
}

varve_status past_read_held(const struct past *past, varve_store *store, varve_commit *held, unsigned commit)
{
    varve_status rc = VARVE_OK;
    varve_session *session = NULL;
    const struct model_state *state = &past->commits[commit].state;
    const varve_session_options begin = {
        .size = sizeof begin, .flags = VARVE_SESSION_READ_ONLY, .base = held, .branch = ""
    };

    TRY(vv_session_begin(store, &begin, &session));
    for (unsigned module = 0; module < MODEL_MODULES; module++) {
        const varve_image_options options = { .size = sizeof options, .reserve = 1 << 20 };
        varve_image *image = NULL;
        varve_module_id id;
        if (!state->present[module])
            continue;
        model_module_id(module, &id);
        TRY(vv_session_open_image(session, &id, &options, &image));
        TRY(compare_image(image, state, module));
    }
out:
    if (session != NULL)
        vv_session_abort(session);
    return rc;
}

varve_status past_read_images(const struct past *past, varve_store *store, unsigned commit)
{
    varve_commit *held = NULL;
    varve_status rc = vv_commit_open_id(store, &past->commits[commit].id, &held);

    if (rc == VARVE_OK)
        rc = past_read_held(past, store, held, commit);
    vv_commit_close(held);
    return rc;
}

varve_status past_read_all(const struct past *past, varve_store *store)
{
    varve_status rc = VARVE_OK;

    for (unsigned i = 0; i < past->commit_count; i++)
        if (!past->commits[i].deleted)
            TRY(past_read(past, store, i));
    for (unsigned i = 0; i < past->ref_count; i++)
        TRY(past_read_ref(past, store, i));
    for (unsigned i = 0; i < past->code_count; i++)
        TRY(past_read_code(store, i));
out:
    return rc;
}

varve_status past_read_only(const struct past *past, varve_store *store)
{
    varve_status rc = past_read_all(past, store);
    const uint64_t last = store->layout->last_number(store->place);
    unsigned found = 0;
    unsigned wanted = 0;

    for (unsigned i = 0; i < past->commit_count; i++)
        wanted += !past->commits[i].deleted;
    if (rc != VARVE_OK)
        return rc;
    for (uint64_t number = 1; number <= last; number++) {
        varve_commit_id id;
        rc = store->layout->find_number(store->place, number, &id);
        if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
            return rc;
        found += rc == VARVE_OK;
    }
    return found == wanted ? VARVE_OK
                           : vv_fail(VARVE_CONFLICT, "%u commits are there, not %u", found, wanted);
}
