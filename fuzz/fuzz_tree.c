/* The files of the layout tree: index, the directory of a diff, the history. The first byte says which; sums are made right,
 * so that what is behind them is reached. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/tree/ledger.h"
#include "store/tree/listing.h"
#include "store/tree/overlay.h"
#include "store/tree/shelf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of its own, so that a step outside shows. */
static uint8_t *copy(const uint8_t *data, size_t size)
{
    uint8_t *bytes = NULL;

    VV_ASSERT(vv_alloc(&bytes, size, 1) == VARVE_OK);
    memcpy(bytes, data, size);
    return bytes;
}

static void put_sum(uint8_t *bytes, size_t size)
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size - 16, hash);
    memcpy(bytes + size - 16, hash, 16);
}

static void try_listing(const uint8_t *data, size_t size)
{
    struct vv_listing listing;
    struct vv_state state;
    uint8_t *bytes = copy(data, size);

    if (size >= 64)
        put_sum(bytes, size);
    if (vv_listing_decode(bytes, size, &listing) != VARVE_OK)
        return;
    for (size_t i = 0; i < listing.count; i++) {
        struct vv_module *module = NULL;
        VV_ASSERT(vv_listing_find(&listing, &listing.entries[i].id) == &listing.entries[i]);
        if (vv_listing_module(&listing.entries[i], &module) == VARVE_OK)
            vv_module_drop(module);
    }
    if (vv_listing_state(&listing, NULL, 0, &state) == VARVE_OK)
        vv_state_release(&state);
    vv_listing_release(&listing);
}

static void try_overlay(const uint8_t *data, size_t size)
{
    struct vv_overlay overlay = VV_OVERLAY_NONE;
    uint8_t *bytes = copy(data, size);

    if (size > 4 && vv_overlay_decode(bytes + 4, size - 4, 72 + vv_get_u32(bytes), &overlay) == VARVE_OK)
        for (size_t i = 0; i < overlay.page_count; i++) {
            const struct vv_overlay_page *page = &overlay.pages[i];
            VV_ASSERT(vv_overlay_find(&overlay, page->index) == page);
            VV_ASSERT(page->frame == VV_OVERLAY_ZERO || page->frame < overlay.frame_count);
        }
    vv_overlay_close(&overlay);
    vv_free(bytes);
}

static varve_status take(void *context, uint32_t kind, struct vv_reader payload)
{
    return vv_plain_apply(context, kind, payload, NULL);
}

static void take_damage(void *context, uint64_t at, const char *words)
{
    (void)context;
    (void)at;
    VV_ASSERT(words != NULL);
}

static void take_debris(void *context, uint64_t at)
{
    (void)context;
    (void)at;
}

/* A group, as an append has it, then the bytes as they are. */
static void try_ledger(const uint8_t *data, size_t size)
{
    struct vv_bytes file = VV_BYTES_NONE;
    struct vv_ledger ledger = { .packed = 64 };
    struct vv_plain plain;
    const struct vv_ledger_reading reading = {
        .record = take, .damage = take_damage, .debris = take_debris, .context = &plain
    };

    vv_plain_init(&plain);
    vv_bytes_zero(&file, VV_LEDGER_ALIGN);
    vv_plain_frame(&file, 0, VV_LEDGER_GROUP, data, size);
    vv_bytes_zero(&file, VV_LEDGER_ALIGN - file.size % VV_LEDGER_ALIGN);
    vv_bytes_put(&file, data, size);
    VV_ASSERT(vv_bytes_done(&file) == VARVE_OK);
    (void)vv_ledger_read(file.data, file.size, 0, &reading, &ledger);
    VV_ASSERT(ledger.sequence >= 1 && ledger.end % VV_LEDGER_ALIGN == 0);
    vv_plain_release(&plain);
    vv_bytes_release(&file);
}

static void try_node(const uint8_t *data, size_t size)
{
    struct vv_bytes bytes = VV_BYTES_NONE;

    vv_bytes_put(&bytes, data, size);
    if (vv_node_shift(&bytes, 0, UINT64_C(7) << 32) == VARVE_OK)
        VV_ASSERT(bytes.size >= size);
    vv_bytes_release(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        try_listing(data + 1, size - 1);
        break;
    case 1:
        try_overlay(data + 1, size - 1);
        break;
    case 2:
        try_ledger(data + 1, size - 1);
        break;
    default:
        try_node(data + 1, size - 1);
    }
    return 0;
}
