/* files.c - see files.h. */
#include "store/files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct names {
    char **list;
    size_t count;
    varve_status rc;
};

static int collect(void *context, const char *name)
{
    struct names *names = context;

    if (strcmp(name, ".varve") == 0)
        return 0;
    names->rc = vv_resize(&names->list, names->count + 1, sizeof *names->list);
    if (names->rc == VARVE_OK)
        names->rc = vv_strdup(&names->list[names->count], name);
    names->count += names->rc == VARVE_OK;
    return names->rc != VARVE_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

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
    struct names names = { .count = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_dir_each(dir, collect, &names));
    TRY(names.rc);
    if (names.count > 1)
        qsort(names.list, names.count, sizeof *names.list, by_text);
    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++) {
        char path[NAME_MAX + 160], text[VV_FILES_WORDS];
        struct vv_file_facts facts = { .path = path };
        facts.what = what(what_context, names.list[i], text);
        if (facts.what == NULL || !measure(dir, names.list[i], &facts))
            continue;
        (void)snprintf(path, sizeof path, "%s%s", prefix, names.list[i]);
        rc = each(context, &facts);
    }
out:
    for (size_t i = 0; i < names.count; i++)
        vv_free(names.list[i]);
    vv_free(names.list);
    return rc;
}
