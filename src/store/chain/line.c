/* line.c - lines and versions in memory, and what their files are called: see place.h. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/chain/place.h"

enum { WHOLE_MAX = 64 << 10 };

/* ---- Lines and versions ------------------------------------------------------------------------- */

struct vv_line *vv_chain_line(const struct vv_place *place, const varve_module_id *id)
{
    const union vv_value *value = vv_table_get(&place->by_id, id);

    return value == NULL ? NULL : value->pointer;
}

static varve_status grow(void *array, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return VARVE_OK;
    const size_t larger = wanted + wanted / 2 + 4;
    const varve_status rc = vv_resize(array, larger, size);
    if (rc == VARVE_OK)
        *room = larger;
    return rc;
}

varve_status vv_chain_line_new(struct vv_place *place, const varve_module_id *id, struct vv_line **out)
{
    struct vv_line *line = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&line, 1, sizeof *line));
    line->id = *id;
    TRY(grow(&place->lines, &place->line_room, place->line_count + 1, sizeof *place->lines));
    TRY(vv_table_put(&place->by_id, id, (union vv_value){ .pointer = line }));
    place->lines[place->line_count++] = line;
    *out = line;
    line = NULL;
out:
    vv_chain_line_free(line);
    return rc;
}

static void directory_free(struct vv_deltafile *delta)
{
    if (delta == NULL)
        return;
    vv_deltafile_release(delta);
    vv_free(delta);
}

void vv_chain_version_free(struct vv_version *version)
{
    if (version == NULL)
        return;
    directory_free(version->delta);
    vv_module_drop(version->module);
    vv_free(version);
}

void vv_chain_line_free(struct vv_line *line)
{
    if (line == NULL)
        return;
    for (size_t i = 0; i < line->count; i++)
        vv_chain_version_free(line->versions[i]);
    vv_free(line->versions);
    vv_free(line->gone.serials);
    vv_free(line->next_gone.serials);
    vv_free(line);
}

varve_status vv_chain_room(struct vv_place *place, struct vv_line *line, size_t serials)
{
    varve_status rc = VARVE_OK;

    TRY(grow(&line->versions, &line->room, line->count + 1, sizeof *line->versions));
    TRY(grow(&place->serials, &place->serial_room, place->serial_count + serials, sizeof *place->serials));
out:
    return rc;
}

void vv_chain_append(struct vv_place *place, struct vv_line *line, struct vv_version *version)
{
    VV_ASSERT(line->count < line->room && place->serial_count < place->serial_room);
    VV_ASSERT(place->serial_count == 0 || place->serials[place->serial_count - 1].serial < version->serial);
    line->versions[line->count++] = version;
    place->serials[place->serial_count++] =
        (struct vv_serial){ .serial = version->serial, .line = line, .version = version };
}

varve_status vv_chain_resolve(const struct vv_place *place, uint64_t locator, const struct vv_serial **found)
{
    const uint64_t serial = vv_chain_serial(locator);
    size_t low = 0, high = place->serial_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (place->serials[middle].serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == place->serial_count || place->serials[low].serial != serial)
        return vv_fail(VARVE_CORRUPT, "commits: a page lies in version %llu, which there is not",
                       (unsigned long long)serial);
    *found = &place->serials[low];
    return VARVE_OK;
}

bool vv_chain_shares_first(const struct vv_line *line)
{
    return vv_hash_equal(line->versions[0]->leaf, vv_chain_newest(line)->leaf);
}

/* ---- Names -------------------------------------------------------------------------------------- */

void vv_chain_image_name(const struct vv_line *line, const struct vv_version *version,
                         char name[VV_CHAIN_NAME])
{
    char module[65], leaf[65];

    vv_hex_format(line->id.bytes, module);
    vv_hex_format(version->leaf, leaf);
    (void)snprintf(name, VV_CHAIN_NAME, "%s_%s", module, leaf);
}

void vv_chain_delta_name(const struct vv_line *line, const struct vv_version *version, bool newest,
                         char name[VV_CHAIN_NAME])
{
    char module[65], leaf[65];

    vv_hex_format(line->id.bytes, module);
    vv_hex_format(version->leaf, leaf);
    (void)snprintf(name, VV_CHAIN_NAME, "%s%s_%s_%u", newest ? "." : "", module, leaf,
                   (unsigned)version->copy);
}

static bool take_hex(const char **text, uint8_t bytes[32])
{
    char digits[65], canonical[65];

    if (memchr(*text, '\0', 64) != NULL)
        return false;
    memcpy(digits, *text, 64);
    digits[64] = '\0';
    if (vv_hex_parse(digits, bytes) != VARVE_OK)
        return false;
    vv_hex_format(bytes, canonical);
    *text += 64;
    return strcmp(digits, canonical) == 0;
}

static bool take_number(const char *text, uint32_t *number)
{
    uint64_t value = 0;

    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text >= '0' && *text <= '9' && value <= UINT32_MAX; text++)
        value = 10 * value + (uint64_t)(*text - '0');
    *number = (uint32_t)value;
    return *text == '\0' && value <= UINT32_MAX;
}

bool vv_chain_parse_name(const char *name, struct vv_chain_name *parsed)
{
    const char *at = name;

    *parsed = (struct vv_chain_name){ .newest = name[0] == '.' };
    at += parsed->newest;
    if (!take_hex(&at, parsed->module.bytes) || *at++ != '_' || !take_hex(&at, parsed->leaf))
        return false;
    if (*at == '\0')
        return !parsed->newest;
    parsed->delta = true;
    return *at == '_' && take_number(at + 1, &parsed->copy);
}

struct vv_version *vv_chain_whose_image(const struct vv_line *line, const uint8_t leaf[VV_HASH_SIZE])
{
    if (line->count == 0)
        return NULL;
    if (vv_hash_equal(line->versions[0]->leaf, leaf))
        return line->versions[0];
    return vv_hash_equal(vv_chain_newest(line)->leaf, leaf) ? vv_chain_newest(line) : NULL;
}

/* ---- Opening ------------------------------------------------------------------------------------ */

varve_status vv_chain_open_image(const struct vv_place *place, const struct vv_line *line,
                                 const struct vv_version *version, bool write, struct vv_file *file)
{
    char name[VV_CHAIN_NAME];

    vv_chain_image_name(line, version, name);
    const varve_status rc = vv_file_open(&place->dir, name, write ? VV_OPEN_WRITE : VV_OPEN_READ, file);
    return rc == VARVE_NOT_FOUND ? vv_fail(VARVE_CORRUPT, "%s: the file is missing", name) : rc;
}

varve_status vv_chain_open_delta(const struct vv_place *place, const struct vv_line *line,
                                 const struct vv_version *version, bool write, struct vv_file *file)
{
    const bool newest = version == vv_chain_newest(line);
    char name[VV_CHAIN_NAME];
    varve_status rc = VARVE_NOT_FOUND;

    for (unsigned other = 0; other < 2 && rc == VARVE_NOT_FOUND; other++) {
        vv_chain_delta_name(line, version, newest != (other == 1), name);
        rc = vv_file_open(&place->dir, name, write ? VV_OPEN_WRITE : VV_OPEN_READ, file);
    }
    if (rc != VARVE_NOT_FOUND)
        return rc;
    vv_chain_delta_name(line, version, newest, name);
    return vv_fail(VARVE_CORRUPT, "%s: the file is missing", name);
}

static varve_status check_owner(const struct vv_line *line, const struct vv_version *version,
                                const struct vv_deltafile *delta, const struct vv_file *file)
{
    const struct vv_deltafile_facts *facts = &delta->facts;

    if (facts->serial == version->serial && memcmp(facts->module, line->id.bytes, 32) == 0 &&
        vv_hash_equal(facts->leaf, version->leaf) && facts->page_count == version->module->memory.page_count)
        return VARVE_OK;
    return vv_fail(VARVE_CORRUPT, "%s: it is the delta of another version", file->name);
}

/* A file that is small is read at once. */
static varve_status read_directory(struct vv_file *file, struct vv_bytes *whole, struct vv_deltafile *delta)
{
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(file, &size));
    if (whole == NULL || size > WHOLE_MAX || size < VV_DELTAFILE_HEADER)
        return vv_deltafile_read(file, delta);
    vv_bytes_clear(whole);
    uint8_t *place = vv_bytes_extend(whole, (size_t)size);
    TRY(vv_bytes_done(whole));
    TRY(vv_file_read(file, place, (size_t)size, 0));
    rc = vv_deltafile_decode(place, (size_t)size, size, delta);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s", file->name);
out:
    return rc;
}

varve_status vv_chain_directory(const struct vv_place *place, const struct vv_line *line,
                                struct vv_version *version, struct vv_bytes *whole,
                                const struct vv_deltafile **out)
{
    struct vv_deltafile *delta = version->delta, *expected = NULL;
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    if (delta != NULL) {
        *out = delta;
        return VARVE_OK;
    }
    TRY(vv_chain_open_delta(place, line, version, false, &file));
    TRY(vv_alloc(&delta, 1, sizeof *delta));
    TRY(read_directory(&file, whole, delta));
    TRY(check_owner(line, version, delta, &file));
    /* Whoever comes second uses the first's. */
    if (!atomic_compare_exchange_strong(&version->delta, &expected, delta)) {
        directory_free(delta);
        delta = expected;
    }
    *out = delta;
    delta = NULL;
out:
    directory_free(delta);
    vv_file_close(&file);
    return rc;
}
