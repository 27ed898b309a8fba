/* proof.c - see proof.h.
 *
 * "VPRF", u8 version 1, u8 what, id 32, meta hash 32; the way in the trie: u16 bits, siblings; then
 *   what 1, a page:              code, owner, instance hash, descriptor hash (32 each), u64 memory size, u64 page,
 *                                u8 1 and 4096 bytes or u8 0 for a page of zeros, siblings in the page tree
 *   what 2, nothing is there:    nothing more
 *   what 3, another leaf is:     its id, code, owner, memory root, instance hash, descriptor hash
 * Siblings: a bit for each, lowest first, then those that are not zero. Every byte is bound by the root or has
 * one lawful value, but for the end of an id that is absent: see proof.h. */
#include "page/proof.h"

#include <string.h>

enum { PROOF_VERSION = 1, WAY_MAX = 256, PAGE_WAY_MAX = 13 * 4 };
enum proof_what { PROOF_PAGE = 1, PROOF_NOTHING = 2, PROOF_OTHER = 3 };

static const uint8_t proof_magic[4] = { 'V', 'P', 'R', 'F' };

/* ---- Making ----------------------------------------------------------------------------------- */

static varve_status put_page(const struct vv_module_facts *facts, struct vv_pagetree *memory, uint64_t page,
                             const uint8_t *bytes, struct vv_bytes *proof)
{
    varve_status rc = VARVE_OK;
    uint8_t hash[VV_HASH_SIZE];
    struct vv_leaf leaf = { .locator = 0 };
    bool present = false;

    VV_ASSERT(bytes != NULL);
    TRY(vv_pagetree_get(memory, page, &leaf, &present));
    vv_hash_pages(&bytes, 1, &hash);
    if (!vv_hash_equal(hash, present ? leaf.hash : vv_hash_zero))
        TRY(vv_fail(VARVE_CORRUPT, "proof: the bytes of page %llu are not those that its hash stands for",
                    (unsigned long long)page));
    vv_bytes_put(proof, facts->code, sizeof facts->code);
    vv_bytes_put(proof, facts->owner, sizeof facts->owner);
    vv_bytes_put(proof, facts->instance, sizeof facts->instance);
    vv_bytes_put(proof, facts->descriptor, sizeof facts->descriptor);
    vv_bytes_u64(proof, memory->page_count * VV_PAGE_SIZE);
    vv_bytes_u64(proof, page);
    vv_bytes_u8(proof, present);
    if (present)
        vv_bytes_put(proof, bytes, VV_PAGE_SIZE);
    TRY(vv_pagetree_prove(memory, page, proof));
out:
    return rc;
}

static void put_other(const struct vv_module_facts *facts, struct vv_bytes *proof)
{
    vv_bytes_put(proof, facts->id, sizeof facts->id);
    vv_bytes_put(proof, facts->code, sizeof facts->code);
    vv_bytes_put(proof, facts->owner, sizeof facts->owner);
    vv_bytes_put(proof, facts->memory, sizeof facts->memory);
    vv_bytes_put(proof, facts->instance, sizeof facts->instance);
    vv_bytes_put(proof, facts->descriptor, sizeof facts->descriptor);
}

varve_status vv_proof_encode(struct vv_trie *trie, const uint8_t meta[VV_HASH_SIZE], const uint8_t id[32],
                             uint64_t page, const uint8_t *bytes, vv_proof_facts_fn facts, void *context,
                             struct vv_bytes *proof)
{
    varve_status rc = VARVE_OK;
    const size_t start = proof->size;
    struct vv_module_facts about;
    struct vv_pagetree *memory = NULL;
    struct vv_item item;
    bool some = false;

    vv_bytes_put(proof, proof_magic, sizeof proof_magic);
    vv_bytes_u8(proof, PROOF_VERSION);
    vv_bytes_u8(proof, PROOF_NOTHING); /* until the trie was asked */
    vv_bytes_put(proof, id, 32);
    vv_bytes_put(proof, meta, VV_HASH_SIZE);
    TRY(vv_trie_prove(trie, id, proof, &item, &some));
    if (some) {
        const bool found = memcmp(item.key, id, 32) == 0;
        TRY(facts(context, item.key, &about, &memory));
        proof->data[start + 5] = found ? PROOF_PAGE : PROOF_OTHER;
        if (found)
            TRY(put_page(&about, memory, page, bytes, proof));
        else
            put_other(&about, proof);
    }
    TRY(vv_bytes_done(proof));
out:
    if (rc != VARVE_OK)
        proof->size = start;
    return rc;
}

/* ---- Checking --------------------------------------------------------------------------------- */

static void parent(const uint8_t left[VV_HASH_SIZE], const uint8_t right[VV_HASH_SIZE],
                   uint8_t out[VV_HASH_SIZE])
{
    uint8_t pair[2 * VV_HASH_SIZE];

    memcpy(pair, left, VV_HASH_SIZE);
    memcpy(pair + VV_HASH_SIZE, right, VV_HASH_SIZE);
    vv_hash_nodes((const uint8_t(*)[2 * VV_HASH_SIZE]) & pair, 1, (uint8_t(*)[VV_HASH_SIZE])out);
}

static varve_status read_page(struct vv_reader *reader, struct vv_module_facts *facts, varve_claim *claim)
{
    uint8_t siblings[PAGE_WAY_MAX][VV_HASH_SIZE], at[VV_HASH_SIZE];
    const uint8_t *bytes = claim->bytes;

    vv_reader_copy(reader, facts->code, sizeof facts->code);
    vv_reader_copy(reader, facts->owner, sizeof facts->owner);
    vv_reader_copy(reader, facts->instance, sizeof facts->instance);
    vv_reader_copy(reader, facts->descriptor, sizeof facts->descriptor);
    claim->memory_size = vv_reader_u64(reader);
    claim->page = vv_reader_u64(reader);
    const uint8_t form = vv_reader_u8(reader);
    memset(claim->bytes, 0, sizeof claim->bytes);
    if (form == 1)
        vv_reader_copy(reader, claim->bytes, sizeof claim->bytes);
    const uint64_t pages = claim->memory_size / VV_PAGE_SIZE;
    if (reader->bad || form > 1 || (form == 1 && vv_page_is_zero(claim->bytes)) ||
        claim->memory_size % VV_PAGE_SIZE != 0 || claim->page >= pages)
        return vv_fail(VARVE_INVALID, "proof: what it says of the page cannot be");

    const unsigned bits = 4 * vv_pagetree_levels(pages);
    VV_ASSERT(bits <= PAGE_WAY_MAX);
    vv_siblings_get(reader, siblings, bits);
    vv_hash_pages(&bytes, 1, &at);
    for (unsigned i = 0; i < bits; i++) {
        if ((claim->page >> i & 1) != 0)
            parent(siblings[i], at, at);
        else
            parent(at, siblings[i], at);
    }
    vv_memory_root(pages, at, facts->memory);
    memcpy(facts->id, claim->module.bytes, sizeof facts->id);
    memcpy(claim->code, facts->code, sizeof claim->code);
    return VARVE_OK;
}

static unsigned key_bit(const uint8_t key[32], unsigned depth)
{
    return key[depth / 8] >> (7 - depth % 8) & 1;
}

/* Another module's leaf stands in the place of `id`: it must be another's, on the same way. */
static varve_status read_other(struct vv_reader *reader, const uint8_t id[32], unsigned bits,
                               struct vv_module_facts *facts)
{
    vv_reader_copy(reader, facts->id, sizeof facts->id);
    vv_reader_copy(reader, facts->code, sizeof facts->code);
    vv_reader_copy(reader, facts->owner, sizeof facts->owner);
    vv_reader_copy(reader, facts->memory, sizeof facts->memory);
    vv_reader_copy(reader, facts->instance, sizeof facts->instance);
    vv_reader_copy(reader, facts->descriptor, sizeof facts->descriptor);
    if (memcmp(facts->id, id, 32) == 0)
        return vv_fail(VARVE_INVALID, "proof: the module that it calls absent is the one that it shows");
    for (unsigned depth = 0; depth < bits; depth++)
        if (key_bit(facts->id, depth) != key_bit(id, depth))
            return vv_fail(VARVE_INVALID, "proof: the other module does not stand in this one's place");
    return VARVE_OK;
}

static varve_status read_what(struct vv_reader *reader, enum proof_what what, unsigned bits,
                              varve_claim *claim, uint8_t leaf[VV_HASH_SIZE])
{
    varve_status rc = VARVE_OK;
    struct vv_module_facts facts;

    memset(leaf, 0, VV_HASH_SIZE);
    if (what == PROOF_NOTHING)
        return VARVE_OK;
    if (what == PROOF_PAGE)
        TRY(read_page(reader, &facts, claim));
    else
        TRY(read_other(reader, claim->module.bytes, bits, &facts));
    vv_module_leaf_hash(&facts, leaf);
out:
    return rc;
}

static varve_status check(struct vv_reader *reader, const uint8_t root[VV_HASH_SIZE], varve_claim *claim)
{
    varve_status rc = VARVE_OK;
    uint8_t magic[sizeof proof_magic], meta[VV_HASH_SIZE], at[VV_HASH_SIZE], siblings[WAY_MAX][VV_HASH_SIZE];

    vv_reader_copy(reader, magic, sizeof magic);
    const uint8_t version = vv_reader_u8(reader);
    const uint8_t what = vv_reader_u8(reader);
    if (memcmp(magic, proof_magic, sizeof magic) != 0 || what < PROOF_PAGE || what > PROOF_OTHER)
        return vv_fail(VARVE_INVALID, "proof: these bytes are none");
    if (version != PROOF_VERSION)
        return vv_fail(VARVE_NEWER, "proof: version %u; this program reads version %d", version,
                       PROOF_VERSION);
    vv_reader_copy(reader, claim->module.bytes, sizeof claim->module.bytes);
    vv_reader_copy(reader, meta, sizeof meta);
    const unsigned bits = vv_reader_u16(reader);
    if (bits > WAY_MAX)
        return vv_fail(VARVE_INVALID, "proof: its way is longer than a key");
    vv_siblings_get(reader, siblings, bits);
    TRY(read_what(reader, (enum proof_what)what, bits, claim, at));
    if (reader->bad || vv_reader_left(reader) != 0)
        return vv_fail(VARVE_INVALID, "proof: it ends early or late");
    for (unsigned i = 0; i < bits; i++) {
        if (vv_hash_is_zero(at) && vv_hash_is_zero(siblings[i]))
            return vv_fail(VARVE_INVALID, "proof: its way goes on where nothing is");
        if (key_bit(claim->module.bytes, bits - 1 - i) != 0)
            parent(siblings[i], at, at);
        else
            parent(at, siblings[i], at);
    }
    vv_state_root_hash(at, meta, at);
    if (!vv_hash_equal(at, root))
        return vv_fail(VARVE_INVALID, "proof: it leads to another root");
    claim->present = what == PROOF_PAGE;
out:
    return rc;
}

varve_status vv_proof_check(const void *proof, size_t size, const uint8_t root[VV_HASH_SIZE],
                            varve_claim *claim)
{
    struct vv_reader reader = vv_reader_of(proof, size);
    varve_claim found;

    memset(&found, 0, sizeof found);
    const varve_status rc = check(&reader, root, &found);
    if (rc == VARVE_OK) {
        found.size = claim->size;
        *claim = found;
    }
    return rc;
}
