/* Saved nodes: any bytes are decoded or refused; what is decoded is encoded to the same bytes again. The same bytes
 * also serve as the store of a whole tree, behind every address: no walk may run away in it. */
#include <stdint.h>
#include <string.h>

#include "page/node.h"
#include "page/pagetree.h"
#include "page/trie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
    unsigned reads;
};

/* An address is an offset into the input: trees made of its parts. */
static varve_status read_part(void *context, uint64_t address, struct vv_bytes *bytes)
{
    struct input *input = context;
    const size_t offset = (size_t)(address % (input->size + 1));

    if (++input->reads > 1000)
        return vv_fail(VARVE_CORRUPT, "enough");
    vv_bytes_put(bytes, input->data + offset, input->size - offset);
    return vv_bytes_done(bytes);
}

static varve_status see_leaf(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    uint64_t *next = context;

    VV_ASSERT(index >= *next && !vv_hash_is_zero(leaf->hash) && leaf->locator != 0);
    *next = index + 1;
    return VARVE_OK;
}

static varve_status see_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    uint8_t *last = context;

    VV_ASSERT(from == NULL && memcmp(to->key, last, 32) >= 0);
    memcpy(last, to->key, 32);
    return VARVE_OK;
}

static void walk(const struct vv_node *node, struct input *input)
{
    const struct vv_node_source source = { .read = read_part, .context = input };
    struct vv_pagetree tree;
    struct vv_trie trie;
    uint64_t next = 0;
    uint8_t last[32] = { 0 };

    for (uint64_t pages = 16; pages < UINT64_C(1) << 50; pages <<= 8) {
        next = 0;
        VV_ASSERT(vv_pagetree_open(&tree, pages, input->size + 1, node->hash[1], &source) == VARVE_OK);
        (void)vv_pagetree_each(&tree, 0, see_leaf, &next);
        VV_ASSERT(next <= pages);
        vv_pagetree_release(&tree);
    }
    VV_ASSERT(vv_trie_open(&trie, input->size + 1, node->hash[1], &source) == VARVE_OK);
    (void)vv_trie_diff(NULL, &trie, see_item, last);
    vv_trie_release(&trie);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size, 0 };
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_node *node = NULL;

    const varve_status rc = vv_node_decode(data, size, &node);
    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_CORRUPT && node == NULL);
        return 0;
    }
    vv_node_encode(node, &bytes);
    VV_ASSERT(bytes.size == size && memcmp(bytes.data, data, size) == 0);
    walk(node, &input);
    vv_node_drop(node);
    vv_bytes_release(&bytes);
    return 0;
}
