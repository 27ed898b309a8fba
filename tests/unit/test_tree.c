/* The layout tree by its files: what is linked, what is written, what goes, and what rot does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/double.h"
#include "page/root.h"
#include "scratch.h"
#include "store/session.h"
#include "store/store.h"
#include "store/tree/overlay.h"

enum { PAGES = 64, PATH = 600 };

struct fixture {
    char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    varve_store *store;
    int64_t time_ns;
    unsigned notes, warnings, damages;
    char words[4000]; /* of all damage */
};

static void count_finding(void *context, const varve_finding *finding)
{
    struct fixture *f = context;

    f->notes += finding->severity == VARVE_NOTE;
    f->warnings += finding->severity == VARVE_WARNING;
    if (finding->severity != VARVE_DAMAGE)
        return;
    const size_t used = strlen(f->words);
    f->damages++;
    (void)snprintf(f->words + used, sizeof f->words - used, "%s: %s\n",
                   finding->file == NULL ? "" : finding->file, finding->text);
}

static varve_status open_over(struct fixture *f, const struct vv_vfs *vfs, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = VARVE_LAYOUT_TREE,
                                          .finding = count_finding,
                                          .context = f };

    f->notes = f->warnings = f->damages = 0;
    f->words[0] = '\0';
    return vv_store_open(vfs, f->path, &options, &f->store);
}

static void close_store(struct fixture *f)
{
    vv_store_close(f->store);
    f->store = NULL;
}

static void reopen(struct fixture *f)
{
    close_store(f);
    assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    (void)snprintf(f->path, sizeof f->path, "%s/store", f->root);
    f->time_ns = 1000;
    assert_int_equal(open_over(f, &vv_vfs_system, VARVE_STORE_CREATE), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_store(f);
    scratch_remove(f->root);
    free(f);
    return 0;
}

/* ---- Commits ------------------------------------------------------------------------------------ */

static varve_session *begin(struct fixture *f, const varve_commit *base)
{
    const varve_session_options options = { .size = sizeof options,
                                            .base = base,
                                            .branch = base == NULL ? NULL : "" };
    varve_session *session = NULL;

    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    return session;
}

static varve_module_id id_of(const char *name)
{
    varve_module_id id;

    vv_name_id(name, id.bytes);
    return id;
}

/* Byte `value` at the start of `count` pages from `first` on; the image is made when it is new. */
static void put(varve_session *session, const char *name, unsigned first, unsigned count, uint8_t value)
{
    const varve_module_id id = id_of(name);
    const varve_image_options options = {
        .size = sizeof options, .name = name, .create_size = PAGES * VV_PAGE_SIZE, .reserve = 1 << 20
    };
    varve_image *image = NULL;

    assert_int_equal(varve_image_open(session, &id, &options, &image, NULL), VARVE_OK);
    for (unsigned i = first; i < first + count; i++)
        assert_int_equal(varve_image_write(image, (uint64_t)i * VV_PAGE_SIZE, &value, 1, NULL), VARVE_OK);
}

static varve_commit *end(struct fixture *f, varve_session *session)
{
    const varve_commit_options options = { .size = sizeof options, .time_ns = ++f->time_ns };
    varve_commit *commit = NULL;
    bool ended = false;

    if (vv_session_commit(session, &options, &commit, &ended) != VARVE_OK)
        fail_msg("%s", vv_words());
    return commit;
}

static varve_commit *step(struct fixture *f, const char *name, unsigned first, unsigned count, uint8_t value)
{
    varve_session *session = begin(f, NULL);

    put(session, name, first, count, value);
    return end(f, session);
}

/* VARVE_OK and the byte at the start of a page of a commit. */
static varve_status peek(struct fixture *f, const varve_commit *commit, const char *name, unsigned page,
                         uint8_t *value)
{
    const varve_module_id id = id_of(name);
    const varve_image_options image_options = { .size = sizeof image_options, .reserve = 1 << 20 };
    const varve_session_options options = {
        .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY, .base = commit, .branch = ""
    };
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_status rc = vv_session_begin(f->store, &options, &session);

    if (rc == VARVE_OK) {
        rc = varve_image_open(session, &id, &image_options, &image, NULL);
        if (rc == VARVE_OK)
            rc = varve_image_read(image, (uint64_t)page * VV_PAGE_SIZE, value, 1, NULL);
        vv_session_abort(session);
    }
    return rc;
}

static void assert_holds(struct fixture *f, const varve_commit *commit, const char *name, unsigned page,
                         uint8_t value)
{
    uint8_t found = 0;

    if (peek(f, commit, name, page, &found) != VARVE_OK)
        fail_msg("%s", vv_words());
    assert_int_equal(found, value);
}

/* ---- Files -------------------------------------------------------------------------------------- */

static void path_of(const struct fixture *f, const varve_commit *commit, const char *part, const char *name,
                    const char *end_of_name, char path[PATH])
{
    const varve_module_id id = id_of(name);
    char root[65], hex[65];

    vv_hex_format(commit->facts.root.bytes, root);
    vv_hex_format(id.bytes, hex);
    (void)snprintf(path, PATH, "%s/%s/%s/%s%s", f->path, root, part, hex, end_of_name);
}

static bool look(const struct fixture *f, const varve_commit *commit, const char *part, const char *name,
                 const char *end_of_name, struct stat *status)
{
    char path[PATH];

    path_of(f, commit, part, name, end_of_name, path);
    return stat(path, status) == 0;
}

static ino_t inode_of(const struct fixture *f, const varve_commit *commit, const char *part, const char *name,
                      const char *end_of_name)
{
    struct stat status;

    assert_true(look(f, commit, part, name, end_of_name, &status));
    assert_int_equal(status.st_mode & 0777, 0444);
    return status.st_ino;
}

static void flip(const char *path, off_t offset)
{
    uint8_t byte = 0;

    assert_int_equal(chmod(path, 0600), 0);
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    (void)close(fd);
}

static unsigned directories(const struct fixture *f)
{
    DIR *dir = opendir(f->path);
    unsigned count = 0;

    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strcmp(entry->d_name, ".varve") != 0;
    (void)closedir(dir);
    return count;
}

static uint64_t damage_found(struct fixture *f)
{
    const varve_check_options options = { .size = sizeof options, .finding = count_finding, .context = f };
    uint64_t damage = 0;

    f->damages = 0;
    f->words[0] = '\0';
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_OK);
    return damage;
}

/* ---- What is linked and what is written --------------------------------------------------------- */

static void what_does_not_change_is_a_hard_link(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    struct stat status;

    put(session, "a", 0, PAGES, 1);
    put(session, "b", 0, PAGES, 1);
    varve_commit *first = end(f, session);
    varve_commit *second = step(f, "a", 3, 1, 2);
    varve_commit *third = step(f, "b", 5, 1, 3);
    assert_int_equal(inode_of(f, first, "memory", "a", ""), inode_of(f, second, "memory", "a", ""));
    assert_int_equal(inode_of(f, first, "tree", "a", ""), inode_of(f, second, "tree", "a", ""));
    assert_int_equal(inode_of(f, first, "memory", "b", ""), inode_of(f, third, "memory", "b", ""));
    assert_int_equal(inode_of(f, second, "memory", "a", ".diff"), inode_of(f, third, "memory", "a", ".diff"));
    assert_false(look(f, first, "memory", "a", ".diff", &status));
    assert_false(look(f, second, "memory", "b", ".diff", &status));
    assert_holds(f, first, "a", 3, 1);
    assert_holds(f, second, "a", 3, 2);
    assert_holds(f, third, "a", 3, 2);
    assert_holds(f, third, "b", 5, 3);
    varve_commit_close(first);
    varve_commit_close(second);
    varve_commit_close(third);
    close_store(f);
    assert_int_equal(damage_found(f), 0);
}

/* An eighth of 64 pages is 8: the ninth makes a new base image. */
static void a_large_change_is_a_new_base_image(void **state)
{
    struct fixture *f = *state;
    varve_commit *first = step(f, "a", 0, PAGES, 1);
    varve_commit *second = step(f, "a", 0, 8, 2);
    varve_commit *third = step(f, "a", 8, 1, 2);
    varve_commit *fourth = step(f, "a", 9, 1, 4);
    struct stat status;

    assert_int_equal(inode_of(f, first, "memory", "a", ""), inode_of(f, second, "memory", "a", ""));
    assert_true(look(f, second, "memory", "a", ".diff", &status));
    assert_int_not_equal(inode_of(f, first, "memory", "a", ""), inode_of(f, third, "memory", "a", ""));
    assert_false(look(f, third, "memory", "a", ".diff", &status));
    assert_int_equal(inode_of(f, third, "memory", "a", ""), inode_of(f, fourth, "memory", "a", ""));
    assert_true(look(f, fourth, "memory", "a", ".diff", &status));
    varve_commit_close(first);
    varve_commit_close(second);
    varve_commit_close(third);
    varve_commit_close(fourth);
    reopen(f);
    assert_int_equal(f->notes + f->warnings + f->damages, 0);
    assert_int_equal(varve_commit_open(f->store, "main~2", &second, NULL), VARVE_OK);
    assert_int_equal(varve_commit_open(f->store, "main", &fourth, NULL), VARVE_OK);
    assert_holds(f, second, "a", 7, 2);
    assert_holds(f, second, "a", 8, 1);
    assert_holds(f, fourth, "a", 8, 2);
    assert_holds(f, fourth, "a", 9, 4);
    varve_commit_close(second);
    varve_commit_close(fourth);
}

/* What the next diff has of the former one it has as it lay there: the bytes of a frame. */
static void frames_that_do_not_change_are_copied(void **state)
{
    struct fixture *f = *state;
    varve_commit *first = step(f, "a", 0, PAGES, 1);
    varve_commit *second = step(f, "a", 0, 3, 2);
    varve_commit *third = step(f, "a", 10, 2, 3);
    struct vv_bytes bytes[2] = { VV_BYTES_NONE, VV_BYTES_NONE };
    struct vv_overlay overlays[2];
    const varve_module_id id = id_of("a");
    char path[PATH], name[80];

    for (unsigned i = 0; i < 2; i++) {
        struct vv_dir dir;
        path_of(f, i == 0 ? second : third, "memory", "a", "", path);
        *strrchr(path, '/') = '\0';
        vv_hex_format(id.bytes, name);
        memcpy(name + 64, ".diff", 6);
        assert_int_equal(vv_dir_open(&vv_vfs_system, path, &dir), VARVE_OK);
        assert_int_equal(vv_overlay_open(&dir, name, &overlays[i]), VARVE_OK);
        assert_int_equal(vv_overlay_frame_bytes(&overlays[i], 0, &bytes[i]), VARVE_OK);
        vv_dir_close(&dir);
    }
    assert_int_equal(overlays[0].frame_count, 1);
    assert_int_equal(overlays[1].frame_count, 2);
    assert_int_equal(overlays[1].page_count, 5);
    assert_int_equal(bytes[0].size, bytes[1].size);
    assert_memory_equal(bytes[0].data, bytes[1].data, bytes[0].size);
    for (unsigned i = 0; i < 2; i++) {
        vv_overlay_close(&overlays[i]);
        vv_bytes_release(&bytes[i]);
    }
    varve_commit_close(first);
    varve_commit_close(second);
    varve_commit_close(third);
}

/* One page at a time, again and again: frames are joined, and dead ones go, so that a diff stays small. */
static void a_diff_does_not_grow_with_the_commits_behind_it(void **state)
{
    struct fixture *f = *state;
    struct stat status;
    off_t least = 0, most = 0;

    varve_commit_close(step(f, "a", 0, PAGES, 1));
    for (unsigned i = 0; i < 60; i++) {
        varve_commit *commit = step(f, "a", i % 8, 1, (uint8_t)(10 + i));
        assert_true(look(f, commit, "memory", "a", ".diff", &status));
        if (i == 8)
            least = status.st_size;
        if (i >= 8 && status.st_size > most)
            most = status.st_size;
        for (unsigned page = 0; page < 8 && page <= i; page++)
            assert_holds(f, commit, "a", page, (uint8_t)(10 + i - (i % 8 + 8 - page) % 8));
        varve_commit_close(commit);
    }
    assert_true(most < 2 * least);
    close_store(f);
    assert_int_equal(damage_found(f), 0);
}

/* ---- Links run out ------------------------------------------------------------------------------ */

struct few_links {
    struct vv_vfs table;
    unsigned left;
};

static int link_if_left(const struct vv_vfs *self, int from_dir, const char *from, int to_dir, const char *to)
{
    struct few_links *few = (struct few_links *)(uintptr_t)self;

    if (few->left == 0)
        return EMLINK;
    few->left--;
    return vv_vfs_system.link(&vv_vfs_system, from_dir, from, to_dir, to);
}

/* A file that can have no further name is copied, and the copy is what comes after it. */
static void where_links_run_out_files_are_copied(void **state)
{
    struct fixture *f = *state;
    struct few_links few = { .table = vv_vfs_system };
    struct stat status;

    few.table.link = link_if_left;
    close_store(f);
    assert_int_equal(open_over(f, &few.table, 0), VARVE_OK);
    varve_commit *first = step(f, "a", 0, PAGES, 1);
    varve_commit *second = step(f, "a", 2, 1, 2);
    assert_int_not_equal(inode_of(f, first, "memory", "a", ""), inode_of(f, second, "memory", "a", ""));
    assert_int_not_equal(inode_of(f, first, "tree", "a", ""), inode_of(f, second, "tree", "a", ""));
    few.left = 100;
    varve_commit *third = step(f, "b", 0, 1, 3);
    assert_int_equal(inode_of(f, second, "memory", "a", ""), inode_of(f, third, "memory", "a", ""));
    assert_int_equal(inode_of(f, second, "memory", "a", ".diff"), inode_of(f, third, "memory", "a", ".diff"));
    assert_true(look(f, first, "memory", "a", "", &status));
    assert_int_equal(status.st_nlink, 1);
    assert_holds(f, first, "a", 2, 1);
    assert_holds(f, second, "a", 2, 2);
    assert_holds(f, third, "a", 2, 2);
    assert_int_equal(varve_commit_delete(f->store, first, NULL), VARVE_OK);
    varve_commit_close(first);
    varve_commit_close(second);
    assert_holds(f, third, "a", 2, 2);
    assert_holds(f, third, "a", 3, 1);
    varve_commit_close(third);
    close_store(f);
    assert_int_equal(damage_found(f), 0);
}

/* ---- What goes ---------------------------------------------------------------------------------- */

static void a_held_directory_stays_and_then_goes(void **state)
{
    struct fixture *f = *state;
    varve_commit *first = step(f, "a", 0, PAGES, 1);
    varve_commit *second = step(f, "a", 0, 1, 2);
    bool more = false;

    assert_int_equal(varve_commit_delete(f->store, first, NULL), VARVE_OK);
    assert_int_equal(directories(f), 2);
    assert_holds(f, first, "a", 0, 1);
    varve_commit_close(first);
    varve_commit_close(second);
    assert_int_equal(f->store->layout->tidy(f->store->place, 1 << 20, &more), VARVE_OK);
    assert_int_equal(directories(f), 1);
    assert_int_equal(varve_commit_open(f->store, "main", &second, NULL), VARVE_OK);
    assert_holds(f, second, "a", 0, 2);
    assert_holds(f, second, "a", 1, 1);
    varve_commit_close(second);
}

static void commits_of_one_root_share_a_directory(void **state)
{
    struct fixture *f = *state;
    varve_commit *first = step(f, "a", 0, 2, 1);
    varve_commit *second = step(f, "a", 0, 2, 2);
    varve_commit *third = step(f, "a", 0, 2, 1); /* as the first */
    varve_commit *fourth = step(f, "a", 0, 2, 4);

    assert_memory_equal(first->facts.root.bytes, third->facts.root.bytes, 32);
    assert_int_equal(directories(f), 3);
    assert_int_equal(varve_commit_delete(f->store, first, NULL), VARVE_OK);
    varve_commit_close(first);
    varve_commit_close(second);
    varve_commit_close(third);
    varve_commit_close(fourth);
    reopen(f);
    assert_int_equal(directories(f), 3);
    assert_int_equal(varve_commit_open(f->store, "main~1", &third, NULL), VARVE_OK);
    assert_holds(f, third, "a", 1, 1);
    assert_int_equal(varve_commit_delete(f->store, third, NULL), VARVE_OK);
    varve_commit_close(third);
    reopen(f);
    assert_int_equal(directories(f), 2);
    assert_int_equal(f->damages, 0);
}

/* Any commit goes, in any order, and the others hold what they held. */
static void commits_go_in_any_order(void **state)
{
    static const unsigned order[] = { 3, 0, 5, 1, 4, 2 };
    struct fixture *f = *state;
    varve_commit *commits[7];

    for (unsigned i = 0; i < 7; i++) {
        varve_session *session = begin(f, NULL);
        put(session, "a", i, i == 3 ? 20 : 1, (uint8_t)(i + 1));
        put(session, "b", i, 1, (uint8_t)(i + 1));
        commits[i] = end(f, session);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(varve_commit_delete(f->store, commits[order[i]], NULL), VARVE_OK);
        varve_commit_close(commits[order[i]]);
        commits[order[i]] = NULL;
        for (unsigned k = 0; k < 7; k++)
            if (commits[k] != NULL) {
                assert_holds(f, commits[k], "a", k, (uint8_t)(k + 1));
                assert_holds(f, commits[k], "b", 0, 1);
            }
    }
    varve_commit_close(commits[6]);
    reopen(f);
    assert_int_equal(directories(f), 1);
    close_store(f);
    assert_int_equal(damage_found(f), 0);
}

/* What gc says that it would free it frees, and the history is written anew when most of it is gone. */
static void gc_says_what_it_frees(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    char path[PATH];
    uint64_t told = 0, freed = 0, nothing = 1;

    (void)snprintf(path, sizeof path, "%s/.varve/history", f->path);
    for (unsigned i = 0; i < 40; i++)
        varve_commit_close(step(f, "a", 0, i % 4 == 0 ? 30 : 1, (uint8_t)(i + 1)));
    assert_int_equal(stat(path, &before), 0);
    f->store->layout->configure(f->store->place, 2, 0);
    assert_int_equal(f->store->layout->maintain(f->store->place, VARVE_MAINTAIN_DRY_RUN, NULL, NULL, &told),
                     VARVE_OK);
    assert_int_equal(directories(f), 40);
    assert_int_equal(f->store->layout->maintain(f->store->place, 0, NULL, NULL, &freed), VARVE_OK);
    assert_int_equal(directories(f), 2);
    assert_true(told > 0);
    assert_int_equal(told, freed);
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size < before.st_size);
    assert_int_equal(f->store->layout->maintain(f->store->place, 0, NULL, NULL, &nothing), VARVE_OK);
    assert_int_equal(nothing, 0);
    varve_commit_close(step(f, "a", 5, 1, 99));
    reopen(f);
    assert_int_equal(f->notes + f->warnings + f->damages, 0);
    assert_int_equal(f->store->layout->last_number(f->store->place), 41);
}

/* ---- Rot ---------------------------------------------------------------------------------------- */

/* Flip a byte of a file and open again. */
static void spoil(struct fixture *f, const varve_commit *commit, const char *part, const char *end_of_name,
                  off_t offset)
{
    char path[PATH];

    path_of(f, commit, part, "a", end_of_name, path);
    flip(path, offset);
}

static void rot_is_told_and_never_read(void **state)
{
    static const struct {
        const char *part, *end_of_name;
        off_t offset;
    } places[] = { { "memory", "", 9 * VV_PAGE_SIZE }, { "tree", "", 300 }, { "memory", ".diff", 100 } };
    struct fixture *f = *state;
    uint8_t value = 0;

    for (unsigned i = 0; i < 3; i++) {
        varve_commit_close(step(f, "a", 0, PAGES, (uint8_t)(i + 1)));
        varve_commit *spoiled = step(f, "a", 9 + (i < 2), 1, 100);
        varve_commit *sound = step(f, "a", 0, PAGES, (uint8_t)(50 + i));
        spoil(f, spoiled, places[i].part, places[i].end_of_name, places[i].offset);
        varve_commit_close(spoiled);
        varve_commit_close(sound);
        reopen(f);
        assert_int_equal(f->damages, 0);
        assert_int_equal(varve_commit_open(f->store, "main~1", &spoiled, NULL), VARVE_OK);
        assert_int_equal(varve_commit_open(f->store, "main", &sound, NULL), VARVE_OK);
        assert_holds(f, sound, "a", 9, (uint8_t)(50 + i));
        const varve_status rc = peek(f, spoiled, "a", 9, &value);
        /* A byte of a mapped base image that nobody has compared yet is what the file says: fsck and commits tell. */
        assert_true(rc == VARVE_CORRUPT || i == 0);
        if (rc == VARVE_CORRUPT)
            assert_non_null(strstr(vv_words(), "/"));
        varve_commit_close(spoiled);
        varve_commit_close(sound);
        close_store(f);
        assert_true(damage_found(f) > 0);
        assert_non_null(strstr(f->words, i == 1 ? "/tree/" : i == 2 ? ".diff: " : "/memory/"));
        assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
    }
}

static void a_missing_file_is_damage_and_never_zeros(void **state)
{
    static const char *const parts[] = { "memory", "tree", "memory" };
    static const char *const ends[] = { "", "", ".diff" };
    struct fixture *f = *state;
    uint8_t value = 0;
    char path[PATH];

    for (unsigned i = 0; i < 3; i++) {
        varve_commit_close(step(f, "a", 0, PAGES, (uint8_t)(i + 1)));
        varve_commit *commit = step(f, "a", 9, 1, 100);
        path_of(f, commit, parts[i], "a", ends[i], path);
        varve_commit_close(commit);
        close_store(f);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
        assert_int_equal(varve_commit_open(f->store, "main", &commit, NULL), VARVE_OK);
        assert_int_equal(peek(f, commit, "a", 9, &value), VARVE_CORRUPT);
        varve_commit_close(commit);
        close_store(f);
        assert_true(damage_found(f) > 0);
        assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
        /* The branch goes back, the commit is given up, and all goes on. */
        varve_commit *damaged = NULL;
        assert_int_equal(varve_commit_open(f->store, "main", &damaged, NULL), VARVE_OK);
        assert_int_equal(varve_commit_open(f->store, "main~1", &commit, NULL), VARVE_OK);
        const struct vv_ref_move back = {
            .name = "main", .what = "restore", .to = &commit->facts.id, .force = true
        };
        assert_int_equal(f->store->layout->move_refs(f->store->place, &back, 1, 0), VARVE_OK);
        assert_int_equal(varve_commit_delete(f->store, damaged, NULL), VARVE_OK);
        varve_commit_close(commit);
        varve_commit_close(damaged);
        close_store(f);
        assert_int_equal(damage_found(f), 0);
        assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
    }
}

static void history_path(const struct fixture *f, char path[PATH])
{
    (void)snprintf(path, PATH, "%s/.varve/history", f->path);
}

/* After a clean close the last record is acknowledged: rot in it is damage. Without, it is an append that ended
 * unfinished. */
static void a_bad_last_record_is_damage_only_when_it_was_acknowledged(void **state)
{
    struct fixture *f = *state;
    varve_commit *commit = NULL;
    char path[PATH], end_path[PATH + 8];

    history_path(f, path);
    (void)snprintf(end_path, sizeof end_path, "%s.end", path);
    varve_commit_close(step(f, "a", 0, 1, 1));
    varve_commit_close(step(f, "a", 0, 1, 2));
    close_store(f);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    flip(path, status.st_size - VV_PAGE_SIZE + 40);
    assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
    assert_int_equal(f->damages, 1);
    varve_session *session = begin(f, NULL);
    const varve_commit_options options = { .size = sizeof options };
    bool ended = false;
    put(session, "a", 0, 1, 9);
    assert_int_equal(vv_session_commit(session, &options, &commit, &ended), VARVE_CORRUPT);
    vv_session_abort(session);
    assert_int_equal(directories(f), 2); /* nothing is removed beside damage */
    close_store(f);
    assert_true(damage_found(f) > 0);
    assert_int_equal(unlink(end_path), 0);
    assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
    assert_int_equal(f->damages, 0);
    assert_true(f->notes >= 2); /* the record, and the directory that nobody names any more */
    assert_int_equal(directories(f), 1);
    varve_commit_close(step(f, "a", 0, 1, 3));
    reopen(f);
    assert_int_equal(f->notes + f->warnings + f->damages, 0);
    assert_int_equal(f->store->layout->last_number(f->store->place), 2);
}

/* A bad record that a sound one follows is damage in any case; what does not need it opens. */
static void a_bad_record_in_the_middle_is_damage(void **state)
{
    struct fixture *f = *state;
    varve_commit *commit = NULL;
    char path[PATH], end_path[PATH + 8];

    history_path(f, path);
    (void)snprintf(end_path, sizeof end_path, "%s.end", path);
    for (unsigned i = 1; i <= 3; i++)
        varve_commit_close(step(f, "a", 0, 1, (uint8_t)i));
    close_store(f);
    assert_int_equal(unlink(end_path), 0);
    flip(path, 2 * VV_PAGE_SIZE + 3); /* of the second commit, its length */
    assert_int_equal(open_over(f, &vv_vfs_system, 0), VARVE_OK);
    assert_int_equal(f->damages, 1);
    assert_int_equal(varve_commit_open(f->store, "main", &commit, NULL), VARVE_OK);
    assert_holds(f, commit, "a", 0, 3);
    varve_commit_close(commit);
    assert_int_equal(varve_commit_open(f->store, "r1", &commit, NULL), VARVE_OK);
    assert_holds(f, commit, "a", 0, 1);
    varve_commit_close(commit);
    assert_int_equal(varve_commit_open(f->store, "r2", &commit, NULL), VARVE_NOT_FOUND);
}

/* ---- Sessions at once --------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20 };

struct worker {
    struct fixture *f;
    unsigned number;
    char words[200]; /* what went wrong; "": nothing */
};

static varve_status work_once(const struct worker *worker, unsigned round, varve_commit **last)
{
    const varve_image_options image_options = { .size = sizeof image_options,
                                                .name = "a",
                                                .create_size = PAGES * VV_PAGE_SIZE,
                                                .reserve = 1 << 20 };
    const varve_commit_options commit_options = { .size = sizeof commit_options,
                                                  .time_ns = 1 + worker->number + THREADS * (round + 1) };
    char branch[16];
    const varve_session_options options = { .size = sizeof options, .branch = branch };
    const uint8_t value = (uint8_t)(worker->number * ROUNDS + round + 2);
    const varve_module_id id = id_of("a");
    varve_session *session = NULL;
    varve_commit *commit = NULL;
    varve_image *image = NULL;
    uint8_t found = 0;
    bool ended = false;
    varve_status rc = VARVE_OK;

    (void)snprintf(branch, sizeof branch, "b%u", worker->number);
    TRY(vv_session_begin(worker->f->store, &options, &session));
    TRY(varve_image_open(session, &id, &image_options, &image, NULL));
    TRY(varve_image_write(image, (uint64_t)(round % PAGES) * VV_PAGE_SIZE, &value, 1, NULL));
    TRY(vv_session_commit(session, &commit_options, &commit, &ended));
    session = NULL;
    TRY(peek(worker->f, commit, "a", round % PAGES, &found));
    if (found != value)
        rc = vv_fail(VARVE_CONFLICT, "round %u: another byte is read", round);
    /* The one before goes, while others look at theirs, which have the same files. */
    if (rc == VARVE_OK && *last != NULL && round % 3 != 0)
        rc = varve_commit_delete(worker->f->store, *last, NULL);
    if (rc == VARVE_OK && *last != NULL && round > 0)
        rc = peek(worker->f, *last, "a", (round - 1) % PAGES, &found);
out:
    if (session != NULL && !ended)
        vv_session_abort(session);
    varve_commit_close(*last);
    *last = commit;
    return rc;
}

static void *work(void *context)
{
    struct worker *worker = context;
    varve_commit *last = NULL;

    for (unsigned round = 0; round < ROUNDS && worker->words[0] == '\0'; round++)
        if (work_once(worker, round, &last) != VARVE_OK)
            (void)snprintf(worker->words, sizeof worker->words, "%s", vv_words());
    varve_commit_close(last);
    return NULL;
}

static void sessions_and_deletions_at_once(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS];
    pthread_t threads[THREADS];

    varve_commit *first = step(f, "a", 0, PAGES, 1);
    for (unsigned i = 0; i < THREADS; i++) {
        struct vv_ref_move move = { .what = "create", .to = &first->facts.id };
        (void)snprintf(move.name, sizeof move.name, "b%u", i);
        assert_int_equal(f->store->layout->move_refs(f->store->place, &move, 1, 0), VARVE_OK);
    }
    varve_commit_close(first);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .f = f, .number = i };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_string_equal(workers[i].words, "");
    reopen(f);
    assert_int_equal(f->notes + f->warnings + f->damages, 0);
    close_store(f);
    assert_int_equal(damage_found(f), 0);
}

/* ---- What files are for ------------------------------------------------------------------------- */

struct listed {
    char text[4000];
};

static varve_status list_file(void *context, const struct vv_file_facts *file)
{
    struct listed *listed = context;
    const size_t used = strlen(listed->text);
    const char *rest = strchr(file->path, '/');

    /* Part, the module's first digits, what it is. */
    (void)snprintf(listed->text + used, sizeof listed->text - used, "%.10s:%s%s\n", rest + 1,
                   strstr(rest, ".diff") != NULL ? "diff:" : "", file->what);
    return VARVE_OK;
}

static void files_are_told_in_the_words_of_the_note(void **state)
{
    struct fixture *f = *state;
    struct listed *listed = calloc(1, sizeof *listed);

    varve_commit_close(step(f, "a", 0, PAGES, 1));
    varve_commit_close(step(f, "a", 0, 1, 2));
    varve_commit_close(step(f, "b", 0, 1, 3));
    assert_int_equal(f->store->layout->files(f->store->place, list_file, listed), VARVE_OK);
    unsigned counts[5] = { 0 };
    static const char *const words[] = { "Hard link", "New module", "diff:Delta", "Module memory hashes",
                                         "diff:Hard link" };
    for (unsigned i = 0; i < 5; i++)
        for (const char *at = strstr(listed->text, words[i]); at != NULL; at = strstr(at + 1, words[i]))
            counts[i]++;
    assert_int_equal(counts[0], 5); /* image and tree of a twice, and its diff once */
    assert_int_equal(counts[1], 2);
    assert_int_equal(counts[2], 1);
    assert_int_equal(counts[3], 3);
    assert_int_equal(counts[4], 1);
    free(listed);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_does_not_change_is_a_hard_link),
        TEST(a_large_change_is_a_new_base_image),
        TEST(frames_that_do_not_change_are_copied),
        TEST(a_diff_does_not_grow_with_the_commits_behind_it),
        TEST(where_links_run_out_files_are_copied),
        TEST(a_held_directory_stays_and_then_goes),
        TEST(commits_of_one_root_share_a_directory),
        TEST(commits_go_in_any_order),
        TEST(gc_says_what_it_frees),
        TEST(rot_is_told_and_never_read),
        TEST(a_missing_file_is_damage_and_never_zeros),
        TEST(a_bad_last_record_is_damage_only_when_it_was_acknowledged),
        TEST(a_bad_record_in_the_middle_is_damage),
        TEST(sessions_and_deletions_at_once),
        TEST(files_are_told_in_the_words_of_the_note),
    };

    scratch_in_memory();
    return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
