/* Image files and snapshots: whatever lies in image/, memory that is mapped from it, with what differs on top, is the
 * commit's; and files that lie, lie half-written, or lie about, are only caches that were lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/double.h"
#include "model.h"
#include "page/root.h"
#include "scratch.h"
#include "store/journal/journal.h"
#include "store/journal/scrub.h"
#include "store/session.h"

static const struct vv_layout *const journal = &vv_layout_journal;
static const struct vv_journal_limits small = {
    .log = { .segment = 64 << 10, .ahead = 8 << 10, .files = 2 },
    .checkpoint_records = 5,
    .checkpoint_bytes = 64 << 10,
    .views = 4,
    .frames = 4,
    .snapshot_bytes = 128 << 10,
    .image_pages = 1,
    .image_files = 8,
};

enum { COMMITS = 300 };
struct made {
    varve_commit_id id;
    struct model_state state;
};
struct fixture {
    char path[SCRATCH_PATH];
    struct vv_dir dir;
    struct vv_double d;
    struct vv_place *place;
    struct model_chance chance;
    struct made made[COMMITS];
    size_t count;
};

static void open_place(struct fixture *f)
{
    const struct vv_layout_options options = { .vfs = &f->d.table, .durability = VARVE_DURABLE };

    assert_int_equal(vv_journal_open(&f->dir, &options, &small, &f->place), VARVE_OK);
}

static void close_place(struct fixture *f)
{
    vv_journal_close(f->place);
    f->place = NULL;
}

static void reopen(struct fixture *f)
{
    close_place(f);
    open_place(f);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    vv_double_init(&f->d, &vv_vfs_system);
    f->chance.state = 4711;
    const struct vv_layout_options options = { .vfs = &f->d.table, .durability = VARVE_DURABLE };
    assert_int_equal(vv_dir_open(&f->d.table, f->path, &f->dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&f->dir, ".varve"), VARVE_OK);
    assert_int_equal(vv_journal_create(&f->dir, &options, &small), VARVE_OK);
    open_place(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_place(f);
    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

/* ---- Commits ---------------------------------------------------------------------------------- */

/* Commit what `next` says on the commit `base` (SIZE_MAX: on none) and move `branch`. */
static size_t commit_state(struct fixture *f, size_t base, const struct model_state *next, const char *branch)
{
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &facts.id, .force = true };
    char message[32];

    assert_true(f->count < COMMITS);
    snprintf(message, sizeof message, "commit %zu", f->count);
    snprintf(move.name, sizeof move.name, "%s", branch);
    if (base != SIZE_MAX)
        assert_int_equal(journal->facts(f->place, &f->made[base].id, &parent), VARVE_OK);
    assert_int_equal(model_commit(journal, f->place, base == SIZE_MAX ? NULL : &f->made[base].state,
                                  base == SIZE_MAX ? NULL : &parent, next, message, &move, VARVE_DURABLE,
                                  &facts),
                     VARVE_OK);
    f->made[f->count] = (struct made){ .id = facts.id, .state = *next };
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts);
    return f->count++;
}

static size_t commit_on(struct fixture *f, size_t base, const char *branch)
{
    struct model_state next;

    memset(&next, 0, sizeof next);
    if (base != SIZE_MAX)
        next = f->made[base].state;
    for (unsigned i = 0; i < 4; i++)
        model_mutate(&next, &f->chance);
    return commit_state(f, base, &next, branch);
}

static size_t commit(struct fixture *f)
{
    return commit_on(f, f->count == 0 ? SIZE_MAX : f->count - 1, "main");
}

/* A first commit with all modules, full of pages. */
static void commit_full(struct fixture *f)
{
    struct model_state next;

    memset(&next, 0, sizeof next);
    for (unsigned module = 0; module < MODEL_MODULES; module++) {
        next.present[module] = true;
        next.size[module] = MODEL_PAGES;
        for (unsigned page = 0; page < MODEL_PAGES; page++)
            next.page[module][page] = (1 + module * 1000 + page) << 8;
    }
    (void)commit_state(f, f->count == 0 ? SIZE_MAX : f->count - 1, &next, "main");
}

/* One page of one module. */
static void commit_page(struct fixture *f, unsigned module, unsigned page, uint32_t number)
{
    struct model_state next = f->made[f->count - 1].state;

    next.page[module][page] = number;
    (void)commit_state(f, f->count - 1, &next, "main");
}

static void compare(struct fixture *f, struct vv_place *place, size_t at)
{
    if (model_compare(journal, place, &f->made[at].id, &f->made[at].state) != VARVE_OK)
        fail_msg("commit %zu: %s", at, vv_words());
}

static void compare_all(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++)
        compare(f, f->place, i);
}

static void snapshot(struct fixture *f)
{
    if (vv_place_snapshot(f->place, false) != VARVE_OK)
        fail_msg("snapshot: %s", vv_words());
}

static void check_is_clean(struct fixture *f)
{
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    uint64_t damage = 1;

    assert_int_equal(vv_journal_check(&f->dir, &options, 0, &damage), VARVE_OK);
    assert_int_equal(damage, 0);
}

/* ---- Files ------------------------------------------------------------------------------------ */

static void path_of(struct fixture *f, unsigned module, unsigned slot, char path[SCRATCH_PATH + 128])
{
    varve_module_id id;
    char name[VV_IMAGE_NAME];

    model_module_id(module, &id);
    vv_image_file_name(&id, slot, name);
    snprintf(path, SCRATCH_PATH + 128, "%s/image/%s", f->path, name);
}

static bool there(struct fixture *f, unsigned module, unsigned slot)
{
    char path[SCRATCH_PATH + 128];
    struct stat status;

    path_of(f, module, slot, path);
    return stat(path, &status) == 0;
}

static ino_t inode_of(struct fixture *f, unsigned module, unsigned slot)
{
    char path[SCRATCH_PATH + 128];
    struct stat status;

    path_of(f, module, slot, path);
    assert_int_equal(stat(path, &status), 0);
    return status.st_ino;
}

static void overwrite(struct fixture *f, unsigned module, unsigned slot, long offset, uint8_t flip)
{
    char path[SCRATCH_PATH + 128];

    path_of(f, module, slot, path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    fputc(byte ^ flip, file);
    fclose(file);
}

/* What a session would map of a commit's module. */
static void get_source(struct fixture *f, struct vv_place *place, size_t commit_at, unsigned module,
                       struct vv_source *source)
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_state state;
    struct vv_module *found = NULL;
    varve_module_id id;
    const uint64_t hold = journal->hold(place);

    model_module_id(module, &id);
    assert_int_equal(journal->facts(place, &f->made[commit_at].id, &facts), VARVE_OK);
    assert_int_equal(journal->view(place, &facts, &state), VARVE_OK);
    assert_int_equal(vv_state_get(&state, &id, &found), VARVE_OK);
    assert_non_null(found);
    journal->source(place, &id, &found->memory, source);
    vv_state_release(&state);
    vv_commit_facts_release(&facts);
    journal->drop(place, hold);
}

static bool has_source(struct fixture *f, size_t commit_at, unsigned module)
{
    struct vv_source source;

    get_source(f, f->place, commit_at, module, &source);
    const bool yes = source.file.fd >= 0;
    journal->source_end(f->place, &source);
    return yes;
}

/* Every page of the file is that of the commit's module. */
static void assert_file_holds(struct fixture *f, const struct vv_source *source, size_t commit_at,
                              unsigned module)
{
    uint8_t page[VV_PAGE_SIZE];
    uint8_t wanted[VV_PAGE_SIZE];

    for (unsigned i = 0; i < f->made[commit_at].state.size[module]; i++) {
        assert_int_equal(vv_file_read(&source->file, page, VV_PAGE_SIZE, source->offset + i * VV_PAGE_SIZE),
                         VARVE_OK);
        model_page(f->made[commit_at].state.page[module][i], wanted);
        assert_memory_equal(page, wanted, VV_PAGE_SIZE);
    }
}

/* ---- The tests -------------------------------------------------------------------------------- */

/* Branches, snapshots at any time, openings in between: each commit is compared, read and mapped. */
static void every_commit_is_as_it_was_whatever_is_mapped(void **state)
{
    struct fixture *f = *state;
    size_t main_at = SIZE_MAX;

    for (unsigned round = 0; round < 120; round++) {
        const bool side = f->count > 0 && model_chance(&f->chance, 5) == 0;
        const size_t base = side ? model_chance(&f->chance, (uint32_t)f->count) : main_at;
        const size_t made = commit_on(f, base, side ? "side" : "main");
        if (!side)
            main_at = made;
        if (model_chance(&f->chance, 4) == 0)
            snapshot(f);
        if (model_chance(&f->chance, 12) == 0)
            reopen(f);
        compare(f, f->place, model_chance(&f->chance, (uint32_t)f->count));
    }
    compare_all(f);
    reopen(f);
    compare_all(f);
    close_place(f);
    check_is_clean(f);
    open_place(f);
}

/* A step at a time, whatever is committed meanwhile. */
static void a_snapshot_in_steps_stalls_nothing(void **state)
{
    struct fixture *f = *state;
    struct vv_layout_stat stat;
    uint64_t steps = 0;

    for (unsigned round = 0; round < 150; round++) {
        bool more = false;
        (void)commit(f);
        assert_int_equal(journal->tidy(f->place, 1 + model_chance(&f->chance, 20000), &more), VARVE_OK);
        steps += more;
        if (round % 10 == 0)
            compare(f, f->place, model_chance(&f->chance, (uint32_t)f->count));
    }
    journal->stat(f->place, &stat);
    assert_true(stat.snapshots_taken >= 2);
    assert_true(steps > stat.snapshots_taken);
    compare_all(f);
}

/* What is due is known from the files alone, also after opening again. */
static void snapshots_come_by_bytes(void **state)
{
    struct fixture *f = *state;
    struct vv_layout_stat stat;
    bool more = true;

    commit_full(f); /* 120 pages that hardly shrink: more than the limit */
    assert_true(vv_place_snapshot_due(f->place));
    while (more)
        assert_int_equal(journal->tidy(f->place, 1 << 20, &more), VARVE_OK);
    journal->stat(f->place, &stat);
    assert_int_equal(stat.snapshots_taken, 1);
    assert_true(has_source(f, 0, 0));
    assert_false(vv_place_snapshot_due(f->place));
    reopen(f);
    assert_false(vv_place_snapshot_due(f->place));
    commit_page(f, 0, 1, 77 << 8);
    assert_false(vv_place_snapshot_due(f->place));
}

/* The older file of a pair is the next one, rewritten where it lies; a file that is mapped is replaced by another. */
static void a_file_in_use_is_never_written(void **state)
{
    struct fixture *f = *state;
    struct vv_source source;

    commit_full(f);
    snapshot(f);
    assert_true(there(f, 0, 0) && !there(f, 0, 1));
    commit_page(f, 0, 3, 555 << 8);
    snapshot(f);
    assert_true(there(f, 0, 1));
    assert_false(there(f, 1, 1)); /* nothing changed in it */
    const ino_t first = inode_of(f, 0, 0);
    commit_page(f, 0, 4, 0);
    snapshot(f);
    assert_int_equal(inode_of(f, 0, 0), first);
    assert_int_equal(vv_place_snapshot(f->place, false), VARVE_OK); /* again: there is nothing to do */

    /* The older file, 1, is mapped: by the commit that it was made for. */
    get_source(f, f->place, 1, 0, &source);
    assert_true(source.file.fd >= 0);
    assert_file_holds(f, &source, 1, 0);
    const ino_t second = inode_of(f, 0, 1);
    commit_page(f, 0, 5, 556 << 8);
    snapshot(f);
    assert_true(inode_of(f, 0, 1) != second);
    assert_file_holds(f, &source, 1, 0); /* whoever maps it sees no difference */
    journal->source_end(f->place, &source);
    compare_all(f);
}

/* The same with another handle on the store, as another process would have it. */
static void a_file_in_use_elsewhere_is_never_written(void **state)
{
    struct fixture *f = *state;
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    struct vv_place *reader = NULL;
    struct vv_source source;

    commit_full(f);
    snapshot(f);
    commit_page(f, 0, 3, 555 << 8);
    snapshot(f);
    assert_int_equal(vv_journal_open(&f->dir, &options, &small, &reader), VARVE_OK);
    get_source(f, reader, 0, 0, &source);
    assert_true(source.file.fd >= 0);
    commit_page(f, 0, 5, 556 << 8);
    const ino_t before = inode_of(f, 0, 0);
    snapshot(f);
    assert_true(inode_of(f, 0, 0) != before);
    assert_file_holds(f, &source, 0, 0);
    journal->source_end(reader, &source);
    vv_journal_close(reader);
    compare_all(f);
}

/* Whoever only reads cannot take a bad file away: no more of it is mapped all the same. */
static void a_reader_passes_over_what_was_bad(void **state)
{
    struct fixture *f = *state;
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    struct vv_place *reader = NULL;
    struct vv_source source;
    varve_module_id id;

    commit_full(f);
    snapshot(f);
    assert_int_equal(vv_journal_open(&f->dir, &options, &small, &reader), VARVE_OK);
    get_source(f, reader, 0, 0, &source);
    assert_true(source.file.fd >= 0);
    journal->source_end(reader, &source);
    const uint64_t version = journal->source_version(reader);
    model_module_id(0, &id);
    journal->source_rotten(reader, &id);
    assert_true(journal->source_sound(reader) > version);
    get_source(f, reader, 0, 0, &source);
    assert_true(source.file.fd < 0);
    journal->source_end(reader, &source);
    compare(f, reader, 0);
    vv_journal_close(reader);
    assert_true(has_source(f, 0, 0)); /* the writer has met nothing */
}

/* Each byte of a stamp, turned: the file is not used, or nothing about it changed; and the next snapshot mends it. */
static void a_stamp_that_lies_is_not_believed(void **state)
{
    struct fixture *f = *state;

    commit_full(f);
    snapshot(f);
    for (long at = 0; at < VV_STAMP_USED; at++) {
        overwrite(f, 0, 0, at, 0x41);
        assert_false(has_source(f, 0, 0));
        overwrite(f, 0, 0, at, 0x41);
    }
    assert_true(has_source(f, 0, 0));
    overwrite(f, 0, 0, 50, 0x41);
    compare_all(f);
    snapshot(f);
    assert_true(has_source(f, 0, 0));
    compare_all(f);
}

/* What somebody may put in the place of a file. */
static void what_is_no_image_file_is_passed_over(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_PATH + 128];
    char other[SCRATCH_PATH + 128];
    const uint64_t whole = VV_STAMP_PAGE + MODEL_PAGES * VV_PAGE_SIZE;

    commit_full(f);
    snapshot(f);
    path_of(f, 0, 0, path);
    path_of(f, 1, 0, other);

    assert_int_equal(truncate(path, (off_t)whole - 4096), 0);
    assert_false(has_source(f, 0, 0));
    assert_int_equal(truncate(path, (off_t)whole + 4096), 0);
    assert_false(has_source(f, 0, 0));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(other, path), 0); /* of another module */
    assert_false(has_source(f, 0, 0));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_false(has_source(f, 0, 0));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(has_source(f, 0, 0));
    compare_all(f);
    snapshot(f); /* a file takes its place, or lies beside it */
    assert_true(has_source(f, 0, 0));
    compare_all(f);
}

/* A stamp may name a tree that the log no longer has, or never had. */
static void a_tree_that_cannot_be_read_makes_no_source(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_PATH + 128];
    struct vv_stamp stamp;
    uint8_t page[VV_STAMP_PAGE];

    commit_full(f);
    snapshot(f);
    commit_page(f, 0, 3, 555 << 8);
    path_of(f, 0, 0, path);
    FILE *file = fopen(path, "r+b");
    assert_int_equal(fread(page, 1, sizeof page, file), sizeof page);
    assert_int_equal(vv_stamp_decode(page, sizeof page, &stamp), VARVE_OK);
    stamp.to.address += 8;
    vv_stamp_encode(&stamp, page);
    rewind(file);
    assert_int_equal(fwrite(page, 1, sizeof page, file), sizeof page);
    fclose(file);
    assert_false(has_source(f, 1, 0));
    compare_all(f);
    for (unsigned i = 0; i < 2; i++) { /* both slots are overwritten in turn */
        commit_page(f, 0, i, 600 << 8);
        snapshot(f);
    }
    assert_true(has_source(f, f->count - 1, 0));
    compare_all(f);
}

/* Given up in the middle: the file is not used until it is what it was to be. */
static void a_half_written_file_is_finished_later(void **state)
{
    struct fixture *f = *state;
    bool more = false;

    commit_full(f);
    snapshot(f);
    commit_page(f, 0, 3, 555 << 8);
    snapshot(f);
    const ino_t first = inode_of(f, 0, 0);
    for (unsigned page = 0; page < MODEL_PAGES; page++)
        commit_page(f, 0, page, (2000 + page) << 8);
    while (!vv_place_snapshot_due(f->place))
        (void)commit_full(f);
    /* Its stamp, and a page or two. */
    assert_int_equal(journal->tidy(f->place, (64 << 10) + 5000, &more), VARVE_OK);
    assert_true(more);
    reopen(f);
    assert_false(has_source(f, 0, 0) && inode_of(f, 0, 0) != first);
    compare_all(f);
    snapshot(f);
    assert_int_equal(inode_of(f, 0, 0), first);
    assert_true(has_source(f, f->count - 1, 0));
    compare_all(f);
    close_place(f);
    check_is_clean(f);
    open_place(f);
}

static void remove_images(struct fixture *f)
{
    char path[SCRATCH_PATH + 16];

    snprintf(path, sizeof path, "%s/image", f->path);
    scratch_remove(path);
}

static void the_directory_may_be_deleted_at_any_time(void **state)
{
    struct fixture *f = *state;
    struct vv_source source;
    bool more = false;

    commit_full(f);
    snapshot(f);
    get_source(f, f->place, 0, 0, &source);
    remove_images(f);
    assert_file_holds(f, &source, 0, 0);
    compare_all(f);
    snapshot(f);
    journal->source_end(f->place, &source);
    compare_all(f);
    assert_true(has_source(f, 0, 0));
    for (unsigned page = 0; page < MODEL_PAGES; page++)
        commit_page(f, 0, page, (2000 + page) << 8);
    assert_int_equal(journal->tidy(f->place, (64 << 10) + 5000, &more), VARVE_OK);
    remove_images(f);
    snapshot(f);
    compare_all(f);
    reopen(f);
    compare_all(f);
}

/* On a full disk the older files are the first to go, but for those that are mapped. */
static void older_files_make_room(void **state)
{
    struct fixture *f = *state;
    struct vv_source source;
    uint64_t bytes = 0;

    commit_full(f);
    snapshot(f);
    commit_page(f, 0, 3, 555 << 8);
    commit_page(f, 1, 3, 555 << 8);
    snapshot(f);
    get_source(f, f->place, 0, 1, &source);
    assert_int_equal(vv_place_snapshot_thin(f->place, &bytes), VARVE_OK);
    assert_int_equal(bytes, MODEL_PAGES * VV_PAGE_SIZE);
    assert_true(!there(f, 0, 0) && there(f, 0, 1));
    assert_true(there(f, 1, 0) && there(f, 1, 1)); /* in use */
    journal->source_end(f->place, &source);
    assert_int_equal(vv_place_snapshot_thin(f->place, &bytes), VARVE_OK);
    assert_true(!there(f, 1, 0) && there(f, 1, 1));
    compare_all(f);
}

/* A commit that was written once more, because the log's beginning goes, gets its files like any other. */
static void a_kept_commit_gets_its_files(void **state)
{
    struct fixture *f = *state;
    struct vv_record record;
    uint64_t address = 0;
    uint64_t freed = 0;

    commit_full(f);
    for (unsigned round = 0; round < 2; round++) {
        struct model_state next = f->made[f->count - 1].state;
        for (unsigned module = 0; module < 2; module++)
            for (unsigned page = 0; page < MODEL_PAGES; page++)
                next.page[module][page] = (5000 + round * 2000 + module * 1000 + page) << 8;
        (void)commit_state(f, f->count - 1, &next, "main");
    }
    journal->configure(f->place, 1, 0);
    assert_int_equal(journal->maintain(f->place, 0, NULL, NULL, &freed), VARVE_OK);
    assert_true(freed > 0);
    assert_int_equal(vv_index_find(&f->place->index, f->made[2].id.bytes, &address), VARVE_OK);
    assert_int_equal(vv_log_record(&f->place->log, address, 0, &record), VARVE_OK);
    assert_int_equal(record.kind, VV_RECORD_KEPT);
    reopen(f);
    snapshot(f);
    for (unsigned module = 0; module < MODEL_MODULES; module++)
        assert_true(has_source(f, 2, module));
    compare(f, f->place, 2);
    reopen(f);
    compare(f, f->place, 2);
}

/* Half of the way to the next snapshot the second file is there again, so that the snapshot need not write it whole. */
static void the_second_file_comes_back_in_the_background(void **state)
{
    struct fixture *f = *state;
    bool more = true;

    commit_full(f);
    while (more)
        assert_int_equal(journal->tidy(f->place, 1 << 20, &more), VARVE_OK);
    reopen(f);
    assert_false(there(f, 2, 1));
    for (unsigned page = 0; page < 9; page++)
        commit_page(f, 0, page, (2000 + page) << 8);
    assert_false(there(f, 2, 1));
    more = true;
    while (more)
        assert_int_equal(journal->tidy(f->place, 1 << 20, &more), VARVE_OK);
    assert_true(there(f, 2, 1));
    const ino_t second = inode_of(f, 0, 1);
    snapshot(f);
    assert_int_equal(inode_of(f, 0, 1), second);
    compare_all(f);
}

/* ---- The forked kind -------------------------------------------------------------------------- */

struct memory {
    uint8_t *bytes;
    unsigned shared;
};

static varve_status share(void *context, bool yes)
{
    struct memory *memory = context;

    memory->shared += yes;
    assert_int_equal(madvise(memory->bytes, MODEL_PAGES * VV_PAGE_SIZE, yes ? MADV_DOFORK : MADV_DONTFORK),
                     0);
    return VARVE_OK;
}

/* Modules 0 and 1 as a session would hold them after commit `at`; module 2 is in no session's hands. */
static void freeze(struct fixture *f, size_t at, int spoiled)
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_state state;
    struct memory memories[2];
    struct vv_frozen frozen[2];
    const uint64_t hold = journal->hold(f->place);

    assert_int_equal(journal->facts(f->place, &f->made[at].id, &facts), VARVE_OK);
    assert_int_equal(journal->view(f->place, &facts, &state), VARVE_OK);
    for (unsigned module = 0; module < 2; module++) {
        struct vv_module *found = NULL;
        struct memory *memory = &memories[module];
        memory->shared = 0;
        memory->bytes = mmap(NULL, MODEL_PAGES * VV_PAGE_SIZE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(memory->bytes, MAP_FAILED);
        for (unsigned page = 0; page < f->made[at].state.size[module]; page++)
            model_page(f->made[at].state.page[module][page], memory->bytes + page * VV_PAGE_SIZE);
        frozen[module] = (struct vv_frozen){ .bytes = memory->bytes, .share = share, .context = memory };
        model_module_id(module, &frozen[module].module);
        assert_int_equal(vv_state_get(&state, &frozen[module].module, &found), VARVE_OK);
        frozen[module].tree = &found->memory;
    }
    if (spoiled >= 0)
        memories[1].bytes[spoiled] ^= 1;
    assert_true(journal->wants_frozen(f->place));
    assert_int_equal(journal->freeze(f->place, &facts, frozen, 2), VARVE_OK);
    assert_int_equal(memories[0].shared, 1);
    for (unsigned module = 0; module < 2; module++) { /* whatever happens to it now */
        memset(memories[module].bytes, 0xee, MODEL_PAGES * VV_PAGE_SIZE);
        assert_int_equal(munmap(memories[module].bytes, MODEL_PAGES * VV_PAGE_SIZE), 0);
    }
    vv_state_release(&state);
    vv_commit_facts_release(&facts);
    journal->drop(f->place, hold);
}

/* Steps until nothing is on its way. */
static void settle(struct fixture *f)
{
    for (unsigned tries = 0; f->place->snapshots.running != NULL; tries++) {
        bool more = false;
        assert_true(tries < 10000);
        assert_int_equal(journal->tidy(f->place, 1 << 20, &more), VARVE_OK);
        if (!more)
            usleep(1000);
    }
}

static void a_child_writes_memory_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct vv_layout_stat stat;

    commit_full(f);
    assert_int_equal(vv_place_snapshot(f->place, true), VARVE_OK);
    freeze(f, 0, -1);
    assert_false(journal->wants_frozen(f->place));
    commit_page(f, 0, 1, 99 << 8);
    settle(f);
    journal->stat(f->place, &stat);
    assert_int_equal(stat.snapshots_taken, 1);
    for (unsigned module = 0; module < MODEL_MODULES; module++) {
        struct vv_source source;
        get_source(f, f->place, 0, module, &source);
        assert_true(source.file.fd >= 0);
        assert_file_holds(f, &source, 0, module);
        journal->source_end(f->place, &source);
    }
    /* In place, and with a length that changes. */
    for (unsigned round = 0; round < 6; round++) {
        struct model_state next = f->made[f->count - 1].state;
        next.size[0] = round % 2 == 0 ? 20 : MODEL_PAGES;
        for (unsigned page = next.size[0]; page < MODEL_PAGES; page++)
            next.page[0][page] = 0;
        next.page[1][round] = round % 3 == 0 ? 0 : (3000 + round) << 8;
        (void)commit_state(f, f->count - 1, &next, "main");
        assert_int_equal(vv_place_snapshot(f->place, true), VARVE_OK);
        freeze(f, f->count - 1, -1);
        settle(f);
        compare_all(f);
    }
    close_place(f);
    check_is_clean(f);
    open_place(f);
}

/* A child that is killed, or finds other bytes than the commit's, leaves a cache that is not used; it is wanted again. */
static void a_child_that_fails_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct vv_layout_stat stat;

    commit_full(f);
    snapshot(f);
    commit_page(f, 1, 7, 99 << 8);
    assert_int_equal(vv_place_snapshot(f->place, true), VARVE_OK);
    freeze(f, f->count - 1, 7 * VV_PAGE_SIZE + 100);
    settle(f);
    assert_true(journal->wants_frozen(f->place));
    journal->stat(f->place, &stat);
    assert_int_equal(stat.snapshots_taken, 1);
    compare_all(f);
    f->place->snapshots.retry = 0;
    vv_double_arm(&f->d, VV_DOUBLE_KILL, 3, 0); /* of the child's calls: its counter is a copy */
    freeze(f, f->count - 1, -1);
    vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
    settle(f);
    assert_true(journal->wants_frozen(f->place));
    compare_all(f);
    snapshot(f);
    assert_true(has_source(f, f->count - 1, 1));
    compare_all(f);
}

/* ---- Sessions --------------------------------------------------------------------------------- */

enum { SESSION_PAGES = 512 };
struct world {
    char path[SCRATCH_PATH];
    varve_store *store;
    uint8_t (*wanted)[VV_PAGE_SIZE]; /* what the last commit holds */
    uint32_t written;
};

static void open_world(struct world *world)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = VARVE_STORE_CREATE | VARVE_STORE_NO_THREADS };

    if (vv_store_open(&vv_vfs_system, world->path, &options, &world->store) != VARVE_OK)
        fail_msg("open: %s", vv_words());
}

static int set_up_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    scratch_new(world->path);
    world->wanted = calloc(SESSION_PAGES, VV_PAGE_SIZE);
    open_world(world);
    *state = world;
    return 0;
}

static int tear_down_world(void **state)
{
    struct world *world = *state;

    vv_store_close(world->store);
    scratch_remove(world->path);
    free(world->wanted);
    free(world);
    return 0;
}

static varve_session *begin_session(struct world *world)
{
    const varve_session_options options = { .size = sizeof options };
    varve_session *session = NULL;

    if (vv_session_begin(world->store, &options, &session) != VARVE_OK)
        fail_msg("begin: %s", vv_words());
    return session;
}

/* The image as a guest has it: not in the hands of a C program, so that it can be moved. */
static uint8_t *image_of(varve_session *session, struct vv_image **image)
{
    struct vv_working *working = NULL;
    varve_module_id id;

    vv_name_id("ledger", id.bytes);
    varve_status rc = vv_session_working(session, &id, &working);
    if (rc == VARVE_NOT_FOUND) {
        struct vv_module *fields = NULL;
        assert_int_equal(vv_module_new(&fields), VARVE_OK);
        fields->id = id;
        fields->kind = VARVE_KIND_IMAGE;
        snprintf(fields->name, sizeof fields->name, "ledger");
        rc = vv_session_add(session, fields, NULL, 0, SESSION_PAGES * VV_PAGE_SIZE, 0, &working);
    }
    assert_int_equal(rc, VARVE_OK);
    if (vv_session_image(session, working, 0, image) != VARVE_OK)
        fail_msg("image: %s", vv_words());
    assert_int_equal(vv_session_enter(session, working), VARVE_OK);
    return vv_image_bytes(*image);
}

static void write_pages(struct world *world, uint8_t *bytes, unsigned first, unsigned count)
{
    for (unsigned page = first; page < first + count; page++) {
        model_page((1 + world->written++) << 8, world->wanted[page]);
        memcpy(bytes + (size_t)page * VV_PAGE_SIZE, world->wanted[page], VV_PAGE_SIZE);
    }
}

static void commit_session(varve_session *session, bool chained)
{
    const varve_commit_options options = { .size = sizeof options,
                                           .flags = chained ? VARVE_COMMIT_CHAIN : 0 };
    varve_commit *commit = NULL;
    bool ended = false;

    if (vv_session_commit(session, &options, &commit, &ended) != VARVE_OK)
        fail_msg("commit: %s", vv_words());
    assert_true(ended != chained);
    vv_commit_close(commit);
}

static void take_snapshot(struct world *world, bool fork)
{
    if (world->store->layout->snapshot(world->store->place, fork) != VARVE_OK)
        fail_msg("snapshot: %s", vv_words());
}

static void reopen_world(struct world *world)
{
    vv_store_close(world->store);
    open_world(world);
}

static void assert_is_wanted(struct world *world, const uint8_t *bytes)
{
    for (unsigned page = 0; page < SESSION_PAGES; page++) {
        if (memcmp(bytes + (size_t)page * VV_PAGE_SIZE, world->wanted[page], VV_PAGE_SIZE) != 0)
            fail_msg("page %u is another", page);
    }
}

/* Opened from a file with pages on top; written, rolled back, committed, opened again. */
static void a_session_maps_the_file_below(void **state)
{
    struct world *world = *state;
    struct vv_image *image = NULL;
    varve_session *session = begin_session(world);
    uint32_t depth = 0;

    write_pages(world, image_of(session, &image), 0, SESSION_PAGES);
    commit_session(session, false);
    take_snapshot(world, false);
    for (unsigned round = 0; round < 6; round++) {
        reopen_world(world);
        session = begin_session(world);
        uint8_t *bytes = image_of(session, &image);
        assert_int_equal(vv_image_backed_pages(image), SESSION_PAGES);
        assert_is_wanted(world, bytes);
        assert_int_equal(vv_session_savepoint(session, &depth), VARVE_OK);
        bytes = image_of(session, &image);
        memset(bytes + 5 * VV_PAGE_SIZE, 0xab, 3 * VV_PAGE_SIZE);
        assert_int_equal(vv_session_rollback(session, depth), VARVE_OK);
        assert_is_wanted(world, vv_image_bytes(image));
        bytes = image_of(session, &image);
        write_pages(world, bytes, 20 * round, 7);
        memset(world->wanted[20 * round + 8], 0, VV_PAGE_SIZE);
        memset(bytes + (20 * round + 8) * (size_t)VV_PAGE_SIZE, 0, VV_PAGE_SIZE);
        commit_session(session, false);
        if (round % 2 == 1)
            take_snapshot(world, false);
    }
}

/* What a chained session, or the pool, holds in private memory goes into the file that a snapshot made meanwhile. */
static void warm_images_move_to_the_new_file(void **state)
{
    struct world *world = *state;
    struct vv_image *image = NULL;
    varve_session *session = begin_session(world);

    for (unsigned round = 0; round < 5; round++) {
        uint8_t *bytes = image_of(session, &image);
        write_pages(world, bytes, 0, SESSION_PAGES);
        commit_session(session, true);
        const uint64_t before = vv_image_private_bytes(image);
        take_snapshot(world, false);
        write_pages(world, bytes, 3, 1);
        commit_session(session, true);
        assert_int_equal(vv_image_backed_pages(image), SESSION_PAGES);
        assert_true(vv_image_private_bytes(image) <=
                    before / 2 + 8 * VV_PAGE_SIZE); /* room for copies stays */
        assert_is_wanted(world, bytes);
    }
    write_pages(world, image_of(session, &image), 0, SESSION_PAGES);
    commit_session(session, false);
    take_snapshot(world, false);
    session = begin_session(world); /* from the pool */
    assert_is_wanted(world, image_of(session, &image));
    assert_int_equal(vv_image_backed_pages(image), SESSION_PAGES);
    write_pages(world, image_of(session, &image), 9, 2);
    commit_session(session, false);
    reopen_world(world);
    session = begin_session(world);
    assert_is_wanted(world, image_of(session, &image));
    vv_session_abort(session);
}

/* The commit forks; sessions go on; what the child wrote is mapped by the next. */
static void a_commit_forks_its_snapshot(void **state)
{
    struct world *world = *state;
    struct vv_image *image = NULL;
    varve_session *session = begin_session(world);
    varve_store_info info = { .size = sizeof info };

    for (unsigned round = 0; round < 3; round++) {
        uint8_t *bytes = image_of(session, &image);
        write_pages(world, bytes, 0, SESSION_PAGES);
        take_snapshot(world, true);
        commit_session(session, true);
        write_pages(world, bytes, 3, 1);
        commit_session(session, true);
        for (unsigned tries = 0; world->store->place->snapshots.running != NULL; tries++) {
            bool more = false;
            assert_true(tries < 20000);
            assert_int_equal(world->store->layout->tidy(world->store->place, 1 << 20, &more), VARVE_OK);
            usleep(1000);
        }
        vv_store_stat(world->store, &info);
        assert_int_equal(info.snapshots_taken, round + 1);
        write_pages(world, bytes, 4, 1);
        commit_session(session, true);
        assert_int_equal(vv_image_backed_pages(image), SESSION_PAGES);
        assert_is_wanted(world, bytes);
    }
    vv_session_abort(session);
    reopen_world(world);
    session = begin_session(world);
    assert_is_wanted(world, image_of(session, &image));
    vv_session_abort(session);
}

static void spoil_file(struct world *world, unsigned page)
{
    char path[SCRATCH_PATH + 128];
    char name[VV_IMAGE_NAME];
    varve_module_id id;

    vv_name_id("ledger", id.bytes);
    vv_image_file_name(&id, 0, name);
    snprintf(path, sizeof path, "%s/image/%s", world->path, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, VV_STAMP_PAGE + (long)page * VV_PAGE_SIZE + 10, SEEK_SET), 0);
    fputs("rot", file);
    fclose(file);
}

/* A rotten page below a page that was written: the commit is refused, the file goes, and the next session is right. Read
 * for rot, it is made anew. */
static void rot_in_a_file_gets_nowhere(void **state)
{
    struct world *world = *state;
    struct vv_image *image = NULL;
    varve_session *session = begin_session(world);
    const varve_commit_options options = { .size = sizeof options };
    varve_commit *commit = NULL;
    bool ended = false;

    write_pages(world, image_of(session, &image), 0, SESSION_PAGES);
    commit_session(session, false);
    take_snapshot(world, false);
    reopen_world(world);
    spoil_file(world, 7);
    session = begin_session(world);
    image_of(session, &image)[7 * VV_PAGE_SIZE + 100] ^= 1;
    assert_int_equal(vv_session_commit(session, &options, &commit, &ended), VARVE_CORRUPT);
    vv_session_abort(session);
    session = begin_session(world);
    assert_is_wanted(world, image_of(session, &image));
    assert_int_equal(vv_image_backed_pages(image), 0);
    vv_session_abort(session);

    take_snapshot(world, false);
    assert_int_equal(vv_place_scrub(world->store->place), VARVE_OK);
    assert_int_equal(world->store->place->snapshots.mended, 0);
    spoil_file(world, 9);
    assert_int_equal(vv_place_scrub(world->store->place), VARVE_OK);
    assert_int_equal(world->store->place->snapshots.mended, 1);
    reopen_world(world);
    session = begin_session(world);
    assert_is_wanted(world, image_of(session, &image));
    assert_int_equal(vv_image_backed_pages(image), SESSION_PAGES);
    vv_session_abort(session);
}

/* ---- Processes that come and go --------------------------------------------------------------- */

enum { BIG_PAGES = 16384, BIG_SNAPSHOT = 2 << 20, BIG_STEP = 256, BIG_ROUNDS = 12 };

static uint64_t word_of(uint32_t round, uint64_t page, unsigned at)
{
    struct model_chance chance = { .state = (round + 1) * UINT64_C(1000003) + page * 31 + at };

    return model_chance(&chance, UINT32_MAX);
}

/* The round that wrote a page last: all of them in the first, some in each. */
static uint32_t written_in(uint32_t rounds, uint64_t page)
{
    for (uint32_t round = rounds; round-- > 1;)
        if (page / BIG_STEP == round)
            return round;
    return 0;
}

/* One command: open, look, write a few pages, commit, close. It is told how many pages of a file it mapped. */
static bool come_and_go(const char *path, uint32_t round, uint64_t *backed)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = VARVE_STORE_CREATE,
                                          .snapshot_bytes = BIG_SNAPSHOT };
    const varve_session_options begin = { .size = sizeof begin };
    const varve_commit_options end = { .size = sizeof end };
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_commit *commit = NULL;
    varve_module_id id;
    bool ended = false;

    vv_name_id("big", id.bytes);
    const varve_image_options image_options = { .size = sizeof image_options,
                                                .name = "big",
                                                .create_size = BIG_PAGES * (uint64_t)VV_PAGE_SIZE };
    if (vv_store_open(&vv_vfs_system, path, &options, &store) != VARVE_OK ||
        vv_session_begin(store, &begin, &session) != VARVE_OK ||
        vv_session_open_image(session, &id, &image_options, &image) != VARVE_OK)
        return false;
    *backed = vv_image_backed_pages(image->image);
    uint8_t *bytes = vv_image_bytes(image->image);
    for (uint64_t page = 0; page < BIG_PAGES; page++) {
        const uint64_t expected = word_of(written_in(round, page), page, 0);
        if (round > 0 && memcmp(bytes + page * VV_PAGE_SIZE, &expected, sizeof expected) != 0)
            return false;
        for (unsigned at = 0; at < 32 && (round == 0 || page / BIG_STEP == round); at++) {
            const uint64_t word = word_of(round, page, at);
            memcpy(bytes + page * VV_PAGE_SIZE + at * 64, &word, sizeof word);
        }
    }
    if (vv_session_commit(session, &end, &commit, &ended) != VARVE_OK)
        return false;
    vv_commit_close(commit);
    vv_store_close(store);
    return true;
}

/* Memory of 64 MiB, of which each process writes a little, each living for a moment: the first file is there as soon
 * as it is due, and the pair follows the commits. */
static void whoever_comes_and_goes_gets_files(void **state)
{
    char path[SCRATCH_PATH];
    uint64_t backed[BIG_ROUNDS] = { 0 };

    (void)state;
    scratch_new(path);
    for (uint32_t round = 0; round < BIG_ROUNDS; round++) {
        int ends[2];
        int ended = 0;
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            uint64_t pages = 0;
            const bool fine = come_and_go(path, round, &pages);
            if (!fine)
                (void)fprintf(stderr, "round %u: %s\n", round, vv_words());
            _exit(fine && write(ends[1], &pages, sizeof pages) == sizeof pages ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_int_equal(ended, 0);
        assert_int_equal(read(ends[0], &backed[round], sizeof backed[round]), sizeof backed[round]);
        close(ends[0]);
        close(ends[1]);
        if (round > 0)
            assert_int_equal(backed[round], BIG_PAGES);
    }
    scratch_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_commit_is_as_it_was_whatever_is_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_snapshot_in_steps_stalls_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(snapshots_come_by_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_in_use_is_never_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_in_use_elsewhere_is_never_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_passes_over_what_was_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stamp_that_lies_is_not_believed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_image_file_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tree_that_cannot_be_read_makes_no_source, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_half_written_file_is_finished_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_directory_may_be_deleted_at_any_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(older_files_make_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_kept_commit_gets_its_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_second_file_comes_back_in_the_background, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_writes_memory_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_that_fails_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_session_maps_the_file_below, set_up_world, tear_down_world),
        cmocka_unit_test_setup_teardown(warm_images_move_to_the_new_file, set_up_world, tear_down_world),
        cmocka_unit_test_setup_teardown(a_commit_forks_its_snapshot, set_up_world, tear_down_world),
        cmocka_unit_test_setup_teardown(rot_in_a_file_gets_nowhere, set_up_world, tear_down_world),
        cmocka_unit_test(whoever_comes_and_goes_gets_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
