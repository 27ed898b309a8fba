/* What is special to the layout chain: which file holds what at every moment, versions in commit order whatever a session
 * began with, what goes at the ends, what an earlier life left. The directory is looked at from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "past.h"
#include "scratch.h"
#include "store/chain/place.h"
#include "store/session.h"

enum { NAMES = 64 };

struct fixture {
    char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    varve_store *store;
    struct past past, lasting; /* `lasting`: as it was when it was persisted */
    unsigned notes, damages;
    char last_note[300];
};

static void find(void *context, const varve_finding *finding)
{
    struct fixture *f = context;

    f->notes += finding->severity == VARVE_NOTE;
    f->damages += finding->severity == VARVE_DAMAGE;
    (void)snprintf(f->last_note, sizeof f->last_note, "%s: %s", finding->file == NULL ? "" : finding->file,
                   finding->text);
}

static varve_status open_with(struct fixture *f, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = VARVE_LAYOUT_CHAIN,
                                          .finding = find,
                                          .context = f };

    f->notes = f->damages = 0;
    return vv_store_open(&vv_vfs_system, f->path, &options, &f->store);
}

static void close_store(struct fixture *f)
{
    vv_store_close(f->store);
    f->store = NULL;
}

static void persist(struct fixture *f)
{
    if (f->store->layout->persist(f->store->place) != VARVE_OK)
        fail_msg("%s", vv_words());
    f->lasting = f->past;
}

/* What was persisted is there again, and no more. */
static void begin_anew(struct fixture *f)
{
    close_store(f);
    if (open_with(f, 0) != VARVE_OK)
        fail_msg("%s", vv_words());
    f->past = f->lasting;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    (void)snprintf(f->path, sizeof f->path, "%s/store", f->root);
    f->past.chance.state = 3;
    f->lasting = f->past;
    assert_int_equal(open_with(f, VARVE_STORE_CREATE), VARVE_OK);
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

static void assert_all_there(struct fixture *f)
{
    if (past_read_only(&f->past, f->store) != VARVE_OK)
        fail_msg("%s", vv_words());
}

static uint64_t check_files(struct fixture *f)
{
    const varve_check_options options = { .size = sizeof options, .finding = find, .context = f };
    uint64_t damage = 1;

    f->notes = f->damages = 0;
    if (vv_store_check(&vv_vfs_system, f->path, &options, &damage) != VARVE_OK)
        fail_msg("%s", vv_words());
    return damage;
}

/* ---- Commits of one module whose memory is a letter ---------------------------------------------- */

/* Every letter is another memory: page 1 and page 2 + letter % 4 of eight. */
static void letter_state(char letter, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    state->present[0] = true;
    state->size[0] = 8;
    for (unsigned i = 0; i < 8; i++)
        state->page[0][i] = (i + 1) << 8;
    state->page[0][1] = (9 << 8) + (uint32_t)letter;
    state->page[0][2 + (unsigned)letter % 4] = (20u + (uint32_t)letter) << 8;
}

static varve_status commit_letter(struct fixture *f, char letter)
{
    struct past *past = &f->past;
    const unsigned number = past->commit_count, stood = past_stands(past, "main");
    struct vv_commit_facts parent = { .locator = 0 }, made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state state;
    char message[24];
    varve_status rc = VARVE_OK;

    letter_state(letter, &state);
    if (stood < PAST_COMMITS) {
        TRY(f->store->layout->facts(f->store->place, &past->commits[stood].id, &parent));
        move.expected = &parent.id;
    }
    (void)snprintf(message, sizeof message, "%c %u", letter, number);
    TRY(model_commit(f->store->layout, f->store->place,
                     stood < PAST_COMMITS ? &past->commits[stood].state : NULL,
                     stood < PAST_COMMITS ? &parent : NULL, &state, message, &move, VARVE_BUFFERED, &made));
    past->commits[number].id = made.id;
    past->commits[number].state = state;
    past->commits[number].deleted = false;
    past->commit_count++;
    if (past->ref_count == 0)
        (void)snprintf(past->refs[past->ref_count++].name, sizeof past->refs[0].name, "main");
    past->refs[0].commit = number;
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

static void make_letters(struct fixture *f, const char *letters)
{
    for (; *letters != '\0'; letters++)
        if (commit_letter(f, *letters) != VARVE_OK)
            fail_msg("%s", vv_words());
}

static void letter_leaf(char letter, char hex[65])
{
    struct model_state state;
    struct vv_module *module = NULL;
    uint8_t leaf[VV_HASH_SIZE], page[VV_PAGE_SIZE];
    const uint8_t *pages[1] = { page };

    letter_state(letter, &state);
    assert_int_equal(vv_module_new(&module), VARVE_OK);
    model_module_id(0, &module->id);
    (void)snprintf(module->name, sizeof module->name, "module0");
    assert_int_equal(vv_pagetree_resize(&module->memory, 8), VARVE_OK);
    for (unsigned i = 0; i < 8; i++) {
        struct vv_leaf at = { .locator = 1 };
        model_page(state.page[0][i], page);
        vv_hash_pages(pages, 1, &at.hash);
        assert_int_equal(vv_pagetree_set(&module->memory, i, &at), VARVE_OK);
    }
    assert_int_equal(vv_module_leaf(module, leaf), VARVE_OK);
    vv_hex_format(leaf, hex);
    vv_module_drop(module);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The directory with the module's id left out and module commits as their letters: " A B_0 .C_0 C commits". */
static void list_files(const struct fixture *f, char text[1024])
{
    static const char letters[] = "ABCDEFGH";
    char names[NAMES][200];
    size_t count = 0;
    DIR *dir = opendir(f->path);

    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        const char *name = entry->d_name;
        const bool dot = name[0] == '.';
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, ".varve") == 0)
            continue;
        assert_true(count < NAMES);
        (void)snprintf(names[count], sizeof names[count], "%.199s", name);
        for (size_t i = 0; letters[i] != '\0' && strlen(name) >= 129u + dot; i++) {
            char hex[65];
            letter_leaf(letters[i], hex);
            if (strncmp(name + dot + 65, hex, 64) == 0)
                (void)snprintf(names[count], sizeof names[count], "%c%.60s%s", letters[i], name + dot + 129,
                               dot ? "." : "");
        }
        count++;
    }
    (void)closedir(dir);
    qsort(names, count, sizeof names[0], by_text);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        (void)snprintf(text + strlen(text), 1024 - strlen(text), "%s%s", i == 0 ? "" : " ", names[i]);
}

static void assert_files(const struct fixture *f, const char *expected)
{
    char text[1024];

    list_files(f, text);
    assert_string_equal(text, expected);
}

/* The steps of seed 001 and its directory after each; "B_0." is the delta of a newest version, with a dot before it. */
static void files_are_those_of_the_note(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "A");
    assert_files(f, "A");
    make_letters(f, "B");
    assert_files(f, "A B B_0.");
    persist(f);
    assert_files(f, "A B B_0. commits");
    make_letters(f, "C");
    assert_files(f, "A B_0 C C_0. commits");
    persist(f);
    assert_int_equal(past_ref(&f->past, f->store, "main", 0), VARVE_OK); /* restore */
    persist(f);
    assert_files(f, "A B_0 C C_0. commits");
    assert_all_there(f);
    begin_anew(f);
    assert_int_equal(f->notes, 0);
    assert_files(f, "A B_0 C C_0. commits");
    assert_all_there(f);
    make_letters(f, "D"); /* on A, in commit order behind C */
    assert_files(f, "A B_0 C_0 D D_0. commits");
    assert_all_there(f);
}

static void equal_versions_get_numbers_and_never_overwrite_each_other(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "ABCBCB");
    assert_files(f, "A B B_0 B_1 B_2. C_0 C_1");
    assert_all_there(f);
    make_letters(f, "A"); /* as the first, whose image is then the newest's, too */
    assert_files(f, "A A_0. B_0 B_1 B_2 C_0 C_1");
    assert_all_there(f);
    make_letters(f, "BD");
    assert_files(f, "A A_0 B_0 B_1 B_2 B_3 C_0 C_1 D D_0.");
    persist(f);
    begin_anew(f);
    assert_all_there(f);
    close_store(f);
    assert_int_equal(check_files(f), 0);
}

/* What is as the newest version already is needs no file, whatever the session began with. */
static void a_version_that_is_there_is_used(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "AB");
    assert_int_equal(past_ref(&f->past, f->store, "main", 0), VARVE_OK);
    make_letters(f, "B");
    assert_files(f, "A B B_0.");
    assert_all_there(f);
    persist(f);
    begin_anew(f);
    assert_all_there(f);
}

/* Names of the module that letters stand for, and of others. */
static void count_names(const struct fixture *f, unsigned *own, unsigned *others)
{
    char text[1024];

    list_files(f, text);
    *own = *others = 0;
    for (const char *name = strtok(text, " "); name != NULL; name = strtok(NULL, " ")) {
        *own += strlen(name) < 8;
        *others += strlen(name) > 64;
    }
}

/* A module that was not active has no new file. */
static void what_was_not_active_is_not_written(void **state)
{
    struct fixture *f = *state;
    struct model_state two;
    struct vv_commit_facts parent = { .locator = 0 }, made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    unsigned own = 0, others = 0;

    make_letters(f, "A");
    two = f->past.commits[0].state;
    two.present[1] = true;
    two.size[1] = 3;
    two.page[1][0] = 77 << 8;
    assert_int_equal(f->store->layout->facts(f->store->place, &f->past.commits[0].id, &parent), VARVE_OK);
    move.expected = &parent.id;
    assert_int_equal(model_commit(f->store->layout, f->store->place, &f->past.commits[0].state, &parent, &two,
                                  "two", &move, VARVE_BUFFERED, &made),
                     VARVE_OK);
    count_names(f, &own, &others);
    assert_int_equal(own, 1);
    assert_int_equal(others, 1);
    vv_commit_facts_release(&parent);
    parent = made;
    two.page[1][0]++;
    move.expected = &parent.id;
    struct model_state one = f->past.commits[0].state;
    one.present[1] = true;
    one.size[1] = 3;
    one.page[1][0] = 77 << 8;
    made = (struct vv_commit_facts){ .locator = 0 };
    assert_int_equal(model_commit(f->store->layout, f->store->place, &one, &parent, &two, "three", &move,
                                  VARVE_BUFFERED, &made),
                     VARVE_OK);
    count_names(f, &own, &others);
    assert_int_equal(own, 1);
    assert_int_equal(others, 3); /* first, newest, and the newest's delta */
    assert_int_equal(model_compare(f->store->layout, f->store->place, &made.id, &two), VARVE_OK);
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
}

/* ---- Restore ------------------------------------------------------------------------------------ */

static uint8_t *whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);

    assert_non_null(file);
    assert_non_null(bytes);
    *size = fread(bytes, 1, 1 << 20, file);
    (void)fclose(file);
    return bytes;
}

static void path_of_file(const struct fixture *f, char letter, const char *before, const char *after,
                         char path[600])
{
    char module[65], leaf[65];
    varve_module_id id;

    model_module_id(0, &id);
    vv_hex_format(id.bytes, module);
    letter_leaf(letter, leaf);
    (void)snprintf(path, 600, "%s/%s%s_%s%s", f->path, before, module, leaf, after);
}

static void a_restore_changes_no_file_but_commits(void **state)
{
    struct fixture *f = *state;
    const struct {
        char letter;
        const char *after;
    } files[] = { { 'A', "" }, { 'B', "_0" }, { 'C', "_0" }, { 'D', "" } };
    uint8_t *bytes[4];
    size_t sizes[4];
    char path[600];

    make_letters(f, "ABCD");
    persist(f);
    for (unsigned i = 0; i < 4; i++) {
        path_of_file(f, files[i].letter, "", files[i].after, path);
        bytes[i] = whole_file(path, &sizes[i]);
    }
    assert_int_equal(past_ref(&f->past, f->store, "main", 1), VARVE_OK);
    persist(f);
    begin_anew(f);
    assert_all_there(f);
    for (unsigned i = 0; i < 4; i++) {
        size_t size = 0;
        path_of_file(f, files[i].letter, "", files[i].after, path);
        uint8_t *now = whole_file(path, &size);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(now, bytes[i], size);
        free(now);
        free(bytes[i]);
    }
}

/* ---- Images that are mapped --------------------------------------------------------------------- */

static void a_mapped_image_stays_as_it_is(void **state)
{
    struct fixture *f = *state;
    const struct vv_layout *layout = f->store->layout;
    struct vv_source source;
    varve_module_id id;
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_state view;
    struct vv_module *module = NULL;
    uint8_t before[8 * VV_PAGE_SIZE], after[8 * VV_PAGE_SIZE];

    model_module_id(0, &id);
    make_letters(f, "ABC");
    const uint64_t hold = layout->hold(f->store->place);
    assert_int_equal(layout->facts(f->store->place, &f->past.commits[2].id, &facts), VARVE_OK);
    assert_int_equal(layout->view(f->store->place, &facts, &view), VARVE_OK);
    assert_int_equal(vv_state_get(&view, &id, &module), VARVE_OK);
    layout->source(f->store->place, &id, &module->memory, &source);
    assert_int_not_equal(source.file.fd, -1);
    assert_int_equal(source.pages, 8);
    assert_ptr_equal(source.tree, &module->memory); /* the newest, not the first */
    assert_int_equal(vv_file_read(&source.file, before, sizeof before, source.offset), VARVE_OK);
    make_letters(f, "DEF");
    assert_int_equal(vv_file_read(&source.file, after, sizeof after, source.offset), VARVE_OK);
    assert_memory_equal(before, after, sizeof after);
    layout->source_end(f->store->place, &source);
    assert_all_there(f);
    vv_state_release(&view);
    vv_commit_facts_release(&facts);
    layout->drop(f->store->place, hold);
    make_letters(f, "G");
    assert_all_there(f);
    assert_files(f, "A B_0 C_0 D_0 E_0 F_0 G G_0.");
}

static void the_nearer_image_is_mapped(void **state)
{
    struct fixture *f = *state;
    const struct vv_layout *layout = f->store->layout;
    varve_module_id id;

    model_module_id(0, &id);
    make_letters(f, "ABCDEFGH");
    const uint64_t hold = layout->hold(f->store->place);
    for (unsigned i = 0; i < 8; i++) {
        struct vv_commit_facts facts = { .locator = 0 };
        struct vv_state view;
        struct vv_module *module = NULL;
        struct vv_source source;
        uint64_t count = 0;
        assert_int_equal(layout->facts(f->store->place, &f->past.commits[i].id, &facts), VARVE_OK);
        assert_int_equal(layout->view(f->store->place, &facts, &view), VARVE_OK);
        assert_int_equal(vv_state_get(&view, &id, &module), VARVE_OK);
        layout->source(f->store->place, &id, &module->memory, &source);
        assert_int_equal(source.pages, 8);
        if (i == 0 || i == 7)
            assert_ptr_equal(source.tree, &module->memory);
        assert_int_equal(vv_pagetree_count(source.tree, &count), VARVE_OK);
        assert_int_equal(count, 8);
        layout->source_end(f->store->place, &source);
        vv_state_release(&view);
        vv_commit_facts_release(&facts);
    }
    layout->drop(f->store->place, hold);
}

/* ---- What an earlier life left ------------------------------------------------------------------ */

static void what_was_not_persisted_is_gone_named_and_in_nobodys_way(void **state)
{
    struct fixture *f = *state;
    uint64_t freed = 0;

    make_letters(f, "AB");
    persist(f);
    make_letters(f, "CDC");
    assert_files(f, "A B_0 C C_0 C_1. D_0 commits");
    begin_anew(f);
    assert_all_there(f);
    assert_true(f->notes >= 3); /* three commits, and the image of one */
    assert_files(f, "A B B_0. C C_0 C_1. D_0 commits");
    make_letters(f, "CD"); /* names that are taken */
    assert_files(f, "A B_0 C_0 C_1. C_2 D D_0 D_1. commits");
    assert_all_there(f);
    persist(f);
    begin_anew(f);
    assert_all_there(f);
    assert_int_equal(f->store->layout->maintain(f->store->place, VARVE_MAINTAIN_DRY_RUN, NULL, NULL, &freed),
                     VARVE_OK);
    assert_true(freed > 0);
    assert_files(f, "A B_0 C_0 C_1. C_2 D D_0 D_1. commits");
    const uint64_t told = freed;
    assert_int_equal(f->store->layout->maintain(f->store->place, 0, NULL, NULL, &freed), VARVE_OK);
    assert_int_equal(freed, told);
    assert_files(f, "A B_0 C_2 D D_1. commits");
    assert_all_there(f);
    begin_anew(f);
    assert_int_equal(f->notes, 0);
    assert_all_there(f);
}

static void a_first_image_that_was_left_is_replaced(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "AB");
    close_store(f);
    assert_int_equal(open_with(f, 0), VARVE_OK);
    assert_true(f->notes > 0);
    f->past = f->lasting;
    assert_all_there(f);
    make_letters(f, "BA");
    assert_all_there(f);
    persist(f);
    begin_anew(f);
    assert_all_there(f);
    close_store(f);
    assert_int_equal(check_files(f), 0);
}

/* ---- What goes ---------------------------------------------------------------------------------- */

static void the_ends_can_be_deleted_and_nothing_between(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "ABCDEF");
    persist(f);
    assert_int_equal(past_remove(&f->past, f->store, 2), VARVE_UNSUPPORTED);
    assert_non_null(strstr(vv_words(), "flat, tree and journal"));
    assert_int_equal(past_remove(&f->past, f->store, 5), VARVE_MISUSE); /* main */
    assert_int_equal(past_remove(&f->past, f->store, 0), VARVE_OK);
    f->lasting = f->past;
    assert_files(f, "B C_0 D_0 E_0 F F_0. commits");
    assert_all_there(f);
    begin_anew(f);
    assert_all_there(f);
    assert_int_equal(f->notes, 0);
    assert_int_equal(past_ref(&f->past, f->store, "main", 3), VARVE_OK);
    assert_int_equal(past_remove(&f->past, f->store, 4), VARVE_UNSUPPORTED);
    assert_int_equal(past_remove(&f->past, f->store, 5), VARVE_OK);
    assert_int_equal(past_remove(&f->past, f->store, 4), VARVE_OK);
    f->lasting = f->past;
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_files(f, "B C_0 D D_0. commits");
    assert_all_there(f);
    begin_anew(f);
    assert_all_there(f);
    make_letters(f, "GE");
    assert_all_there(f);
    persist(f);
    close_store(f);
    assert_int_equal(check_files(f), 0);
}

/* A page that came back to what it was long ago: where it lies follows commit order, not descent (C4). */
static void pages_are_found_when_the_oldest_versions_are_gone(void **state)
{
    struct fixture *f = *state;

    make_letters(f, "AB");
    assert_int_equal(past_ref(&f->past, f->store, "main", 0), VARVE_OK);
    make_letters(f, "E"); /* on A: the pages that B changed are A's again */
    assert_int_equal(past_ref(&f->past, f->store, "main", 0), VARVE_OK);
    make_letters(f, "D");
    persist(f);
    for (unsigned oldest = 0; oldest < 2; oldest++) {
        assert_int_equal(past_remove(&f->past, f->store, oldest), VARVE_OK);
        f->lasting = f->past;
        assert_all_there(f);
        begin_anew(f);
        assert_all_there(f);
    }
    close_store(f);
    assert_int_equal(check_files(f), 0);
}

static void what_is_held_stays_until_the_hold_goes(void **state)
{
    struct fixture *f = *state;
    varve_commit *held = NULL;

    make_letters(f, "ABCD");
    persist(f);
    assert_int_equal(vv_commit_open_id(f->store, &f->past.commits[0].id, &held), VARVE_OK);
    assert_int_equal(past_remove(&f->past, f->store, 0), VARVE_OK);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_files(f, "A B_0 C_0 D D_0. commits");
    assert_int_equal(past_read_held(&f->past, f->store, held, 0), VARVE_OK);
    vv_commit_close(held);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_files(f, "B C_0 D D_0. commits");
    assert_all_there(f);
    f->lasting = f->past;
    begin_anew(f);
    assert_all_there(f);
}

static void retention_takes_from_the_old_end(void **state)
{
    struct fixture *f = *state;
    uint64_t freed = 0;

    make_letters(f, "ABCDEF");
    assert_int_equal(past_ref(&f->past, f->store, "tags/t", 2), VARVE_OK);
    persist(f);
    f->store->layout->configure(f->store->place, 2, 0);
    assert_int_equal(f->store->layout->maintain(f->store->place, 0, NULL, NULL, &freed), VARVE_OK);
    assert_true(freed > 0);
    f->past.commits[0].deleted = f->past.commits[1].deleted = true; /* the third has a tag */
    assert_all_there(f);
    assert_files(f, "C D_0 E_0 F F_0. commits");
    assert_int_equal(past_ref_gone(&f->past, f->store, "tags/t"), VARVE_OK);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    f->past.commits[2].deleted = f->past.commits[3].deleted = true;
    assert_all_there(f);
    persist(f); /* that the tag is gone, and with it what it kept */
    assert_files(f, "E F F_0. commits");
    begin_anew(f);
    assert_all_there(f);
}

/* ---- Beside each other ------------------------------------------------------------------------- */

enum { READ_BESIDE = 6 };

struct reading {
    varve_store *store;
    struct past past; /* as it was when the thread began */
    bool _Atomic stop;
    unsigned rounds;
    varve_status rc;
    char words[200];
};

/* Commits are read again and again; those that are deleted meanwhile are gone, and nothing else happens to any. */
static void *read_beside(void *context)
{
    struct reading *reading = context;

    for (unsigned i = 0; !reading->stop && reading->rc == VARVE_OK; i++) {
        const varve_status rc = i % 2 == 0
                                    ? past_read(&reading->past, reading->store, i % READ_BESIDE)
                                    : past_read_images(&reading->past, reading->store, i % READ_BESIDE);
        if (rc != VARVE_OK && rc != VARVE_NOT_FOUND) {
            reading->rc = rc;
            (void)snprintf(reading->words, sizeof reading->words, "%.199s", vv_words());
        }
        reading->rounds++;
    }
    return NULL;
}

static void readers_see_whole_commits_while_others_are_made_and_go(void **state)
{
    struct fixture *f = *state;
    static struct reading reading;
    pthread_t thread;

    for (unsigned i = 0; i < READ_BESIDE; i++)
        assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    reading = (struct reading){ .store = f->store, .past = f->past };
    assert_int_equal(pthread_create(&thread, NULL, read_beside, &reading), 0);
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
        if (i % 6 == 5)
            assert_int_equal(past_ref(&f->past, f->store, "main", f->past.commit_count - 3), VARVE_OK);
        if (i % 4 == 3)
            persist(f);
        if (i % 5 == 4) {
            assert_int_equal(past_remove(&f->past, f->store, i / 5), VARVE_OK);
            assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
        }
    }
    reading.stop = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (reading.rc != VARVE_OK)
        fail_msg("%s", reading.words);
    assert_true(reading.rounds > 0);
    assert_all_there(f);
}

/* ---- Damage ------------------------------------------------------------------------------------- */

static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 0x5a, file), EOF);
    assert_int_equal(fclose(file), 0);
}

static void a_missing_or_damaged_file_is_named_and_never_zeros(void **state)
{
    struct fixture *f = *state;
    char path[600], moved[620];
    static const struct {
        char letter;
        const char *before, *after;
        unsigned reads; /* commits that can still be read, as bits */
    } files[] = { { 'A', "", "", 0 }, { 'B', "", "_0", 1 }, { 'C', "", "_0", 3 } };

    make_letters(f, "ABCD");
    persist(f);
    close_store(f);
    for (unsigned i = 0; i < 3; i++) {
        path_of_file(f, files[i].letter, files[i].before, files[i].after, path);
        (void)snprintf(moved, sizeof moved, "%s.away", path);
        assert_int_equal(rename(path, moved), 0);
        assert_int_equal(open_with(f, 0), VARVE_OK);
        assert_int_equal(f->damages, 1);
        assert_int_equal(commit_letter(f, 'E'), VARVE_CORRUPT);
        for (unsigned k = 0; k < 3; k++) {
            const varve_status rc = past_read(&f->past, f->store, k);
            assert_true(rc == VARVE_OK || rc == VARVE_CORRUPT);
            if (files[i].reads >> k & 1)
                assert_int_equal(rc, VARVE_OK);
            if (rc == VARVE_CORRUPT)
                assert_non_null(strstr(vv_words(), strrchr(path, '/') + 1));
        }
        close_store(f);
        assert_true(check_files(f) > 0);
        assert_int_equal(rename(moved, path), 0);
    }
    assert_int_equal(check_files(f), 0);
    for (unsigned i = 0; i < 3; i++) {
        path_of_file(f, files[i].letter, files[i].before, files[i].after, path);
        flip(path, 100);
        assert_true(check_files(f) > 0);
        assert_int_equal(open_with(f, VARVE_STORE_READ_ONLY), VARVE_OK);
        assert_int_equal(past_read_all(&f->past, f->store), VARVE_CORRUPT);
        assert_non_null(strstr(vv_words(), strrchr(path, '/') + 1));
        close_store(f);
        flip(path, 100);
    }
    assert_int_equal(check_files(f), 0);
}

static void rot_in_the_newest_image_is_healed(void **state)
{
    struct fixture *f = *state;
    char path[600];

    make_letters(f, "ABCD");
    persist(f);
    close_store(f);
    path_of_file(f, 'D', "", "", path);
    flip(path, 4096 + 100);
    assert_int_equal(check_files(f), 0); /* a warning: it is a cache */
    assert_int_equal(open_with(f, 0), VARVE_OK);
    assert_int_equal(past_read(&f->past, f->store, 3),
                     VARVE_CONFLICT); /* as it is mapped: the session proves its base */
    varve_module_id id;
    model_module_id(0, &id);
    f->store->layout->source_rotten(f->store->place, &id);
    assert_all_there(f);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_all_there(f);
    begin_anew(f);
    assert_all_there(f);
}

static void every_byte_of_commits_is_believed_or_refused(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct stat status;

    make_letters(f, "ABC");
    persist(f);
    close_store(f);
    (void)snprintf(path, sizeof path, "%s/commits", f->path);
    assert_int_equal(stat(path, &status), 0);
    for (long at = 0; at < status.st_size; at += 1 + at % 5) {
        flip(path, at);
        const varve_status rc = open_with(f, VARVE_STORE_READ_ONLY);
        if (rc != VARVE_CORRUPT && rc != VARVE_NEWER)
            fail_msg("byte %ld: %d", at, rc);
        flip(path, at);
    }
    assert_int_equal(truncate(path, status.st_size - 1), 0);
    assert_int_equal(open_with(f, 0), VARVE_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_with(f, 0), VARVE_CORRUPT); /* never an empty store */
    assert_int_equal(check_files(f), 1);
}

/* ---- At random: commits on any commit, lives that end without persist, both ends ------------------ */

struct drive {
    struct fixture *f;
    struct model_chance chance;
    varve_commit *held[3];
    unsigned held_number[3];
    const char *doing;
};

static void let_go(struct drive *d)
{
    for (unsigned i = 0; i < 3; i++) {
        vv_commit_close(d->held[i]);
        d->held[i] = NULL;
    }
}

static unsigned any_commit(struct drive *d)
{
    for (unsigned tries = 0; tries < 30 && d->f->past.commit_count > 0; tries++) {
        const unsigned number = model_chance(&d->chance, d->f->past.commit_count);
        if (!d->f->past.commits[number].deleted)
            return number;
    }
    return PAST_COMMITS;
}

/* The oldest or the newest commit that is there. */
static unsigned end_commit(struct drive *d)
{
    const struct past *past = &d->f->past;
    const bool oldest = model_chance(&d->chance, 3) > 0;

    for (unsigned i = 0; i < past->commit_count; i++) {
        const unsigned number = oldest ? i : past->commit_count - 1 - i;
        if (!past->commits[number].deleted)
            return number;
    }
    return PAST_COMMITS;
}

static varve_status drive_hold(struct drive *d)
{
    const unsigned place = model_chance(&d->chance, 3), number = any_commit(d);
    varve_status rc = VARVE_OK;

    if (d->held[place] != NULL) {
        rc = past_read_held(&d->f->past, d->f->store, d->held[place], d->held_number[place]);
        vv_commit_close(d->held[place]);
        d->held[place] = NULL;
    } else if (number < PAST_COMMITS) {
        d->held_number[place] = number;
        rc = vv_commit_open_id(d->f->store, &d->f->past.commits[number].id, &d->held[place]);
    }
    return rc;
}

static varve_status drive_one(struct drive *d)
{
    struct fixture *f = d->f;
    const unsigned what = model_chance(&d->chance, 20);
    unsigned number = 0;
    varve_status rc = VARVE_OK;

    switch (what) {
    case 0:
    case 1:
        d->doing = "reopen";
        let_go(d);
        if (model_chance(&d->chance, 2) == 0)
            persist(f);
        begin_anew(f);
        break;
    case 2:
    case 3:
        d->doing = "restore";
        number = any_commit(d);
        if (number < PAST_COMMITS)
            rc = past_ref(&f->past, f->store, "main", number);
        break;
    case 4:
        d->doing = "tag";
        number = any_commit(d);
        if (past_stands(&f->past, "tags/t") < PAST_COMMITS)
            rc = past_ref_gone(&f->past, f->store, "tags/t");
        else if (number < PAST_COMMITS)
            rc = past_ref(&f->past, f->store, "tags/t", number);
        break;
    case 5:
    case 6:
    case 7:
        d->doing = "delete";
        number = end_commit(d);
        if (number == PAST_COMMITS || past_is_named(&f->past, number))
            break;
        rc = past_remove(&f->past, f->store, number);
        if (rc == VARVE_OK)
            f->lasting = f->past; /* what is deleted is so for good, and with it all is persisted */
        break;
    case 8:
        d->doing = "tidy";
        rc = past_tidy(f->store, 1 << 20);
        break;
    case 9:
        d->doing = "persist";
        persist(f);
        break;
    case 10:
        d->doing = "read";
        rc = past_read_only(&f->past, f->store);
        break;
    case 11:
    case 12:
        d->doing = "hold";
        rc = drive_hold(d);
        break;
    default:
        d->doing = "commit";
        if (f->past.commit_count < PAST_COMMITS)
            rc = past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED);
    }
    return rc;
}

static bool drive(uint64_t seed, unsigned count)
{
    void *state = NULL;
    bool well = true;

    (void)set_up(&state);
    struct drive d = { .f = state, .chance = { .state = seed } };
    d.f->past.chance.state = d.f->lasting.chance.state = seed + 1000;
    for (unsigned i = 0; well && i < count; i++) {
        well = drive_one(&d) == VARVE_OK;
        if (!well)
            print_error("seed %llu: operation %u, %s: %s\n", (unsigned long long)seed, i, d.doing,
                        vv_words());
    }
    let_go(&d);
    if (well && past_read_only(&d.f->past, d.f->store) != VARVE_OK) {
        print_error("seed %llu: in the end: %s\n", (unsigned long long)seed, vv_words());
        well = false;
    }
    if (well) {
        persist(d.f);
        close_store(d.f);
        if (check_files(d.f) != 0) {
            print_error("seed %llu: fsck: %s\n", (unsigned long long)seed, d.f->last_note);
            well = false;
        }
    }
    (void)tear_down(&state);
    return well;
}

static void operations_at_random_leave_what_they_must(void **state)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const uint64_t scale = text == NULL || atol(text) < 1 ? 1 : (uint64_t)atol(text);
    unsigned failed = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 40 * scale; seed++)
        failed += !drive(seed, 150);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(files_are_those_of_the_note),
        TEST(equal_versions_get_numbers_and_never_overwrite_each_other),
        TEST(a_version_that_is_there_is_used),
        TEST(what_was_not_active_is_not_written),
        TEST(a_restore_changes_no_file_but_commits),
        TEST(a_mapped_image_stays_as_it_is),
        TEST(the_nearer_image_is_mapped),
        TEST(what_was_not_persisted_is_gone_named_and_in_nobodys_way),
        TEST(a_first_image_that_was_left_is_replaced),
        TEST(the_ends_can_be_deleted_and_nothing_between),
        TEST(pages_are_found_when_the_oldest_versions_are_gone),
        TEST(what_is_held_stays_until_the_hold_goes),
        TEST(retention_takes_from_the_old_end),
        TEST(readers_see_whole_commits_while_others_are_made_and_go),
        TEST(a_missing_or_damaged_file_is_named_and_never_zeros),
        TEST(rot_in_the_newest_image_is_healed),
        TEST(every_byte_of_commits_is_believed_or_refused),
        cmocka_unit_test(operations_at_random_leave_what_they_must),
    };
    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
