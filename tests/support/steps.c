/* steps.c - see steps.h. */
#include "steps.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { HEIGHT = 3 /* of the keys of named values */, FIRST_PAGES = 24, MOST_PAGES = 96 };

uint64_t steps_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static unsigned roll(uint64_t *chance, unsigned below)
{
    *chance = steps_mix(*chance);
    return (unsigned)((*chance >> 20) % below);
}

/* Address space is not free everywhere: under a sanitizer there is little. */
static const varve_image_options modest = { .size = sizeof modest, .reserve = MOST_PAGES * SHADOW_PAGE };

static varve_module_id id_of(unsigned image)
{
    varve_module_id id;

    shadow_image_id(image, id.bytes);
    return id;
}

static varve_status write_both(varve_session *session, varve_image *image, struct shadow_state *state,
                               unsigned number, uint64_t *chance, varve_error *error)
{
    static const unsigned sizes[] = { 4, 40, 400, SHADOW_PAGE, 3 * SHADOW_PAGE };
    uint8_t bytes[3 * SHADOW_PAGE];
    const uint64_t length = (uint64_t)shadow_pages(state, number) * SHADOW_PAGE;
    uint64_t size = 1 + roll(chance, sizes[roll(chance, sizeof sizes / sizeof *sizes)]);
    const uint64_t offset = roll(chance, (unsigned)length);
    const bool zeros = roll(chance, 8) == 0;

    if (size > length - offset)
        size = length - offset;
    for (size_t i = 0; i < size; i++)
        bytes[i] = zeros ? 0 : (uint8_t)(*chance >> i % 8 * 8) ^ (uint8_t)(i / 8);
    shadow_write(state, number, offset, bytes, size);
    return session == NULL ? VARVE_OK : varve_image_write(image, offset, bytes, size, error);
}

/* One image: made when it is not there, longer at times, written to. */
static varve_status change_image(varve_session *session, struct shadow_state *state, unsigned number,
                                 uint64_t *chance, varve_error *error)
{
    const varve_module_id id = id_of(number);
    const varve_image_options options = { .size = sizeof options,
                                          .name = shadow_image_name(number),
                                          .create_size = FIRST_PAGES * SHADOW_PAGE,
                                          .reserve = MOST_PAGES * SHADOW_PAGE };
    const bool grows = roll(chance, 8) == 0;
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    if (session != NULL)
        rc = varve_image_open(session, &id, &options, &image, error);
    if (shadow_pages(state, number) == 0)
        shadow_create(state, number, FIRST_PAGES);
    if (grows && shadow_pages(state, number) < MOST_PAGES) {
        const uint32_t pages = shadow_pages(state, number) + 1;
        shadow_grow(state, number, pages);
        if (rc == VARVE_OK && session != NULL)
            rc = varve_image_grow(image, (uint64_t)pages * SHADOW_PAGE, error);
    }
    for (unsigned writes = 1 + roll(chance, 4); writes > 0 && rc == VARVE_OK; writes--)
        rc = write_both(session, image, state, number, chance, error);
    return rc;
}

static varve_status remove_image(varve_session *session, struct shadow_state *state, unsigned number,
                                 varve_error *error)
{
    const varve_module_id id = id_of(number);

    if (shadow_pages(state, number) == 0)
        return VARVE_OK;
    shadow_remove(state, number);
    return session == NULL ? VARVE_OK : varve_session_remove(session, &id, error);
}

varve_status steps_change(varve_session *session, struct shadow_state *state, uint64_t seed, uint64_t step,
                          varve_error *error)
{
    uint64_t chance = steps_mix(seed ^ steps_mix(step));
    uint8_t height[8];
    varve_status rc = VARVE_OK;

    for (unsigned images = 1 + roll(&chance, 2); images > 0 && rc == VARVE_OK; images--)
        rc = change_image(session, state, roll(&chance, 3), &chance, error);
    if (rc == VARVE_OK && roll(&chance, 8) == 0)
        rc = change_image(session, state, SHADOW_IMAGES - 1, &chance, error);
    else if (rc == VARVE_OK && roll(&chance, 16) == 0)
        rc = remove_image(session, state, SHADOW_IMAGES - 1, error);
    for (unsigned i = 0; i < sizeof height; i++)
        height[i] = (uint8_t)(step >> 8 * i);
    shadow_set_meta(state, HEIGHT, height, sizeof height);
    if (rc == VARVE_OK && session != NULL)
        rc = varve_session_set_meta(session, shadow_meta_key(HEIGHT), height, sizeof height, error);
    return rc;
}

uint64_t steps_height(varve_session *session)
{
    const void *value = NULL;
    size_t size = 0;
    uint64_t height = 0;

    if (varve_session_get_meta(session, shadow_meta_key(HEIGHT), &value, &size, NULL) != VARVE_OK)
        return 0;
    for (size_t i = size; i-- > 0;)
        height = height << 8 | ((const uint8_t *)value)[i];
    return height;
}

/* ---- Comparing -------------------------------------------------------------------------------- */

static varve_status differs(varve_error *error, const char *format, ...)
{
    va_list list;

    *error = (varve_error){ .status = VARVE_CONFLICT };
    va_start(list, format);
    (void)vsnprintf(error->message, sizeof error->message, format, list);
    va_end(list);
    return VARVE_CONFLICT;
}

static varve_status compare_image(varve_session *session, const struct shadow_state *state, unsigned number,
                                  varve_error *error)
{
    static const uint8_t zeros[SHADOW_PAGE];
    const varve_module_id id = id_of(number);
    const uint32_t pages = shadow_pages(state, number);
    varve_image *image = NULL;
    const varve_status rc = varve_image_open(session, &id, &modest, &image, error);

    if (rc == VARVE_NOT_FOUND && pages == 0)
        return VARVE_OK;
    if (rc != VARVE_OK)
        return rc;
    if (varve_image_size(image) != (uint64_t)pages * SHADOW_PAGE)
        return differs(error, "image %u has %llu bytes instead of %u pages", number,
                       (unsigned long long)varve_image_size(image), pages);
    for (uint32_t page = 0; page < pages; page++) {
        const uint8_t *expected = shadow_page(state, number, page);
        const uint8_t *bytes = (uint8_t *)varve_image_bytes(image) + (size_t)page * SHADOW_PAGE;
        if (memcmp(bytes, expected == NULL ? zeros : expected, SHADOW_PAGE) != 0)
            return differs(error, "page %u of image %u differs", page, number);
    }
    return VARVE_OK;
}

static varve_status compare_meta(varve_session *session, const struct shadow_state *state, varve_error *error)
{
    for (unsigned meta = 0; meta < SHADOW_METAS; meta++) {
        size_t size = 0, got_size = 0;
        const void *value = shadow_meta(state, meta, &size), *got = NULL;
        const varve_status rc =
            varve_session_get_meta(session, shadow_meta_key(meta), &got, &got_size, error);
        if (rc == VARVE_NOT_FOUND && value == NULL)
            continue;
        if (rc != VARVE_OK)
            return rc;
        if (got_size != size || memcmp(got, value, size) != 0)
            return differs(error, "the value of \"%s\" differs", shadow_meta_key(meta));
    }
    return VARVE_OK;
}

varve_status steps_load(varve_session *session, struct shadow_state *state, varve_error *error)
{
    varve_status rc = VARVE_OK;

    for (unsigned number = 0; number < SHADOW_IMAGES; number++) {
        const varve_module_id id = id_of(number);
        varve_image *image = NULL;
        rc = varve_image_open(session, &id, &modest, &image, error);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK)
            return rc;
        shadow_create(state, number, (uint32_t)(varve_image_size(image) / SHADOW_PAGE));
        shadow_write(state, number, 0, varve_image_bytes(image), varve_image_size(image));
    }
    for (unsigned meta = 0; meta < SHADOW_METAS; meta++) {
        const void *value = NULL;
        size_t size = 0;
        rc = varve_session_get_meta(session, shadow_meta_key(meta), &value, &size, error);
        if (rc == VARVE_OK)
            shadow_set_meta(state, meta, value, size);
        else if (rc != VARVE_NOT_FOUND)
            return rc;
    }
    return VARVE_OK;
}

static varve_status compare_root(const varve_commit *commit, const struct shadow_state *state,
                                 varve_error *error)
{
    varve_root root;

    shadow_root(state, root.bytes);
    return memcmp(&varve_commit_get(commit)->root, &root, sizeof root) == 0
               ? VARVE_OK
               : differs(error, "the root differs");
}

static varve_status look(varve_store *store, const varve_commit *commit, varve_session **session,
                         varve_error *error)
{
    const varve_session_options options = {
        .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY, .base = commit, .branch = ""
    };

    return varve_session_begin(store, &options, session, error);
}

varve_status steps_verify(varve_store *store, const varve_commit *commit, varve_error *error)
{
    struct shadow_state state = { .image = { NULL } };
    varve_session *session = NULL;
    varve_status rc = look(store, commit, &session, error);

    if (rc == VARVE_OK)
        rc = steps_load(session, &state, error);
    if (rc == VARVE_OK)
        rc = compare_root(commit, &state, error);
    shadow_release(&state);
    varve_session_abort(session);
    return rc;
}

varve_status steps_compare(varve_store *store, const varve_commit *commit, const struct shadow_state *state,
                           varve_error *error)
{
    varve_session *session = NULL;
    varve_status rc = look(store, commit, &session, error);

    if (rc == VARVE_OK)
        rc = compare_root(commit, state, error);
    for (unsigned number = 0; number < SHADOW_IMAGES && rc == VARVE_OK; number++)
        rc = compare_image(session, state, number, error);
    if (rc == VARVE_OK)
        rc = compare_meta(session, state, error);
    varve_session_abort(session);
    return rc;
}
