/* copyfiles.c - see copyfiles.h. Directories are as deep as layouts make them; what is neither file, directory
 * nor one of our symbolic links is CORRUPT, and nothing else is followed. */
#include "store/copyfiles.h"

#include <limits.h>
#include <string.h>

#include "base/alloc.h"

enum { DEPTH = 4 };

struct copying {
    const struct vv_dir *from, *to;
    unsigned depth;
    bool own; /* this is .varve */
    varve_status rc;
};

static varve_status copy_directory(const struct vv_dir *from, const struct vv_dir *to, unsigned depth,
                                   bool own);

static varve_status copy_bytes(const struct vv_file *file, const struct vv_dir *to, const char *name,
                               bool frozen)
{
    const unsigned flags = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE | (frozen ? VV_OPEN_FROZEN : 0);
    struct vv_file copy = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_file_open(to, name, flags, &copy));
    TRY(vv_file_copy(file, &copy));
    TRY(vv_file_sync_new(&copy));
out:
    vv_file_close(&copy);
    return rc;
}

static varve_status copy_file(const struct vv_file *file, const struct copying *c, const char *name)
{
    bool frozen = false;
    varve_status rc = VARVE_OK;

    TRY(vv_file_look(file, NULL, &frozen));
    if (frozen) {
        rc = vv_dir_link(c->from, name, c->to, name);
        if (rc != VARVE_UNSUPPORTED)
            goto out;
    }
    rc = copy_bytes(file, c->to, name, frozen);
out:
    return rc;
}

static varve_status copy_inner(const struct copying *c, const char *name)
{
    struct vv_dir from = VV_DIR_NONE, to = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_open_at(c->from, name, &from));
    if (c->depth == 0)
        TRY(vv_fail(VARVE_CORRUPT, "%s: no store has directories so deep", name));
    TRY(vv_dir_create_at(c->to, name));
    TRY(vv_dir_open_at(c->to, name, &to));
    TRY(copy_directory(&from, &to, c->depth - 1, strcmp(name, ".varve") == 0));
out:
    vv_dir_close(&from);
    vv_dir_close(&to);
    return rc;
}

static varve_status copy_name(const struct copying *c, const char *name)
{
    struct vv_file file = VV_FILE_NONE;
    char text[NAME_MAX + 1];
    varve_status rc = vv_file_open(c->from, name, VV_OPEN_READ, &file);

    if (rc == VARVE_OK) {
        rc = copy_file(&file, c, name);
        vv_file_close(&file);
    } else if (rc == VARVE_CORRUPT) { /* no regular file */
        rc = vv_dir_readlink(c->from, name, text, sizeof text);
        rc = rc == VARVE_OK ? vv_dir_symlink(c->to, name, text) : copy_inner(c, name);
    }
    return rc;
}

static int each_name(void *context, const char *name)
{
    struct copying *c = context;
    const bool left_out = c->own && (strcmp(name, "lock") == 0 || strcmp(name, "format") == 0 ||
                                     strcmp(name, "making") == 0 || strcmp(name, "cloning") == 0);

    if (!left_out)
        c->rc = copy_name(c, name);
    return c->rc != VARVE_OK;
}

static varve_status copy_directory(const struct vv_dir *from, const struct vv_dir *to, unsigned depth,
                                   bool own)
{
    struct copying copying = { .from = from, .to = to, .depth = depth, .own = own };
    varve_status rc = VARVE_OK;

    TRY(vv_dir_each(from, each_name, &copying));
    TRY(copying.rc);
    TRY(vv_dir_sync(to));
out:
    return rc;
}

varve_status vv_copy_files(const struct vv_dir *from, const struct vv_dir *to)
{
    return copy_directory(from, to, DEPTH, false);
}
