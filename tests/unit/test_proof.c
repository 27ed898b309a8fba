/* test_proof.c - page/proof: what is proved is so, what is changed is refused, and a second checker agrees.
 *
 * test_proof [VERIFY]: the program of tools/verify, which knows nothing of the library. */
#include "page/proof.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "scratch.h"

static const char *verify_program;
static uint64_t seed = 1;

static uint64_t chance(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 20) % below;
}

static void scramble(void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)chance(256);
}

/* ---- A state of a few modules ----------------------------------------------------------------- */

enum { MODULES = 40 };

struct module {
    struct vv_module_facts facts;
    struct vv_pagetree memory;
    uint64_t seed; /* of its pages */
};
struct fixture {
    struct module modules[MODULES];
    size_t count;
    struct vv_trie trie;
    uint8_t meta[VV_HASH_SIZE], root[VV_HASH_SIZE];
};

/* Page `index` of a module: every third is zero. */
static void page_of(const struct module *module, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    memset(page, 0, VV_PAGE_SIZE);
    if ((index + module->seed) % 3 != 0)
        for (size_t i = 0; i < 40; i++)
            page[(i * 101 + index) % VV_PAGE_SIZE] = (uint8_t)(module->seed + index * 7 + i + 1);
}

static void add_module(struct fixture *f, uint64_t pages, unsigned shared_bytes)
{
    struct module *module = &f->modules[f->count++];

    scramble(&module->facts, sizeof module->facts);
    memset(module->facts.id, 0x3c, shared_bytes);
    module->seed = chance(1000);
    vv_pagetree_init(&module->memory, pages, NULL);
    for (uint64_t i = 0; i<pages; i += pages> 3000 ? pages / 3000 : 1) {
        uint8_t page[VV_PAGE_SIZE];
        const uint8_t *bytes = page;
        struct vv_leaf leaf = { .locator = 0 };
        page_of(module, i, page);
        vv_hash_pages(&bytes, 1, &leaf.hash);
        if (!vv_hash_is_zero(leaf.hash))
            assert_int_equal(vv_pagetree_set(&module->memory, i, &leaf), VARVE_OK);
    }
    assert_int_equal(vv_pagetree_root(&module->memory, module->facts.memory), VARVE_OK);

    struct vv_item item = { .locator = 0 };
    memcpy(item.key, module->facts.id, sizeof item.key);
    vv_module_leaf_hash(&module->facts, item.hash);
    assert_int_equal(vv_trie_set(&f->trie, &item), VARVE_OK);
}

static void seal(struct fixture *f)
{
    uint8_t top[VV_HASH_SIZE];

    assert_int_equal(vv_trie_top(&f->trie, top), VARVE_OK);
    vv_state_root_hash(top, f->meta, f->root);
}

static void empty_fixture(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    vv_trie_init(&f->trie, NULL);
    scramble(f->meta, sizeof f->meta);
}

static void release_fixture(struct fixture *f)
{
    vv_trie_release(&f->trie);
    for (size_t i = 0; i < f->count; i++)
        vv_pagetree_release(&f->modules[i].memory);
}

static varve_status facts_of(void *context, const uint8_t id[32], struct vv_module_facts *facts,
                             struct vv_pagetree **memory)
{
    struct fixture *f = context;

    for (size_t i = 0; i < f->count; i++)
        if (memcmp(f->modules[i].facts.id, id, 32) == 0) {
            *facts = f->modules[i].facts;
            *memory = &f->modules[i].memory;
            return VARVE_OK;
        }
    return vv_fail(VARVE_NOT_FOUND, "no such module");
}

static void prove(struct fixture *f, const uint8_t id[32], uint64_t page, const uint8_t *bytes,
                  struct vv_bytes *proof)
{
    vv_bytes_clear(proof);
    assert_int_equal(vv_proof_encode(&f->trie, f->meta, id, page, bytes, facts_of, f, proof), VARVE_OK);
}

/* ---- The other checker ------------------------------------------------------------------------ */

extern char **environ;

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(name, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Its exit code; `page` gets what it wrote (NULL: it is not asked to). */
static int verify(const struct vv_bytes *proof, const uint8_t root[VV_HASH_SIZE], uint8_t *page)
{
    char dir[SCRATCH_PATH], name[SCRATCH_PATH + 16], out[SCRATCH_PATH + 16], hex[2 * VV_HASH_SIZE + 1];
    char program[] = "verify";
    char *args[] = { program, hex, name, page == NULL ? NULL : out, NULL };
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    int status = 0;

    for (size_t i = 0; i < VV_HASH_SIZE; i++)
        (void)snprintf(hex + 2 * i, 3, "%02X", root[i]);
    scratch_new(dir);
    (void)snprintf(name, sizeof name, "%s/proof", dir);
    (void)snprintf(out, sizeof out, "%s/page", dir);
    write_file(name, proof->data, proof->size);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0), 0);
    assert_int_equal(posix_spawn(&child, verify_program, &actions, NULL, args, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)posix_spawn_file_actions_destroy(&actions);
    assert_true(WIFEXITED(status));
    if (page != NULL && WEXITSTATUS(status) == 0) {
        FILE *file = fopen(out, "rb");
        assert_non_null(file);
        assert_int_equal(fread(page, 1, VV_PAGE_SIZE, file), VV_PAGE_SIZE);
        (void)fclose(file);
    }
    scratch_remove(dir);
    return WEXITSTATUS(status);
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void assert_page_is_proved(struct fixture *f, const struct module *module, uint64_t index,
                                  bool by_both)
{
    struct vv_bytes proof = VV_BYTES_NONE;
    uint8_t bytes[VV_PAGE_SIZE], got[VV_PAGE_SIZE];
    varve_claim claim = { .size = sizeof claim };

    page_of(module, index, bytes);
    prove(f, module->facts.id, index, bytes, &proof);
    assert_int_equal(vv_proof_check(proof.data, proof.size, f->root, &claim), VARVE_OK);
    assert_true(claim.present && claim.size == sizeof claim);
    assert_memory_equal(claim.module.bytes, module->facts.id, 32);
    assert_memory_equal(claim.code, module->facts.code, 32);
    assert_true(claim.memory_size == module->memory.page_count * VV_PAGE_SIZE && claim.page == index);
    assert_memory_equal(claim.bytes, bytes, VV_PAGE_SIZE);
    if (by_both && verify_program != NULL) {
        assert_int_equal(verify(&proof, f->root, got), 0);
        assert_memory_equal(got, bytes, VV_PAGE_SIZE);
    }
    vv_bytes_release(&proof);
}

/* Memories of one to five levels, among one to forty modules, whose ids part early and late. */
static void every_page_is_proved_with_its_module(void **state)
{
    static const uint64_t sizes[] = { 1, 15, 16, 17, 255, 300, 5000, 70000 };
    static struct fixture f;

    (void)state;
    empty_fixture(&f);
    for (size_t i = 0; i < MODULES; i++) {
        add_module(&f, sizes[i % 8], i % 5 == 0 ? 31 : (unsigned)(i % 4));
        seal(&f);
        const struct module *module = &f.modules[chance(f.count)];
        const uint64_t pages = module->memory.page_count > 3000 ? 3000 : module->memory.page_count;
        const uint64_t step = module->memory.page_count / pages;
        for (int k = 0; k < 20; k++)
            assert_page_is_proved(&f, module, chance(pages) * step, k == 0);
    }
    release_fixture(&f);
}

static void absence_is_proved_beside_nothing_and_beside_another(void **state)
{
    static struct fixture f;
    struct vv_bytes proof = VV_BYTES_NONE;
    varve_claim claim = { .size = sizeof claim };
    unsigned kinds[4] = { 0 };

    (void)state;
    empty_fixture(&f);
    for (size_t i = 0; i <= 30; i++) {
        seal(&f);
        for (int k = 0; k < 12; k++) {
            uint8_t id[32];
            scramble(id, sizeof id);
            if (f.count > 0 && k % 2 == 0) { /* next to one that is there, from the kth bit on */
                memcpy(id, f.modules[chance(f.count)].facts.id, sizeof id);
                const uint64_t bit = chance(256);
                id[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            }
            prove(&f, id, 0, NULL, &proof);
            kinds[proof.data[5]]++;
            assert_int_equal(vv_proof_check(proof.data, proof.size, f.root, &claim), VARVE_OK);
            assert_false(claim.present);
            assert_memory_equal(claim.module.bytes, id, sizeof id);
            if (k < 2 && verify_program != NULL)
                assert_int_equal(verify(&proof, f.root, NULL), 0);
        }
        add_module(&f, 3, i % 3 == 0 ? 30 : 0);
    }
    assert_true(kinds[2] > 20 && kinds[3] > 100 && kinds[1] == 0);
    vv_bytes_release(&proof);
    release_fixture(&f);
}

/* Each kind of proof, each of its bits; both checkers (the program for some, it is a process each). */
static void no_changed_bit_proves_what_is_not(void **state)
{
    static struct fixture f;
    struct vv_bytes proofs[4] = { VV_BYTES_NONE, VV_BYTES_NONE, VV_BYTES_NONE, VV_BYTES_NONE };
    uint8_t bytes[VV_PAGE_SIZE], id[32];
    size_t made[4] = { 0 };

    (void)state;
    empty_fixture(&f);
    for (size_t i = 0; i < 9; i++)
        add_module(&f, 40, 1);
    seal(&f);
    for (uint64_t page = 0; page < 2; page++) { /* one is zero, or the next is */
        page_of(&f.modules[4], page + (3 - f.modules[4].seed % 3) % 3, bytes);
        prove(&f, f.modules[4].facts.id, page + (3 - f.modules[4].seed % 3) % 3, bytes, &proofs[page]);
    }
    assert_true(proofs[0].size + VV_PAGE_SIZE < proofs[1].size + 200);
    while (made[2] == 0 || made[3] == 0) {
        memset(id, 0x3c, sizeof id);
        scramble(id + 1, 1 + chance(2));
        struct vv_bytes proof = VV_BYTES_NONE;
        prove(&f, id, 0, NULL, &proof);
        const uint8_t what = proof.data[5];
        if (made[what]++ == 0)
            proofs[what] = proof;
        else
            vv_bytes_release(&proof);
    }
    for (size_t p = 0; p < 4; p++) {
        varve_claim claim = { .size = sizeof claim };
        struct vv_bytes *proof = &proofs[p];
        assert_int_equal(vv_proof_check(proof->data, proof->size, f.root, &claim), VARVE_OK);
        for (size_t bit = 0; bit < 8 * proof->size; bit++) {
            proof->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            const varve_status rc = vv_proof_check(proof->data, proof->size, f.root, &claim);
            if (rc == VARVE_OK) { /* it says of another id that it is absent, which it is, by the same way */
                struct vv_item item;
                bool present = true;
                assert_true(p >= 2 && bit / 8 >= 6 && bit / 8 < 38);
                assert_false(claim.present);
                assert_memory_equal(claim.module.bytes, proof->data + 6, 32);
                assert_int_equal(vv_trie_get(&f.trie, claim.module.bytes, &item, &present), VARVE_OK);
                assert_false(present);
            } else {
                assert_true(rc == VARVE_INVALID || (rc == VARVE_NEWER && bit / 8 == 4));
            }
            if (bit % (proof->size / 4 + 3) == 0 && verify_program != NULL)
                assert_int_equal(verify(proof, f.root, NULL), rc != VARVE_OK);
            proof->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        const size_t size = proof->size;
        for (proof->size = 0; proof->size < size; proof->size++) {
            assert_int_equal(vv_proof_check(proof->data, proof->size, f.root, &claim), VARVE_INVALID);
            if (proof->size % (size / 8) == 0 && verify_program != NULL)
                assert_int_equal(verify(proof, f.root, NULL), 1);
        }
        vv_bytes_u8(proof, 0);
        assert_int_equal(vv_proof_check(proof->data, proof->size, f.root, &claim), VARVE_INVALID);
        proof->size--;
        f.root[7] ^= 1;
        assert_int_equal(vv_proof_check(proof->data, proof->size, f.root, &claim), VARVE_INVALID);
        f.root[7] ^= 1;
        vv_bytes_release(proof);
    }
    release_fixture(&f);
}

/* A state of one module: its leaf stands at the top, and nothing may pretend to stand below it. */
static void a_way_through_nothing_is_refused(void **state)
{
    static struct fixture f;
    struct vv_bytes proof = VV_BYTES_NONE, longer = VV_BYTES_NONE;
    varve_claim claim = { .size = sizeof claim };
    uint8_t id[32] = { 5 };

    (void)state;
    empty_fixture(&f);
    seal(&f);
    prove(&f, id, 0, NULL, &proof);
    assert_int_equal(proof.size, 4 + 2 + 32 + 32 + 2);
    assert_int_equal(vv_proof_check(proof.data, proof.size, f.root, &claim), VARVE_OK);
    vv_bytes_put(&longer, proof.data, proof.size - 2);
    vv_bytes_u16(&longer, 8);
    vv_bytes_u8(&longer, 0); /* eight siblings of zeros: the same root, were it let pass */
    assert_int_equal(vv_proof_check(longer.data, longer.size, f.root, &claim), VARVE_INVALID);
    if (verify_program != NULL)
        assert_int_equal(verify(&longer, f.root, NULL), 1);
    vv_bytes_release(&proof);
    vv_bytes_release(&longer);
    release_fixture(&f);
}

static void a_proof_is_not_made_of_wrong_bytes_or_beyond_the_end(void **state)
{
    static struct fixture f;
    struct vv_bytes proof = VV_BYTES_NONE;
    uint8_t bytes[VV_PAGE_SIZE];

    (void)state;
    empty_fixture(&f);
    add_module(&f, 20, 0);
    seal(&f);
    vv_bytes_put(&proof, "before", 6);
    const uint8_t *id = f.modules[0].facts.id;
    page_of(&f.modules[0], 3, bytes);
    bytes[9] ^= 1;
    assert_int_equal(vv_proof_encode(&f.trie, f.meta, id, 3, bytes, facts_of, &f, &proof), VARVE_CORRUPT);
    bytes[9] ^= 1;
    assert_int_equal(vv_proof_encode(&f.trie, f.meta, id, 20, bytes, facts_of, &f, &proof), VARVE_MISUSE);
    assert_int_equal(proof.size, 6);
    for (unsigned nth = 1;; nth++) { /* and memory may run out anywhere */
        vv_bytes_release(&proof);
        vv_alloc_fail_at(nth);
        const varve_status rc = vv_proof_encode(&f.trie, f.meta, id, 3, bytes, facts_of, &f, &proof);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            assert_true(nth > 2);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
    }
    vv_bytes_release(&proof);
    release_fixture(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_proved_with_its_module),
        cmocka_unit_test(absence_is_proved_beside_nothing_and_beside_another),
        cmocka_unit_test(no_changed_bit_proves_what_is_not),
        cmocka_unit_test(a_way_through_nothing_is_refused),
        cmocka_unit_test(a_proof_is_not_made_of_wrong_bytes_or_beyond_the_end),
    };

    verify_program = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
