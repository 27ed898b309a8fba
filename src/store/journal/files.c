/* files.c - what each file of a journal is for, in the words of seed 004: two backing files per module, and a log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/files.h"
#include "store/journal/place.h"

static const char *what_of(void *context, const char *name, char text[VV_FILES_WORDS])
{
    uint64_t start = 0;

    (void)context;
    if (strcmp(name, "head") == 0)
        return "hint: the log's last checkpoint";
    if (!vv_segment_parse(name, &start))
        return "no file of this layout";
    (void)snprintf(text, VV_FILES_WORDS, "append-only log, from address %" PRIu64, start);
    return text;
}

static const char *what_image(void *context, const char *name, char text[VV_FILES_WORDS])
{
    struct vv_place *place = context;
    struct vv_stamp stamp, other;
    varve_module_id module;
    unsigned slot = 0;

    (void)text;
    if (!vv_image_file_parse(name, &module, &slot))
        return "backing file, half made";
    if (vv_images_look(&place->images, &module, slot, &stamp) != VARVE_OK)
        return "backing file that cannot be used";
    if (stamp.state != VV_STAMP_WHOLE)
        return "backing file, being rewritten";
    if (vv_images_look(&place->images, &module, 1 - slot, &other) == VARVE_OK &&
        other.state == VV_STAMP_WHOLE && other.generation > stamp.generation)
        return "backing file, the older of the two";
    return "mmap backing file";
}

varve_status vv_place_files(struct vv_place *place, vv_file_facts_fn each, void *context)
{
    struct vv_dir images = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_files_each(&place->dir, "", what_of, place, each, context));
    rc = vv_dir_open_at(&place->dir, VV_IMAGE_DIR, &images);
    if (rc == VARVE_OK)
        rc = vv_files_each(&images, VV_IMAGE_DIR "/", what_image, place, each, context);
    else if (rc == VARVE_NOT_FOUND)
        rc = VARVE_OK;
out:
    vv_dir_close(&images);
    return rc;
}
