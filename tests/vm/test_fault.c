/* An I/O error under a guest's memory: the call traps, nothing of it stays, the process and other handlers live on.
 *
 * A page of a file is put under the guest's memory and the file is cut: what touches the page then gets SIGBUS, as it
 * does from a disk that cannot be read. */
#include "vm_world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "store/journal/snapshot.h"
#include "store/store.h"

enum { PAGE = 4096, AT = 5 * PAGE };

static uint8_t *memory_of(struct world *w, const char *module)
{
    varve_module_id id;
    varve_image *image = NULL;

    assert_int_equal(varve_module_id_of(module, &id), VARVE_OK);
    assert_ok(w, varve_image_open(w->session, &id, NULL, &image, &w->error));
    return varve_image_bytes(image);
}

/* Let the page at `at` be one of a file, whose descriptor is returned; cut it, and the page cannot be read. */
static int file_under(uint8_t *at)
{
    const int fd = open(P_tmpdir, O_TMPFILE | O_RDWR, 0600);
    const uint8_t page[PAGE] = { 7 };

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
    assert_ptr_equal(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0), at);
    return fd;
}

static void begin(struct world *w)
{
    world_begin(w);
    assert_ok(w, world_deploy(w, "zoo", "zoo", NULL));
    world_i32(w, "zoo", "store", 2, 64, 11);
    (void)world_commit(w);
    world_begin(w);
}

/* Every way to touch it: by a load, a store, a bulk fill, a host's copy. */
static void an_io_error_is_a_trap_and_undone(void **state)
{
    struct world w;

    (void)state;
    world_new(&w);
    begin(&w);
    for (unsigned way = 0; way < 4; way++) {
        const varve_root before = world_root(&w);
        uint8_t *bytes = memory_of(&w, "zoo");
        const int fd = file_under(bytes + AT);
        world_i32(&w, "zoo", "load", 1, AT); /* it can be read yet */
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(madvise(bytes + AT, PAGE, MADV_DONTNEED), 0);
        varve_status rc = VARVE_OK;
        if (way == 0)
            rc = world_call(&w, "zoo", "load", NULL, "i32", AT + 8);
        else if (way == 1)
            rc = world_call(&w, "zoo", "store", NULL, "i32 i32", AT + 8, 3);
        else if (way == 2)
            rc = world_call(&w, "zoo", "fill", NULL, "i32 i32 i32", AT - 8, 1, 64);
        else
            rc = world_call(&w, "zoo", "hash", NULL, "");
        assert_status(&w, rc, VARVE_TRAP);
        assert_words(&w, "I/O error under the module's memory");
        /* The session is of no more use, and says so. */
        assert_status(&w, world_call(&w, "zoo", "n", NULL, ""), VARVE_IO);
        assert_words(&w, "abort it");
        assert_int_equal(varve_session_commit(w.session, NULL, NULL, NULL), VARVE_IO);
        world_abort(&w);
        assert_int_equal(close(fd), 0);
        /* The next one has all that was committed. */
        world_begin(&w);
        const varve_root after = world_root(&w);
        assert_memory_equal(&before, &after, sizeof before);
        assert_int_equal(world_i32(&w, "zoo", "load", 1, 64), 11);
    }
    world_free(&w);
}

/* The same below a session that maps an image file of a store: the next one does not meet that file again, not even
 * when it can be read once more, and holds other bytes. */
static void a_file_that_could_not_be_read_is_given_up(void **state)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = VARVE_STORE_CREATE | VARVE_STORE_NO_THREADS };
    struct world w;
    char path[SCRATCH_PATH];
    char file[SCRATCH_PATH + 80];
    struct stat status;

    (void)state;
    scratch_new(path);
    world_new(&w);
    varve_store_close(w.store);
    w.store = NULL;
    assert_ok(&w, varve_store_open(path, &options, &w.store, &w.error));
    world_begin(&w);
    assert_ok(&w, world_deploy(&w, "zoo", "zoo", NULL));
    world_i32(&w, "zoo", "store", 2, 64, 11);
    for (unsigned page = 0; world_memory(&w, "zoo") < 100 * PAGE; page++)
        assert_true(world_i32(&w, "zoo", "grow", 1, 1) != UINT32_MAX && page < 100);
    for (unsigned page = 1; page < 100; page++)
        world_i32(&w, "zoo", "store", 2, page * PAGE, 1000 + page);
    (void)world_commit(&w);
    assert_ok(&w, vv_place_snapshot(w.store->place, false));
    varve_store_close(w.store); /* with what is warm */
    w.store = NULL;
    assert_ok(&w, varve_store_open(path, &options, &w.store, &w.error));
    world_begin(&w);
    assert_int_equal(world_i32(&w, "zoo", "load", 1, 64), 11);

    varve_module_id id;
    char name[VV_IMAGE_NAME];
    assert_int_equal(varve_module_id_of("zoo", &id), VARVE_OK);
    vv_image_file_name(&id, 0, name);
    snprintf(file, sizeof file, "%s/image/%s", path, name);
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(truncate(file, 0x3000), 0);
    assert_status(&w, world_call(&w, "zoo", "load", NULL, "i32", 50 * PAGE), VARVE_TRAP);
    assert_words(&w, "I/O error under the module's memory");
    world_abort(&w);
    assert_int_equal(stat(file, &status), -1);
    world_begin(&w);
    assert_int_equal(world_i32(&w, "zoo", "load", 1, 50 * PAGE), 1050);
    world_abort(&w);
    world_free(&w);
    scratch_remove(path);
}

static void exit_71(int signal)
{
    (void)signal;
    _exit(71);
}

/* Outside a call it is nobody's page: whoever handled SIGBUS before does, and else the process ends by it. */
static void elsewhere_it_goes_to_whoever_had_it(void **state)
{
    (void)state;
    for (unsigned handled = 0; handled < 2; handled++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct world w;
            const struct sigaction own = { .sa_handler = handled == 1 ? exit_71 : SIG_DFL };
            (void)sigaction(SIGBUS, &own, NULL);
            world_new(&w);
            begin(&w);
            world_i32(&w, "zoo", "load", 1, 64);
            uint8_t *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            const int fd = file_under(page);
            (void)ftruncate(fd, 0);
            _exit(*(volatile uint8_t *)page);
        }
        int ended = 0;
        assert_int_equal(waitpid(child, &ended, 0), child);
        if (handled == 1) {
            assert_true(WIFEXITED(ended));
            assert_int_equal(WEXITSTATUS(ended), 71);
        } else {
            assert_true(WIFSIGNALED(ended));
            assert_int_equal(WTERMSIG(ended), SIGBUS);
        }
    }
}

/* Wasmtime's own handlers do their work as before. */
static void ordinary_traps_are_as_ever(void **state)
{
    struct world w;

    (void)state;
    world_new(&w);
    begin(&w);
    for (int i = 0; i < 100; i++)
        assert_status(&w, world_call(&w, "zoo", "load", NULL, "i32", -4), VARVE_TRAP);
    assert_int_equal(world_i32(&w, "zoo", "load", 1, 64), 11);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            elsewhere_it_goes_to_whoever_had_it), /* first: its children install the handler anew */
        cmocka_unit_test(an_io_error_is_a_trap_and_undone),
        cmocka_unit_test(a_file_that_could_not_be_read_is_given_up),
        cmocka_unit_test(ordinary_traps_are_as_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
