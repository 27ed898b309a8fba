/* files.c - what each file is for, in the words of seed 001. Names that begin with a dot are not told of, as `ls` does
 * not: the delta of a newest version, which shows when a newer one comes. */
#include <inttypes.h>
#include <stdio.h>

#include "store/chain/place.h"
#include "store/files.h"

static const char *what_of(void *context, const char *name, char text[VV_FILES_WORDS])
{
    struct vv_place *place = context;
    struct vv_chain_name parsed;
    const struct vv_version *version = NULL;

    if (name[0] == '.')
        return NULL;
    if (vv_backing_is_name(name, NULL))
        return "mmap backing file";
    if (strcmp(name, "commits") == 0)
        return "contains commits' store";
    if (!vv_chain_parse_name(name, &parsed))
        return "no file of this layout";
    const struct vv_line *line = vv_chain_line(place, &parsed.module);
    if (line == NULL)
        return "left over";
    if (!parsed.delta)
        version = vv_chain_whose_image(line, parsed.leaf);
    for (size_t i = 1; parsed.delta && i < line->count && version == NULL; i++)
        if (line->versions[i]->copy == parsed.copy && vv_hash_equal(line->versions[i]->leaf, parsed.leaf))
            version = line->versions[i];
    if (version == NULL)
        return "left over";
    (void)snprintf(text, VV_FILES_WORDS, "%smodule commit of r%" PRIu64, parsed.delta ? "Delta, " : "",
                   version->number);
    return text;
}

varve_status vv_chain_files(struct vv_place *place, vv_file_facts_fn each, void *context)
{
    vv_chain_read_lock(place);
    const varve_status rc = vv_files_each(&place->dir, "", what_of, place, each, context);
    vv_chain_unlock(place);
    return rc;
}
