/* pointer.c - `<mod>_last`: symbolic links whose text is the name of the file that a fresh instance starts with.
 *
 * They are read, never followed, and never believed: where `main` stands decides, and they follow it. A link is made
 * under `<mod>_last.tmp` and renamed over, so that at any instant there is a whole one.
 * Moves:  READY   links under temporary names: all that needs space   [vv_pointers_ready]
 *         MOVE    renames; what fails is made good at the next chance [vv_pointers_move]
 *         FOLLOW  at every opening: each that is elsewhere moves      [vv_pointers_follow] (F1) */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/plant.h"
#include "store/flat/place.h"

enum { NAME = 64 + 5 + 4 + 1 }; /* digits, "_last", ".tmp" */

bool vv_pointer_is_name(const char *name, varve_module_id *module)
{
    char text[65];

    if (strlen(name) != 64 + 5 || strcmp(name + 64, "_last") != 0)
        return false;
    memcpy(text, name, 64);
    text[64] = '\0';
    return vv_backing_is_name(text, module);
}

static void name_of(const varve_module_id *module, const char *suffix, char name[NAME])
{
    char hex[65];

    vv_hex_format(module->bytes, hex);
    (void)snprintf(name, NAME, "%s_last%s", hex, suffix);
}

static void text_of(const struct vv_pointer *move, char text[VV_FLAT_NAME])
{
    vv_hex_format(move->module.bytes, text);
    text[64] = '_';
    vv_hex_format(move->leaf, text + 65);
}

static varve_status add(struct vv_pointers *pointers, const uint8_t module[32], const uint8_t leaf[VV_HASH_SIZE])
{
    if (pointers->count == pointers->room) {
        const size_t room = pointers->room == 0 ? 8 : 2 * pointers->room;
        const varve_status rc = vv_resize(&pointers->moves, room, sizeof *pointers->moves);
        if (rc != VARVE_OK)
            return rc;
        pointers->room = room;
    }
    struct vv_pointer *move = &pointers->moves[pointers->count++];
    memcpy(move->module.bytes, module, sizeof move->module.bytes);
    memcpy(move->leaf, leaf, VV_HASH_SIZE);
    return VARVE_OK;
}

/* A module's leaf in the trie is the id of its module commit. */
static varve_status plan_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    return to == NULL ? add(context, from->key, vv_hash_zero) : add(context, to->key, to->hash);
}

varve_status vv_pointers_plan(const struct vv_state *from, const struct vv_state *to, struct vv_pointers *pointers)
{
    struct vv_trie nothing;
    varve_status rc = VARVE_OK;

    vv_trie_init(&nothing, NULL);
    rc = vv_trie_diff(from == NULL ? NULL : &from->trie, to == NULL ? &nothing : &to->trie, plan_item, pointers);
    vv_trie_release(&nothing);
    return rc;
}

/* ---- Moving ------------------------------------------------------------------------------------- */

varve_status vv_pointers_ready(struct vv_place *place, struct vv_pointers *pointers)
{
    char name[NAME], text[VV_FLAT_NAME];
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < pointers->count; i++) {
        pointers->ready = i + 1;
        if (vv_hash_is_zero(pointers->moves[i].leaf))
            continue;
        name_of(&pointers->moves[i].module, ".tmp", name);
        text_of(&pointers->moves[i], text);
        rc = vv_dir_symlink(place->dir, name, text);
        if (rc == VARVE_EXISTS) { /* a crash left it */
            TRY(vv_dir_unlink(place->dir, name));
            rc = vv_dir_symlink(place->dir, name, text);
        }
        TRY(rc);
    }
out:
    if (rc == VARVE_EXISTS)
        rc = vv_fail(VARVE_IO, "%s: something is in the way", name);
    return rc;
}

void vv_pointers_move(struct vv_place *place, struct vv_pointers *pointers)
{
    char from[NAME], to[NAME];

    for (size_t i = 0; i < pointers->count; i++) {
        const struct vv_pointer *move = &pointers->moves[i];
        name_of(&move->module, "", to);
        name_of(&move->module, ".tmp", from);
        const varve_status rc = vv_hash_is_zero(move->leaf) ? vv_dir_unlink(place->dir, to)
                                                            : vv_dir_rename(place->dir, from, to);
        place->behind = place->behind || rc != VARVE_OK;
    }
    if (!place->behind)
        pointers->ready = 0;
}

void vv_pointers_release(struct vv_place *place, struct vv_pointers *pointers)
{
    char name[NAME];

    for (size_t i = 0; i < pointers->ready; i++)
        if (!vv_hash_is_zero(pointers->moves[i].leaf)) {
            name_of(&pointers->moves[i].module, ".tmp", name);
            (void)vv_dir_unlink(place->dir, name);
        }
    vv_free(pointers->moves);
    *pointers = (struct vv_pointers){ .count = 0 };
}

/* ---- Following ---------------------------------------------------------------------------------- */

/* What is in the directory and should not be. */
struct looking {
    struct vv_place *place;
    const struct vv_state *main;
    struct vv_pointers *pointers;
    char (*temporary)[NAME];
    size_t temporary_count;
    varve_status rc;
};

static varve_status note_temporary(struct looking *looking, const char *name)
{
    const varve_status rc =
        vv_resize(&looking->temporary, looking->temporary_count + 1, sizeof *looking->temporary);

    if (rc == VARVE_OK)
        memcpy(looking->temporary[looking->temporary_count++], name, strlen(name) + 1);
    return rc;
}

static int look_at(void *context, const char *name)
{
    struct looking *looking = context;
    const size_t length = strlen(name);
    varve_module_id module;
    struct vv_item item;
    char text[NAME];
    bool present = false;

    if (length == NAME - 1 && strcmp(name + 64 + 5, ".tmp") == 0) {
        memcpy(text, name, length + 1);
        text[64 + 5] = '\0';
        if (vv_pointer_is_name(text, &module))
            looking->rc = note_temporary(looking, name);
    } else if (vv_pointer_is_name(name, &module)) {
        if (looking->main != NULL)
            looking->rc = vv_trie_get(&looking->main->trie, module.bytes, &item, &present);
        if (looking->rc == VARVE_OK && !present)
            looking->rc = add(looking->pointers, module.bytes, vv_hash_zero);
    }
    return looking->rc != VARVE_OK;
}

/* A pointer that is where it belongs needs nothing. */
static varve_status check_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    const struct looking *looking = context;
    struct vv_pointer move;
    char name[NAME], wanted[VV_FLAT_NAME], found[VV_FLAT_NAME];

    (void)from;
    memcpy(move.module.bytes, to->key, sizeof move.module.bytes);
    memcpy(move.leaf, to->hash, VV_HASH_SIZE);
    name_of(&move.module, "", name);
    text_of(&move, wanted);
    if (vv_dir_readlink(looking->place->dir, name, found, sizeof found) == VARVE_OK && strcmp(found, wanted) == 0)
        return VARVE_OK;
    return add(looking->pointers, to->key, to->hash);
}

static varve_status look(struct looking *looking)
{
    varve_status rc = VARVE_OK;

    TRY(vv_dir_each(looking->place->dir, look_at, looking));
    TRY(looking->rc);
    if (looking->main != NULL)
        TRY(vv_trie_diff(NULL, &looking->main->trie, check_item, looking));
out:
    return rc;
}

varve_status vv_pointers_astray(struct vv_place *place, struct vv_pointers *pointers)
{
    struct looking looking = { .place = place, .main = vv_flat_main(place), .pointers = pointers };
    const varve_status rc = look(&looking);

    vv_free(looking.temporary);
    return rc;
}

varve_status vv_pointers_follow(struct vv_place *place)
{
    struct vv_pointers pointers = { .count = 0 };
    struct looking looking = { .place = place, .main = vv_flat_main(place), .pointers = &pointers };
    varve_status rc = VARVE_OK;

    if (VV_PLANT("last-alone"))
        return VARVE_OK;
    TRY(look(&looking));
    for (size_t i = 0; i < looking.temporary_count; i++)
        TRY(vv_dir_unlink(place->dir, looking.temporary[i]));
    TRY(vv_pointers_ready(place, &pointers));
    place->behind = false;
    vv_pointers_move(place, &pointers);
out:
    vv_pointers_release(place, &pointers);
    vv_free(looking.temporary);
    return rc;
}
