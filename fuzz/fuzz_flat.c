/* `commits` and `.varve/last` of the layout flat: records of any content, with heads and sums that are right, so that what
 * is behind them is reached; and the bytes as they are. What is taken has states that bear out their roots. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "store/flat/place.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAGIC = 32, SUM = 16 };

static void begin(struct vv_place *place)
{
    memset(place, 0, sizeof *place);
    vv_plain_init(&place->plain);
    vv_table_init(&place->versions, sizeof(uint64_t));
    vv_table_init(&place->by_name, 64);
}

static void end(struct vv_place *place)
{
    vv_plain_release(&place->plain);
    vv_versions_close(place);
}

/* What was taken hangs together. */
static void look(struct vv_place *place)
{
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        varve_root root;
        VV_ASSERT(commit->has_state == !commit->removed);
        if (commit->removed)
            continue;
        VV_ASSERT(vv_state_root(&commit->state, &root) == VARVE_OK);
        VV_ASSERT(memcmp(&root, &commit->facts.root, sizeof root) == 0);
    }
    for (size_t i = 0; i < place->plain.ref_count; i++) {
        const varve_commit_id at = vv_plain_stands(&place->plain, place->plain.refs[i].name);
        const struct vv_plain_commit *commit = vv_plain_commit_of(&place->plain, &at);
        VV_ASSERT(vv_id_is_zero(&at) || (commit != NULL && !commit->removed));
    }
}

/* Magic and numbers, then the body; size and sum are put where they belong. */
static void seal(struct vv_bytes *file, size_t head)
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_put_u64(file->data + head - SUM - 8, file->size - head);
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, file->data, head - SUM);
    vv_hasher_put(&hasher, file->data + head, file->size - head);
    vv_hasher_end(&hasher, hash);
    memcpy(file->data + head - SUM, hash, SUM);
}

static void put_head(struct vv_bytes *file, const char *magic, size_t numbers)
{
    vv_bytes_put(file, magic, strlen(magic));
    vv_bytes_zero(file, MAGIC - strlen(magic));
    for (size_t i = 0; i + 1 < numbers; i++)
        vv_bytes_u64(file, i < 2 ? 1 : VV_NODEFILE_START);
    vv_bytes_zero(file, 8 + SUM);
}

/* Input: kind, u16 size, payload; and so on. */
static void put_records(struct vv_bytes *file, const uint8_t *data, size_t size, bool moves)
{
    static const uint32_t kinds[] = { VV_PLAIN_OWN, VV_PLAIN_COMMIT, VV_PLAIN_MOVE, VV_PLAIN_REMOVAL };
    uint64_t sequence = 0;

    for (size_t at = 0; at + 3 <= size;) {
        const size_t wanted = data[at + 1] | (size_t)data[at + 2] << 8, left = size - at - 3;
        const size_t taken = wanted < left ? wanted : left;
        const uint32_t kind = kinds[data[at] % 4];
        if ((kind == VV_PLAIN_MOVE) == moves || !moves)
            vv_plain_frame(file, sequence++, kind, data + at + 3, taken);
        at += 3 + taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vv_bytes commits = VV_BYTES_NONE, last = VV_BYTES_NONE;
    struct vv_place place;

    put_head(&commits, "varve commits 1 flat\n", 4);
    put_records(&commits, data, size, false);
    put_head(&last, "varve last 1 flat\n", 2);
    put_records(&last, data, size, true);
    VV_ASSERT(!commits.failed && !last.failed);
    seal(&commits, MAGIC + 32 + SUM);
    seal(&last, MAGIC + 16 + SUM);

    begin(&place);
    const varve_status rc = vv_flat_decode_commits(&place, commits.data, commits.size);
    VV_ASSERT(rc == VARVE_OK || rc == VARVE_CORRUPT || rc == VARVE_MEMORY);
    if (rc == VARVE_OK) {
        look(&place);
        place.generation = 1;
        (void)vv_flat_decode_last(&place, last.data, last.size);
        look(&place);
    }
    end(&place);

    begin(&place);
    (void)vv_flat_decode_commits(&place, data, size);
    end(&place);
    begin(&place);
    (void)vv_flat_decode_last(&place, data, size);
    end(&place);
    vv_bytes_release(&commits);
    vv_bytes_release(&last);
    return 0;
}
