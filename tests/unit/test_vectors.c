/* test_vectors.c - the test vectors that docs/format.md publishes are what the library computes.
 *
 *   test_vectors FORMAT.MD   every line "name hex" in a fenced block that begins with ```vectors must be one that is
 *                            computed here, with this value; and every one computed here must be there
 *   test_vectors -p          print them, to be put there when the format changes (with its version) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "page/delta.h"
#include "page/proof.h"
#include "store/journal/head.h"
#include "store/journal/stamp.h"
#include "store/record.h"
#include "store/state.h"

/* ---- The vectors ------------------------------------------------------------------------------ */

struct vector {
    const char *name;
    struct vv_bytes value;
    bool seen;
};
static struct vector vectors[64];
static size_t vector_count;

static void add(const char *name, const void *value, size_t size)
{
    struct vector *vector = &vectors[vector_count++];

    vector->name = name;
    vv_bytes_put(&vector->value, value, size);
    assert_int_equal(vv_bytes_done(&vector->value), VARVE_OK);
}

static void add_hash(const char *name, const uint8_t hash[VV_HASH_SIZE])
{
    add(name, hash, VV_HASH_SIZE);
}

/* Page k: byte i is (i + k) mod 256. */
static void page_of(unsigned k, uint8_t page[VV_PAGE_SIZE])
{
    for (unsigned i = 0; i < VV_PAGE_SIZE; i++)
        page[i] = (uint8_t)(i + k);
}

static struct vv_leaf leaf_of(unsigned k, uint64_t locator)
{
    uint8_t page[VV_PAGE_SIZE];
    struct vv_leaf leaf = { .locator = locator };

    page_of(k, page);
    vv_hash(VV_HASH_PAGE, page, sizeof page, leaf.hash);
    return leaf;
}

static void hash_vectors(void)
{
    uint8_t hash[VV_HASH_SIZE], pair[2][VV_HASH_SIZE];

    for (unsigned k = 0; k < 2; k++) {
        const struct vv_leaf leaf = leaf_of(k + 1, 1);
        memcpy(pair[k], leaf.hash, VV_HASH_SIZE);
        add_hash(k == 0 ? "page-1" : "page-2", leaf.hash);
    }
    vv_hash_nodes((const uint8_t(*)[2 * VV_HASH_SIZE]) pair, 1, &hash);
    add_hash("node-1-2", hash);
    vv_hash(VV_HASH_RECORD, "varve", 5, hash);
    add_hash("record-varve", hash);
    vv_code_hash("\0asm\1\0\0\0", 8, hash);
    add_hash("code-empty-module", hash);
    vv_name_id("counter", hash);
    add_hash("id-counter", hash);
    vv_name_id("ledger", hash);
    add_hash("id-ledger", hash);
}

static varve_status put_node(void *context, const void *bytes, size_t size, uint64_t *address)
{
    struct vv_bytes *nodes = context;

    *address = nodes->size + 1000;
    vv_bytes_put(nodes, bytes, size);
    return vv_bytes_done(nodes);
}

/* Pages 0 .. 16 are pages 1 .. 17, page i at locator 64 * i + 1. */
static void make_memory(struct vv_pagetree *tree)
{
    vv_pagetree_init(tree, 17, NULL);
    for (unsigned i = 0; i < 17; i++) {
        const struct vv_leaf leaf = leaf_of(i + 1, 64 * i + 1);
        assert_int_equal(vv_pagetree_set(tree, i, &leaf), VARVE_OK);
    }
}

static void memory_vectors(void)
{
    uint8_t root[VV_HASH_SIZE];
    struct vv_bytes nodes = VV_BYTES_NONE;
    struct vv_pagetree tree;
    struct vv_leaf leaf = leaf_of(1, 5);
    uint64_t address = 0;

    vv_pagetree_init(&tree, 0, NULL);
    assert_int_equal(vv_pagetree_root(&tree, root), VARVE_OK);
    add_hash("memory-empty", root);
    assert_int_equal(vv_pagetree_resize(&tree, 1), VARVE_OK);
    assert_int_equal(vv_pagetree_set(&tree, 0, &leaf), VARVE_OK);
    assert_int_equal(vv_pagetree_root(&tree, root), VARVE_OK);
    add_hash("memory-1", root);
    assert_int_equal(vv_pagetree_save(&tree, put_node, &nodes, &address), VARVE_OK);
    add("saved-memory-1", nodes.data, nodes.size);
    assert_int_equal(vv_pagetree_resize(&tree, 300), VARVE_OK);
    assert_int_equal(vv_pagetree_set(&tree, 0, NULL), VARVE_OK);
    assert_int_equal(vv_pagetree_set(&tree, 299, &leaf), VARVE_OK);
    assert_int_equal(vv_pagetree_root(&tree, root), VARVE_OK);
    add_hash("memory-300-sparse", root);
    vv_pagetree_release(&tree);

    make_memory(&tree);
    assert_int_equal(vv_pagetree_root(&tree, root), VARVE_OK);
    add_hash("memory-17", root);
    vv_bytes_clear(&nodes);
    assert_int_equal(vv_pagetree_save(&tree, put_node, &nodes, &address), VARVE_OK);
    const size_t top = (size_t)(address - 1000);
    add("saved-memory-17-top", nodes.data + top, nodes.size - top);
    vv_pagetree_release(&tree);
    vv_bytes_release(&nodes);
}

/* Two modules, "counter" and "ledger", and two named values. */
struct example {
    struct vv_pagetree memory[2];
    struct vv_module_facts facts[2];
    struct vv_trie trie;
    uint8_t meta[VV_HASH_SIZE];
};

static void make_example(struct example *e)
{
    static const char *const names[2] = { "counter", "ledger" };
    struct vv_meta_hasher meta;

    memset(e, 0, sizeof *e);
    vv_trie_init(&e->trie, NULL);
    make_memory(&e->memory[0]);
    vv_pagetree_init(&e->memory[1], 1, NULL);
    for (int i = 0; i < 2; i++) {
        struct vv_module_facts *facts = &e->facts[i];
        struct vv_item item = { .locator = 3 };
        vv_name_id(names[i], facts->id);
        vv_descriptor_hash(names[i], strlen(names[i]), facts->descriptor);
        assert_int_equal(vv_pagetree_root(&e->memory[i], facts->memory), VARVE_OK);
        if (i == 0) { /* the ledger is an image: no code, no instance */
            vv_code_hash("\0asm\1\0\0\0", 8, facts->code);
            vv_instance_hash("state", 5, facts->instance);
            memset(facts->owner, 0x11, sizeof facts->owner);
        }
        memcpy(item.key, facts->id, sizeof item.key);
        vv_module_leaf_hash(facts, item.hash);
        assert_int_equal(vv_trie_set(&e->trie, &item), VARVE_OK);
    }
    vv_meta_hash_begin(&meta);
    vv_meta_hash_put(&meta, "a", 1, "1", 1);
    vv_meta_hash_put(&meta, "key", 3, "value", 5);
    vv_meta_hash_end(&meta, e->meta);
}

static varve_status facts_of(void *context, const uint8_t id[32], struct vv_module_facts *facts,
                             struct vv_pagetree **memory)
{
    struct example *e = context;
    const int i = memcmp(e->facts[0].id, id, 32) == 0 ? 0 : 1;

    *facts = e->facts[i];
    *memory = &e->memory[i];
    return VARVE_OK;
}

static void state_vectors(void)
{
    static const uint8_t zeros[VV_PAGE_SIZE];
    static struct example e;
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint8_t hash[VV_HASH_SIZE], top[VV_HASH_SIZE], id[32];
    uint64_t address = 0;

    make_example(&e);
    vv_module_leaf_hash(&e.facts[0], hash);
    add_hash("leaf-counter", hash);
    vv_module_leaf_hash(&e.facts[1], hash);
    add_hash("leaf-ledger", hash);
    add_hash("meta", e.meta);
    vv_state_root_hash(vv_hash_zero, vv_hash_zero, hash);
    add_hash("root-empty", hash);
    vv_module_leaf_hash(&e.facts[0], hash);
    vv_state_root_hash(hash, vv_hash_zero, hash);
    add_hash("root-counter", hash);
    assert_int_equal(vv_trie_top(&e.trie, top), VARVE_OK);
    add_hash("trie-both", top);
    vv_state_root_hash(top, e.meta, hash);
    add_hash("root-both-meta", hash);
    assert_int_equal(vv_proof_encode(&e.trie, e.meta, e.facts[1].id, 0, zeros, facts_of, &e, &bytes),
                     VARVE_OK);
    add("proof-ledger-0", bytes.data, bytes.size);
    vv_name_id("nobody", id);
    vv_bytes_clear(&bytes);
    assert_int_equal(vv_proof_encode(&e.trie, e.meta, id, 0, NULL, facts_of, &e, &bytes), VARVE_OK);
    add("proof-nobody", bytes.data, bytes.size);
    vv_bytes_clear(&bytes);
    assert_int_equal(vv_trie_save(&e.trie, put_node, &bytes, &address), VARVE_OK);
    add("saved-trie-both", bytes.data, bytes.size);
    vv_commit_id_hash(NULL, hash, 1, "first", 5, id);
    add_hash("commit-first", id);
    vv_commit_id_hash(id, hash, -1, "", 0, hash);
    add_hash("commit-second", hash);

    vv_trie_release(&e.trie);
    vv_pagetree_release(&e.memory[0]);
    vv_pagetree_release(&e.memory[1]);
    vv_bytes_release(&bytes);
}

static void frame_vectors(void)
{
    uint8_t base[VV_PAGE_SIZE], page[VV_PAGE_SIZE] = { 0 };
    static const uint8_t zeros[VV_PAGE_SIZE];
    struct vv_bytes bytes = VV_BYTES_NONE;

    page_of(1, base);
    assert_int_equal(vv_runs_encode(base, base, 100, &bytes), 1);
    add("runs-none", bytes.data, bytes.size);
    page_of(1, page);
    memset(page + 300, 0xee, 2);
    page[306] = 0xee; /* four equal bytes between: a run of its own */
    page[310] = 0xee; /* three: the same run */
    page[VV_PAGE_SIZE - 1] = 0xee;
    vv_bytes_clear(&bytes);
    assert_true(vv_runs_encode(base, page, 100, &bytes) > 1);
    add("runs", bytes.data, bytes.size);
    const struct vv_frame_page pages[3] = {
        { .bytes = page, .base = base, .base_locator = 65 },
        { .bytes = zeros },
        { .bytes = base, .base = base, .base_locator = 64 },
    };
    vv_bytes_clear(&bytes);
    assert_int_equal(vv_frame_encode(pages, 3, &bytes), VARVE_OK);
    add("frame", bytes.data, bytes.size);
    vv_bytes_release(&bytes);
}

static void record_vectors(void)
{
    struct vv_record record = { .kind = VV_RECORD_COMMIT,
                                .address = 8192,
                                .sequence = 2,
                                .number = 1,
                                .synced = 8192,
                                .parent = 0,
                                .checkpoint = 4096,
                                .line_records = 1,
                                .line_bytes = 4096,
                                .facts_size = 3,
                                .directory_size = 5,
                                .pages_size = 7,
                                .time_ns = 1000 };
    static const uint8_t ones[7] = { 1, 1, 1, 1, 1, 1, 1 };
    uint8_t header[VV_RECORD_HEADER], slot[VV_HEAD_USED], end[VV_CLOSING];
    struct vv_closing closing = { .address = 12288, .sequence = 2 };
    const struct vv_head head = { .number = 3, .checkpoint = 4096, .acknowledged = 12288, .visible = 16384, .generation = 2 };

    record.size = vv_record_padded(&record);
    memset(record.epoch, 0xe0, sizeof record.epoch);
    memset(record.previous, 0xb0, sizeof record.previous);
    memset(record.id, 0x1d, sizeof record.id);
    memset(record.root, 0xaa, sizeof record.root);
    vv_record_sum(ones, 3, record.facts_sum);
    vv_record_sum(ones, 5, record.directory_sum);
    vv_record_sum(ones, 7, record.pages_sum);
    vv_record_encode(&record, header);
    add("record-header", header, sizeof header);
    memcpy(closing.previous, record.sum, sizeof closing.previous);
    vv_head_encode(&head, slot);
    add("head-slot", slot, sizeof slot);
    vv_closing_encode(&closing, end);
    add("closing", end, sizeof end);
}

static void stamp_vector(void)
{
    struct vv_stamp stamp = { .state = VV_STAMP_REWRITING,
                              .generation = 4096,
                              .to = { .page_count = 3, .address = 1024 },
                              .from = { .page_count = 2, .address = 512 } };
    uint8_t page[VV_STAMP_PAGE];

    vv_name_id("counter", stamp.module.bytes);
    memset(stamp.from.top, 1, sizeof stamp.from.top);
    memset(stamp.to.top, 2, sizeof stamp.to.top);
    vv_stamp_encode(&stamp, page);
    add("image-stamp", page, VV_STAMP_USED);
}

static void facts_vectors(void)
{
    struct vv_record_move move = { .name = { (const uint8_t *)"main", 4 },
                                   .what = { (const uint8_t *)"commit", 6 },
                                   .previous = 4096,
                                   .moves = 2 };
    struct vv_record_facts facts = { .modules = 1,
                                     .modules_changed = 1,
                                     .pages_changed = 2,
                                     .message = { (const uint8_t *)"first", 5 },
                                     .branch = { (const uint8_t *)"main", 4 },
                                     .engine = { (const uint8_t *)"", 0 },
                                     .moves = &move,
                                     .move_count = 1 };
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_module *module = NULL;
    uint8_t id[32];

    memset(id, 0x1d, sizeof id);
    memset(facts.parent, 0x99, sizeof facts.parent);
    memcpy(move.from, facts.parent, sizeof move.from);
    memcpy(move.to, id, sizeof move.to);
    assert_int_equal(vv_record_facts_encode(VV_RECORD_COMMIT, &facts, id, &bytes), VARVE_OK);
    add("record-facts", bytes.data, bytes.size);
    vv_bytes_clear(&bytes);
    assert_int_equal(vv_module_new(&module), VARVE_OK);
    vv_name_id("counter", module->id.bytes);
    memcpy(module->name, "counter", 8);
    assert_int_equal(vv_pagetree_resize(&module->memory, 2), VARVE_OK);
    assert_int_equal(vv_module_encode(module, 0, &bytes), VARVE_OK);
    add("entry", bytes.data, bytes.size);
    vv_module_drop(module);
    vv_bytes_release(&bytes);
}

static void make_vectors(void)
{
    hash_vectors();
    memory_vectors();
    state_vectors();
    frame_vectors();
    record_vectors();
    facts_vectors();
    stamp_vector();
}

/* ---- The document ----------------------------------------------------------------------------- */

static const char *document;

static struct vector *find(const char *name)
{
    for (size_t i = 0; i < vector_count; i++)
        if (strcmp(vectors[i].name, name) == 0)
            return &vectors[i];
    return NULL;
}

static void check_line(const char *line)
{
    char name[64] = "";
    int at = 0;

    assert_int_equal(sscanf(line, "%63s %n", name, &at), 1);
    struct vector *vector = find(name);
    if (vector == NULL)
        fail_msg("the document has a vector that nobody computes: %s", name);
    for (size_t i = 0; i < vector->value.size; i++) {
        unsigned byte = 0;
        if (sscanf(line + at + 2 * i, "%2x", &byte) != 1 || byte != vector->value.data[i])
            fail_msg("the document has another %s from byte %zu on", name, i);
    }
    assert_int_equal(strspn(line + at, "0123456789abcdef"), 2 * vector->value.size);
    assert_string_equal(line + at + 2 * vector->value.size, "\n");
    vector->seen = true;
}

static void the_published_vectors_are_what_is_computed(void **state)
{
    static char line[16384];
    FILE *file = fopen(document, "r");
    bool inside = false;

    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "```", 3) == 0)
            inside = !inside && strcmp(line, "```vectors\n") == 0;
        else if (inside)
            check_line(line);
    }
    (void)fclose(file);
    for (size_t i = 0; i < vector_count; i++)
        if (!vectors[i].seen)
            fail_msg("the document lacks %s", vectors[i].name);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_are_what_is_computed),
    };
    int failed = 0;

    make_vectors();
    if (argc == 2 && strcmp(argv[1], "-p") != 0) {
        document = argv[1];
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    } else {
        for (size_t i = 0; i < vector_count; i++) {
            printf("%s ", vectors[i].name);
            for (size_t k = 0; k < vectors[i].value.size; k++)
                printf("%02x", vectors[i].value.data[k]);
            printf("\n");
        }
    }
    for (size_t i = 0; i < vector_count; i++)
        vv_bytes_release(&vectors[i].value);
    return failed;
}
