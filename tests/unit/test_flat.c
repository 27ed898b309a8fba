/* The layout flat: what its directory shows after each step of the notes (seeds 000 and 002), what lasts and what does not,
 * and what becomes of damage. What every layout does: tests/layout. Crashes: tests/crash/test_flat*.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <varve.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "scratch.h"
#include "store/flat/place.h"
#include "store/session.h"

enum { MODULES = 2, PAGES = 20, LISTING = 4096, SHORTS = 16 };

struct fixture {
    char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    varve_store *store;
    varve_module_id id[MODULES];
    varve_commit *commits[SHORTS]; /* in order, from 1 on */
    unsigned count;
    char shorts[SHORTS][65]; /* module commits in the order in which they were met: Commit1.. */
    unsigned notes, damages; /* findings */
    char finding[512];       /* the last */
    varve_error error;
};

static void find(void *context, const varve_finding *finding)
{
    struct fixture *f = context;

    f->notes += finding->severity == VARVE_NOTE;
    f->damages += finding->severity == VARVE_DAMAGE;
    (void)snprintf(f->finding, sizeof f->finding, "%s: %s", finding->file == NULL ? "" : finding->file,
                   finding->text);
}

static varve_status open_with(struct fixture *f, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = VARVE_LAYOUT_FLAT,
                                          .finding = find,
                                          .context = f };

    f->notes = f->damages = 0;
    return varve_store_open(f->path, &options, &f->store, &f->error);
}

static void close_all(struct fixture *f)
{
    for (unsigned i = 0; i < SHORTS; i++) {
        varve_commit_close(f->commits[i]);
        f->commits[i] = NULL;
    }
    varve_store_close(f->store);
    f->store = NULL;
}

static void reopen(struct fixture *f)
{
    close_all(f);
    assert_int_equal(open_with(f, 0), VARVE_OK);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    (void)snprintf(f->path, sizeof f->path, "%s/store", f->root);
    assert_int_equal(varve_module_id_of("one", &f->id[0]), VARVE_OK);
    assert_int_equal(varve_module_id_of("two", &f->id[1]), VARVE_OK);
    if (memcmp(f->id[0].bytes, f->id[1].bytes, 32) > 0) {
        const varve_module_id first = f->id[0];
        f->id[0] = f->id[1];
        f->id[1] = first;
    }
    assert_int_equal(open_with(f, VARVE_STORE_CREATE), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_all(f);
    scratch_remove(f->root);
    free(f);
    return 0;
}

static varve_image *image_of(struct fixture *f, varve_session *session, unsigned module)
{
    const varve_image_options options = {
        .size = sizeof options, .create_size = PAGES * VV_PAGE_SIZE, .reserve = 1 << 20
    };
    varve_image *image = NULL;

    assert_int_equal(varve_image_open(session, &f->id[module], &options, &image, &f->error), VARVE_OK);
    return image;
}

static varve_session *begin(struct fixture *f)
{
    const varve_session_options options = { .size = sizeof options, .time_ns = 1 };
    varve_session *session = NULL;

    if (varve_session_begin(f->store, &options, &session, &f->error) != VARVE_OK)
        fail_msg("%s", f->error.message);
    return session;
}

static void write_to(varve_image *image, uint64_t value)
{
    uint8_t *bytes = varve_image_bytes(image);

    vv_put_u64(bytes, value);
    vv_put_u64(bytes + 5 * VV_PAGE_SIZE, value + 1);
}

static varve_status try_commit(struct fixture *f, varve_session *session, varve_commit **commit)
{
    const varve_commit_options options = { .size = sizeof options, .time_ns = 1000 + f->count };
    const varve_status rc = varve_session_commit(session, &options, commit, &f->error);

    if (rc != VARVE_OK)
        varve_session_abort(session);
    return rc;
}

/* A session commit in which both modules were active. */
static void commit(struct fixture *f, uint64_t value)
{
    varve_session *session = begin(f);

    for (unsigned i = 0; i < MODULES; i++)
        write_to(image_of(f, session, i), value + 100 * i);
    if (try_commit(f, session, &f->commits[++f->count]) != VARVE_OK)
        fail_msg("%s", f->error.message);
}

static varve_commit *open_commit(struct fixture *f, const char *revision)
{
    varve_commit *found = NULL;

    if (varve_commit_open(f->store, revision, &found, &f->error) != VARVE_OK)
        fail_msg("%s: %s", revision, f->error.message);
    return found;
}

static void restore(struct fixture *f, const char *revision)
{
    varve_commit *to = open_commit(f, revision);

    if (varve_ref_set(f->store, "main", to, NULL, VARVE_REF_FORCE, &f->error) != VARVE_OK)
        fail_msg("%s", f->error.message);
    varve_commit_close(to);
}

static varve_status read_at(struct fixture *f, const char *revision, unsigned module, uint64_t *value)
{
    varve_commit *base = NULL;
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_session_options options = { .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY, .branch = "" };
    uint8_t bytes[8] = { 0 };
    varve_status rc = VARVE_OK;

    TRY(varve_commit_open(f->store, revision, &base, &f->error));
    options.base = base;
    TRY(varve_session_begin(f->store, &options, &session, &f->error));
    TRY(varve_image_open(session, &f->id[module], NULL, &image, &f->error));
    TRY(varve_image_read(image, 0, bytes, sizeof bytes, &f->error));
    *value = vv_get_u64(bytes);
out:
    varve_session_abort(session);
    varve_commit_close(base);
    return rc;
}

static void assert_at(struct fixture *f, const char *revision, uint64_t value)
{
    for (unsigned i = 0; i < MODULES; i++) {
        uint64_t found = 0;
        if (read_at(f, revision, i, &found) != VARVE_OK)
            fail_msg("%s", f->error.message);
        assert_int_equal(found, value + 100 * i);
    }
}

static void persist(struct fixture *f)
{
    assert_int_equal(varve_store_persist(f->store, &f->error), VARVE_OK);
}

/* ---- The directory ------------------------------------------------------------------------------ */

static const char *short_commit(struct fixture *f, const char *hex)
{
    static char text[16];

    for (unsigned i = 0; i < SHORTS; i++) {
        if (f->shorts[i][0] == '\0')
            memcpy(f->shorts[i], hex, 64);
        if (strncmp(f->shorts[i], hex, 64) == 0) {
            (void)snprintf(text, sizeof text, "C%u", i + 1);
            return text;
        }
    }
    return "many";
}

/* A name as the note has it: module ids are M1, M2; their commits C1.. in the order in which they were met. */
static void shorten(struct fixture *f, const char *name, char text[64])
{
    char hex[65];

    for (unsigned i = 0; i < MODULES; i++) {
        vv_hex_format(f->id[i].bytes, hex);
        if (strncmp(name, hex, 64) != 0)
            continue;
        if (strlen(name) == VV_FLAT_NAME - 1)
            (void)snprintf(text, 64, "M%u_%s", i + 1, short_commit(f, name + 65));
        else
            (void)snprintf(text, 64, "M%u%.20s", i + 1, name + 64);
        return;
    }
    (void)snprintf(text, 64, "%.60s", name);
}

/* "file: comment" for each, in order. */
static void list(struct fixture *f, char listing[LISTING])
{
    varve_files *files = NULL;
    const varve_file_info *info = NULL;
    char name[64];
    size_t used = 0;

    listing[0] = '\0';
    assert_int_equal(varve_files_open(f->store, &files, &f->error), VARVE_OK);
    while (varve_files_next(files, &info, &f->error) == VARVE_OK) {
        shorten(f, info->path, name);
        used += (size_t)snprintf(listing + used, LISTING - used, "%s: %s\n", name, info->what);
    }
    varve_files_close(files);
}

static void assert_files(struct fixture *f, const char *wanted)
{
    char listing[LISTING];

    list(f, listing);
    assert_string_equal(listing, wanted);
}

static void path_to(const struct fixture *f, const char *name, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", f->path, name);
}

static uint8_t *slurp(const struct fixture *f, const char *name, size_t *size)
{
    char path[512];
    struct stat found;
    uint8_t *bytes = NULL;

    path_to(f, name, path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &found), 0);
    *size = (size_t)found.st_size;
    bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    (void)fclose(file);
    return bytes;
}

static void spit(const struct fixture *f, const char *name, const uint8_t *bytes, size_t size)
{
    char path[512];

    path_to(f, name, path);
    (void)unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* The file of a module's version at a revision. */
static void version_name(struct fixture *f, const char *revision, unsigned module, char name[VV_FLAT_NAME])
{
    varve_commit *base = open_commit(f, revision);
    const struct vv_plain_commit *found = NULL;
    struct vv_item item;
    bool present = false;

    found = vv_plain_commit_of(&f->store->place->plain, &varve_commit_get(base)->id);
    assert_int_equal(vv_trie_get(&found->state.trie, f->id[module].bytes, &item, &present), VARVE_OK);
    assert_true(present);
    vv_hex_format(f->id[module].bytes, name);
    name[64] = '_';
    vv_hex_format(item.hash, name + 65);
    varve_commit_close(base);
}

/* ---- The notes ---------------------------------------------------------------------------------- */

static void the_directory_is_as_the_notes_say(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    const varve_commit_options options = { .size = sizeof options, .time_ns = 1 };
    size_t before = 0, after = 0;

    /* Initial state: two modules, some transactions, no commit. */
    for (unsigned i = 0; i < MODULES; i++)
        write_to(image_of(f, session, i), 1 + 100 * i);
    vv_session_show(session);
    assert_files(f, "M1: mmap backing file\nM2: mmap backing file\n");

    assert_int_equal(varve_session_commit(session, &options, NULL, &f->error), VARVE_OK);
    assert_files(f, "M1: mmap backing file\nM1_C1: module commit of r1\nM1_last: points to commit1\n"
                    "M2: mmap backing file\nM2_C2: module commit of r1\nM2_last: points to commit1\n");

    f->count = 1;
    commit(f, 7);
    char listing[LISTING];
    list(f, listing);
    for (unsigned i = 0; i < MODULES; i++) {
        char line[32];
        (void)snprintf(line, sizeof line, "M%u_last: points to commit2\n", i + 1);
        assert_non_null(strstr(listing, line));
    }
    assert_non_null(strstr(listing, "module commit of r1"));
    assert_non_null(strstr(listing, "module commit of r2"));
    assert_null(strstr(listing, "commits:"));

    persist(f);
    list(f, listing);
    assert_non_null(strstr(listing, "commits: contains commits' store\n"));
    uint8_t *store = slurp(f, "commits", &before);

    restore(f, "r1");
    list(f, listing);
    for (unsigned i = 0; i < MODULES; i++) {
        char line[32];
        (void)snprintf(line, sizeof line, "M%u_last: points to commit1\n", i + 1);
        assert_non_null(strstr(listing, line));
    }
    uint8_t *same = slurp(f, "commits", &after);
    assert_int_equal(before, after);
    assert_memory_equal(store, same, after);
    assert_at(f, "main", 1);
    assert_at(f, "r2", 7);
    free(store);
    free(same);
}

/* "Files ModId_last: their text is exactly that name", and the file is the memory as it lies. */
static void a_pointer_names_the_memory(void **state)
{
    struct fixture *f = *state;
    char link[512], text[256] = "", name[VV_FLAT_NAME], hex[65];
    size_t size = 0;

    commit(f, 5);
    version_name(f, "main", 0, name);
    vv_hex_format(f->id[0].bytes, hex);
    (void)snprintf(link, sizeof link, "%s/%s_last", f->path, hex);
    assert_true(readlink(link, text, sizeof text - 1) > 0);
    assert_string_equal(text, name);
    uint8_t *bytes = slurp(f, name, &size);
    assert_int_equal(size, PAGES * VV_PAGE_SIZE);
    assert_int_equal(vv_get_u64(bytes), 5);
    assert_int_equal(vv_get_u64(bytes + 5 * VV_PAGE_SIZE), 6);
    free(bytes);
    struct stat found;
    path_to(f, name, link);
    assert_int_equal(stat(link, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0444);
    assert_true(found.st_blocks * 512 < PAGES * VV_PAGE_SIZE); /* sparse */
}

static void a_dropped_session_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    size_t size = 0;
    char hex[65];

    write_to(image_of(f, session, 0), 3);
    vv_session_show(session);
    assert_files(f, "M1: mmap backing file\n");
    varve_session_abort(session);
    assert_files(f, "");

    commit(f, 4);
    session = begin(f);
    write_to(image_of(f, session, 0), 99);
    vv_session_show(session);
    vv_hex_format(f->id[0].bytes, hex);
    uint8_t *bytes = slurp(f, hex, &size);
    assert_int_equal(vv_get_u64(bytes), 99);
    free(bytes);
    varve_session_abort(session);
    bytes = slurp(f, hex, &size);
    assert_int_equal(vv_get_u64(bytes), 4);
    free(bytes);
}

/* ---- What lasts --------------------------------------------------------------------------------- */

static void a_restart_brings_what_was_persisted_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    const varve_maintain_options dry = { .size = sizeof dry, .flags = VARVE_MAINTAIN_DRY_RUN };
    const varve_maintain_options wet = { .size = sizeof wet };
    uint64_t would = 0, freed = 0;
    char listing[LISTING];

    commit(f, 1);
    persist(f);
    commit(f, 2);
    commit(f, 3);
    reopen(f);
    assert_at(f, "main", 1);
    assert_int_equal(varve_commit_open(f->store, "r2", &f->commits[1], &f->error), VARVE_NOT_FOUND);
    assert_int_equal(f->notes, 4); /* two commits of two modules */
    assert_non_null(strstr(f->finding, "never persisted: gc removes it"));
    list(f, listing);
    assert_non_null(strstr(listing, "of no commit: gc removes it"));
    assert_int_equal(varve_store_maintain(f->store, &dry, &would, &f->error), VARVE_OK);
    list(f, listing);
    assert_non_null(strstr(listing, "of no commit: gc removes it"));
    assert_int_equal(varve_store_maintain(f->store, &wet, &freed, &f->error), VARVE_OK);
    assert_int_equal(would, freed);
    assert_true(freed > 0);
    list(f, listing);
    assert_null(strstr(listing, "of no commit"));
    reopen(f);
    assert_int_equal(f->notes, 0);
    assert_at(f, "main", 1);
}

static void nothing_was_persisted(void **state)
{
    struct fixture *f = *state;

    commit(f, 1);
    reopen(f);
    assert_int_equal(varve_commit_open(f->store, "main", &f->commits[1], &f->error), VARVE_NOT_FOUND);
    assert_int_equal(f->notes, 2);
    f->count = 0;
    commit(f, 1); /* the same module commits, whose files are there already, believed nothing */
    assert_at(f, "main", 1);
    persist(f);
    reopen(f);
    assert_int_equal(f->notes, 0);
    assert_at(f, "main", 1);
}

static void a_move_to_what_lasts_lasts(void **state)
{
    struct fixture *f = *state;

    commit(f, 1);
    commit(f, 2);
    persist(f);
    restore(f, "r1");
    reopen(f);
    assert_at(f, "main", 1);
    restore(f, "r2");
    reopen(f);
    assert_at(f, "main", 2);
    f->count = 2;
    commit(f, 3);
    restore(f, "r1"); /* lasts; then on to what does not */
    restore(f, "r3");
    assert_at(f, "main", 3);
    reopen(f);
    assert_at(f, "main", 1);
    f->count = 3;
    commit(f, 4);
    persist(f); /* what `.varve/last` said is void now */
    reopen(f);
    assert_at(f, "main", 4);
}

static void a_file_that_leads_into_a_torn_life_is_written_anew(void **state)
{
    struct fixture *f = *state;
    char name[VV_FLAT_NAME];

    commit(f, 1);
    version_name(f, "main", 0, name);
    close_all(f);
    spit(f, name, (const uint8_t *)"torn", 4);
    assert_int_equal(open_with(f, 0), VARVE_OK);
    f->count = 0;
    commit(f, 1);
    assert_at(f, "main", 1);
    persist(f);
    reopen(f);
    assert_at(f, "main", 1);
}

static void the_same_module_commit_is_the_same_file(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    char name[VV_FLAT_NAME], again[VV_FLAT_NAME], path[512];

    commit(f, 1);
    version_name(f, "main", 0, name);
    path_to(f, name, path);
    assert_int_equal(stat(path, &before), 0);
    commit(f, 2);
    commit(f, 1);
    version_name(f, "main", 0, again);
    assert_string_equal(name, again);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    persist(f);
    reopen(f);
    assert_at(f, "r3", 1);
    assert_at(f, "r2", 2);
    assert_at(f, "r1", 1);
}

static void a_deleted_commit_never_comes_back(void **state)
{
    struct fixture *f = *state;
    char name[VV_FLAT_NAME], path[512];
    uint64_t freed = 0;

    for (unsigned i = 1; i <= 3; i++)
        commit(f, i);
    persist(f);
    version_name(f, "r2", 0, name);
    path_to(f, name, path);
    assert_int_equal(varve_commit_delete(f->store, f->commits[2], &f->error), VARVE_OK);
    assert_int_equal(access(path, F_OK), 0); /* we hold it */
    assert_int_equal(varve_commit_open(f->store, "r2", &f->commits[5], &f->error), VARVE_NOT_FOUND);
    varve_commit_close(f->commits[2]);
    f->commits[2] = NULL;
    for (unsigned i = 1; i <= 3; i++) {
        varve_commit_close(f->commits[i]);
        f->commits[i] = NULL;
    }
    assert_int_equal(varve_store_maintain(f->store, NULL, &freed, &f->error), VARVE_OK);
    assert_int_equal(access(path, F_OK), -1);
    reopen(f);
    assert_int_equal(varve_commit_open(f->store, "r2", &f->commits[5], &f->error), VARVE_NOT_FOUND);
    assert_at(f, "r1", 1);
    assert_at(f, "main", 3);
}

static void retention_keeps_the_newest(void **state)
{
    struct fixture *f = *state;
    const varve_store_options options = { .size = sizeof options, .retain = 2 };
    uint64_t freed = 0;
    char listing[LISTING];

    for (unsigned i = 1; i <= 5; i++)
        commit(f, i);
    persist(f);
    for (unsigned i = 1; i <= 5; i++) {
        varve_commit_close(f->commits[i]);
        f->commits[i] = NULL;
    }
    assert_int_equal(varve_store_configure(f->store, &options, &f->error), VARVE_OK);
    assert_int_equal(varve_store_maintain(f->store, NULL, &freed, &f->error), VARVE_OK);
    assert_true(freed > 0);
    list(f, listing);
    assert_null(strstr(listing, "of r3"));
    assert_non_null(strstr(listing, "of r4"));
    reopen(f);
    assert_at(f, "main~1", 4);
    assert_at(f, "main", 5);
}

/* ---- What it cannot ----------------------------------------------------------------------------- */

static void what_it_cannot_it_says(void **state)
{
    struct fixture *f = *state;
    varve_session_options options = { .size = sizeof options, .branch = "" };
    const varve_commit_options durable = { .size = sizeof durable, .durability = VARVE_DURABLE };
    varve_session *session = NULL, *second = NULL;

    commit(f, 1);
    options.base = f->commits[1];
    assert_int_equal(varve_session_begin(f->store, &options, &session, &f->error), VARVE_OK);
    assert_int_equal(varve_session_begin(f->store, &options, &second, &f->error), VARVE_UNSUPPORTED);
    assert_non_null(strstr(f->error.message, "tree and journal"));
    write_to(image_of(f, session, 0), 9);
    assert_int_equal(try_commit(f, session, NULL), VARVE_UNSUPPORTED); /* detached */
    assert_non_null(strstr(f->error.message, "tree and journal"));
    assert_int_equal(varve_ref_set(f->store, "side", f->commits[1], NULL, 0, &f->error), VARVE_UNSUPPORTED);
    assert_non_null(strstr(f->error.message, "tree and journal"));
    assert_int_equal(varve_ref_set(f->store, "tags/one", f->commits[1], NULL, 0, &f->error), VARVE_OK);
    session = begin(f);
    write_to(image_of(f, session, 0), 9);
    assert_int_equal(varve_session_commit(session, &durable, NULL, &f->error), VARVE_UNSUPPORTED);
    assert_non_null(strstr(f->error.message, "tree or journal"));
    varve_session_abort(session);
    assert_at(f, "main", 1);
}

/* ---- Damage ------------------------------------------------------------------------------------- */

static uint64_t damage_of(struct fixture *f)
{
    const varve_check_options options = { .size = sizeof options, .finding = find, .context = f };
    uint64_t damage = 0;

    close_all(f);
    assert_int_equal(varve_store_check(f->path, &options, &damage, &f->error), VARVE_OK);
    return damage;
}

static void a_missing_file_is_damage(void **state)
{
    struct fixture *f = *state;
    char name[VV_FLAT_NAME], path[512];
    uint64_t value = 0;

    commit(f, 1);
    commit(f, 2);
    persist(f);
    version_name(f, "r1", 0, name);
    path_to(f, name, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(damage_of(f), 1);
    assert_int_equal(open_with(f, 0), VARVE_OK);
    assert_int_equal(f->damages, 1);
    assert_int_equal(read_at(f, "r1", 0, &value), VARVE_CORRUPT);
    assert_non_null(strstr(f->error.message, name));
    assert_int_equal(read_at(f, "r1", 1, &value), VARVE_OK);
    assert_at(f, "main", 2);
    varve_session *session = begin(f);
    write_to(image_of(f, session, 0), 9);
    assert_int_equal(try_commit(f, session, NULL), VARVE_CORRUPT);
}

static void a_rotten_page_is_damage_that_names_the_file(void **state)
{
    struct fixture *f = *state;
    char name[VV_FLAT_NAME];
    size_t size = 0;
    struct vv_leaf leaf = { .locator = 0 };
    uint8_t page[VV_PAGE_SIZE];
    bool present = false;

    commit(f, 1);
    commit(f, 2);
    persist(f);
    version_name(f, "main", 1, name);
    uint8_t *bytes = slurp(f, name, &size);
    bytes[5 * VV_PAGE_SIZE + 77] ^= 4;
    close_all(f);
    spit(f, name, bytes, size);
    free(bytes);
    assert_int_equal(damage_of(f), 1);
    assert_non_null(strstr(f->finding, name));
    assert_non_null(strstr(f->finding, "page 5"));
    assert_int_equal(open_with(f, 0), VARVE_OK);

    uint8_t key[64];
    varve_module_id module;
    assert_true(vv_version_is_name(name, key));
    memcpy(module.bytes, key, sizeof module.bytes);
    const struct vv_version *version = vv_version_named(f->store->place, &module, key + 32);
    assert_int_equal(vv_pagetree_get(&version->entry->memory, 5, &leaf, &present), VARVE_OK);
    assert_true(present);
    assert_int_equal(vv_flat_read(f->store->place, &leaf, page), VARVE_CORRUPT);
    assert_non_null(strstr(vv_words(), name));
    /* A commit that would copy the page does not. */
    varve_session *session = begin(f);
    vv_put_u64(varve_image_bytes(image_of(f, session, 1)), 1);
    f->count = 2;
    assert_int_equal(try_commit(f, session, NULL), VARVE_CORRUPT);
    assert_at(f, "r1", 1);
}

static void a_link_is_never_followed(void **state)
{
    struct fixture *f = *state;
    char name[VV_FLAT_NAME], path[512], link[512], text[256] = "", hex[65];
    uint64_t value = 0;

    commit(f, 1);
    persist(f);
    version_name(f, "main", 0, name);
    path_to(f, name, path);
    (void)snprintf(link, sizeof link, "%s/copy", f->root);
    assert_int_equal(rename(path, link), 0);
    assert_int_equal(symlink(link, path), 0); /* the right bytes, elsewhere */
    vv_hex_format(f->id[1].bytes, hex);
    (void)snprintf(path, sizeof path, "%s/%s_last", f->path, hex);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    reopen(f);
    assert_int_equal(read_at(f, "main", 0, &value), VARVE_CORRUPT);
    assert_int_equal(read_at(f, "main", 1, &value), VARVE_OK);
    assert_int_equal(value, 101);
    version_name(f, "main", 1, name);
    assert_true(readlink(path, text, sizeof text - 1) > 0);
    assert_string_equal(text, name); /* it follows main */
}

static void commits_that_are_gone_are_missed(void **state)
{
    struct fixture *f = *state;
    char path[512];

    commit(f, 1);
    persist(f);
    close_all(f);
    path_to(f, "commits", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_with(f, 0), VARVE_CORRUPT);
    assert_non_null(strstr(f->error.message, "commits"));
    assert_true(damage_of(f) > 0);
}

/* Flip bits everywhere in what tells of the files: never a crash, never another memory, and fsck sees it. */
static void every_flipped_bit_is_seen(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = { "commits", ".varve/last", ".varve/nodes.1" };

    commit(f, 1);
    commit(f, 2);
    persist(f);
    restore(f, "r1");
    close_all(f);
    for (unsigned i = 0; i < 3; i++) {
        size_t size = 0;
        uint8_t *bytes = slurp(f, names[i], &size);
        for (size_t at = 0; at < size; at += size < 512 ? 1 : 7) {
            bytes[at] ^= 0x10;
            spit(f, names[i], bytes, size);
            const varve_status rc = open_with(f, VARVE_STORE_READ_ONLY);
            assert_true(rc == VARVE_OK || rc == VARVE_CORRUPT || rc == VARVE_NEWER);
            for (unsigned k = 1; rc == VARVE_OK && k <= 2; k++) {
                uint64_t value = 0;
                char revision[8];
                (void)snprintf(revision, sizeof revision, "r%u", k);
                const varve_status read = read_at(f, revision, 0, &value);
                assert_true(read == VARVE_CORRUPT || (read == VARVE_OK && value == k));
            }
            if (i < 2)
                assert_true(rc != VARVE_OK || f->damages > 0);
            close_all(f);
            bytes[at] ^= 0x10;
        }
        spit(f, names[i], bytes, size);
        /* Cut anywhere. */
        for (size_t cut = 0; cut < size; cut += 61) {
            spit(f, names[i], bytes, cut);
            const varve_status rc = open_with(f, VARVE_STORE_READ_ONLY);
            assert_true(rc == VARVE_CORRUPT || (rc == VARVE_OK && f->damages > 0));
            close_all(f);
        }
        spit(f, names[i], bytes, size);
        free(bytes);
    }
    assert_int_equal(open_with(f, 0), VARVE_OK);
    assert_at(f, "main", 1);
    assert_int_equal(damage_of(f), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_directory_is_as_the_notes_say),
        TEST(a_pointer_names_the_memory),
        TEST(a_dropped_session_leaves_no_trace),
        TEST(a_restart_brings_what_was_persisted_and_nothing_else),
        TEST(nothing_was_persisted),
        TEST(a_move_to_what_lasts_lasts),
        TEST(a_file_that_leads_into_a_torn_life_is_written_anew),
        TEST(the_same_module_commit_is_the_same_file),
        TEST(a_deleted_commit_never_comes_back),
        TEST(retention_keeps_the_newest),
        TEST(what_it_cannot_it_says),
        TEST(a_missing_file_is_damage),
        TEST(a_rotten_page_is_damage_that_names_the_file),
        TEST(a_link_is_never_followed),
        TEST(commits_that_are_gone_are_missed),
        TEST(every_flipped_bit_is_seen),
    };

    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
