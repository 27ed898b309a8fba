/* The layout chain: a delta's header and directory, and the file `commits`, of any bytes. The sums are made right, so
 * that what is behind them is reached. The first byte says which of the two. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/chain/place.h"

enum {
    SUM_AT = 200,
    DIRECTORY_AT = 184,
    SIZE_AT = 192,
    COMMITS_HEADER = 64,
    COMMITS_SIZE = 48,
    COMMITS_RECORDS = 56
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_delta(const uint8_t *data, size_t size)
{
    struct vv_deltafile delta;
    uint8_t *bytes = malloc(size + 1), hash[VV_HASH_SIZE]; /* of its own, so that a step outside shows */

    memcpy(bytes, data, size);
    if (size >= VV_DELTAFILE_HEADER) {
        const uint64_t directory = vv_get_u64(bytes + DIRECTORY_AT);
        struct vv_hasher hasher;
        vv_put_u64(bytes + SIZE_AT, size);
        if (directory <= size - VV_DELTAFILE_HEADER) {
            vv_hasher_init(&hasher, VV_HASH_RECORD);
            vv_hasher_put(&hasher, bytes, SUM_AT);
            vv_hasher_put(&hasher, bytes + VV_DELTAFILE_HEADER, (size_t)directory);
            vv_hasher_end(&hasher, hash);
            memcpy(bytes + SUM_AT, hash, VV_DELTAFILE_HEADER - SUM_AT);
        }
    }
    if (vv_deltafile_decode(bytes, size, size, &delta) == VARVE_OK) {
        uint64_t next = 0;
        for (size_t i = 0; i < delta.count; i++) {
            const struct vv_deltafile_entry *entry = &delta.entries[i];
            VV_ASSERT(entry->index >= next && entry->index < delta.facts.page_count);
            VV_ASSERT(vv_deltafile_find(&delta, entry->index) == entry);
            VV_ASSERT(entry->place == UINT32_MAX || entry->place / VV_FRAME_PAGES < delta.frame_count);
            VV_ASSERT(entry->base == 0 || vv_chain_serial(entry->base) < delta.facts.serial);
            next = (uint64_t)entry->index + 1;
        }
        VV_ASSERT(delta.frames[delta.frame_count] == size);
        vv_deltafile_release(&delta);
    }
    free(bytes);
}

/* Records with the sums that they should have. */
static void put_records(const uint8_t *data, size_t size, struct vv_bytes *out)
{
    uint64_t sequence = 0;

    for (size_t at = 0; at + VV_PLAIN_FRAME <= size;) {
        const size_t wanted = vv_get_u32(data + at), left = size - at - VV_PLAIN_FRAME;
        const size_t taken = wanted < left ? wanted : left;
        vv_plain_frame(out, sequence++, vv_get_u32(data + at + 4), data + at + VV_PLAIN_FRAME, taken);
        at += VV_PLAIN_FRAME + taken;
    }
    if (out->size >= COMMITS_HEADER) {
        vv_put_u64(out->data + COMMITS_SIZE, out->size + VV_HASH_SIZE);
        vv_put_u64(out->data + COMMITS_RECORDS, sequence);
    }
}

static void try_commits(const uint8_t *data, size_t size)
{
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    struct vv_dir none = VV_DIR_NONE;
    struct vv_place *place = NULL;
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint64_t end = 0;

    vv_bytes_put(&bytes, data, size < COMMITS_HEADER ? size : COMMITS_HEADER);
    if (size > COMMITS_HEADER)
        put_records(data + COMMITS_HEADER, size - COMMITS_HEADER, &bytes);
    if (vv_chain_init(&none, &options, &place) == VARVE_OK) {
        if (vv_chain_decode(place, bytes.data, bytes.size, &end) == VARVE_OK)
            for (size_t i = 0; i < place->serial_count; i++) {
                const struct vv_serial *found = NULL;
                VV_ASSERT(vv_chain_resolve(place, vv_chain_locator(place->serials[i].serial, 0, 0), &found) ==
                          VARVE_OK);
                VV_ASSERT(found == &place->serials[i]);
            }
        vv_chain_close(place);
    }
    vv_bytes_release(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] % 2 == 0)
        try_delta(data + 1, size - 1);
    else if (size > 0)
        try_commits(data + 1, size - 1);
    return 0;
}
