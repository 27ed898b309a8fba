/* files.c - see files.h. */
#include "store/files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Length and names of a file. False: it is a directory, or has gone meanwhile. */
static bool measure(const struct vv_dir *dir, const char *name, struct vv_file_facts *facts)
{
    struct vv_file file = VV_FILE_NONE;
    char text[2];
    bool well = true;

    const varve_status rc = vv_file_open(dir, name, VV_OPEN_READ, &file);
    if (rc == VARVE_OK) {
        well = vv_file_size(&file, &facts->bytes) == VARVE_OK &&
               vv_file_look(&file, &facts->links, NULL) == VARVE_OK;
    } else { /* any symbolic link that is read at all has a longer text than this */
        const int number = dir->vfs->readlink(dir->vfs, dir->fd, name, text, sizeof text);
        facts->bytes = 0;
        facts->links = 1;
        well = number == 0 || number == ENAMETOOLONG;
    }
    vv_file_close(&file);
    return well;
}

varve_status vv_files_each(const struct vv_dir *dir, const char *prefix, vv_files_what_fn what,
                           void *what_context, vv_file_facts_fn each, void *context)
{
    struct vv_names names;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_names(dir, &names));
    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++) {
        if (strcmp(names.list[i], ".varve") == 0)
            continue;
        char path[NAME_MAX + 160], text[VV_FILES_WORDS];
        struct vv_file_facts facts = { .path = path };
        facts.what = what(what_context, names.list[i], text);
        if (facts.what == NULL || !measure(dir, names.list[i], &facts))
            continue;
        (void)snprintf(path, sizeof path, "%s%s", prefix, names.list[i]);
        rc = each(context, &facts);
    }
    vv_names_release(&names);
out:
    return rc;
}
