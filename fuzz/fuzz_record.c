/* Records: header, facts, directory and entries of any bytes. The sums are made right, so that what is behind them
 * is reached; nothing may be read outside, and what decodes must stay in its bounds. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/journal/head.h"
#include "store/journal/index.h"
#include "store/record.h"
#include "store/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static varve_status take_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                                uint64_t bytes)
{
    struct vv_reader reader = vv_reader_of(entry.data, entry.size);
    struct vv_module *module = NULL;
    uint64_t top = 0;
    uint8_t leaf[VV_HASH_SIZE];

    (void)context;
    (void)fresh;
    (void)pages;
    (void)bytes;
    if (vv_module_decode(&reader, NULL, &module, &top) == VARVE_OK && top == 0)
        (void)vv_module_leaf(module, leaf);
    vv_module_drop(module);
    return VARVE_OK;
}

static varve_status take_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    const struct vv_record *record = context;

    VV_ASSERT(index <= VV_PAGETREE_PAGES_MAX);
    VV_ASSERT(leaf == NULL ||
              vv_locator_frame(leaf->locator) < vv_record_pages_at(record) + record->pages_size);
    return VARVE_OK;
}

static void try_sections(struct vv_record *record, const uint8_t *data, size_t size)
{
    struct vv_record_facts facts;
    struct vv_checkpoint checkpoint;
    struct vv_repair repair;
    struct vv_index index;
    const struct vv_directory_visitor visitor = { .module = take_module,
                                                  .page = take_page,
                                                  .context = record };

    record->facts_size = size;
    if (vv_record_facts_decode(record, data, &facts) == VARVE_OK)
        vv_record_facts_release(&facts);
    (void)vv_checkpoint_decode(record, data, &checkpoint);
    if (vv_repair_decode(record, data, &repair) == VARVE_OK) {
        for (size_t i = 0; i < repair.dead_count; i++)
            VV_ASSERT(repair.dead[i].address < record->address);
        vv_repair_release(&repair);
    }
    record->directory_size = size;
    (void)vv_directory_walk(record, data, &visitor);
    vv_index_init(&index, NULL);
    struct vv_reader reader = vv_reader_of(data, size);
    (void)vv_index_decode_refs(&index, &reader);
    vv_index_release(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vv_record record;
    struct vv_head head;
    uint8_t header[VV_RECORD_HEADER];
    uint8_t slot[VV_HEAD_USED];
    struct vv_closing closing;
    uint8_t end[VV_CLOSING];

    if (size < VV_RECORD_HEADER)
        return 0;
    memcpy(header, data, sizeof header);
    vv_record_sum(header, VV_RECORD_HEADER - VV_SUM, header + VV_RECORD_HEADER - VV_SUM);
    if (vv_record_decode(header, vv_get_u64(header + 16), &record) == VARVE_OK) {
        VV_ASSERT(record.size == vv_record_padded(&record) && record.parent < record.address);
        uint8_t *rest = malloc(size - sizeof header + 1); /* of its own, so that a step outside shows */
        memcpy(rest, data + sizeof header, size - sizeof header);
        try_sections(&record, rest, size - sizeof header);
        free(rest);
    }
    memcpy(slot, data, sizeof slot);
    vv_record_sum(slot, VV_HEAD_USED - VV_SUM, slot + VV_HEAD_USED - VV_SUM);
    (void)vv_head_decode(slot, sizeof slot, &head);
    memcpy(end, data, sizeof end);
    vv_record_sum(end, VV_CLOSING - VV_SUM, end + VV_CLOSING - VV_SUM);
    (void)vv_closing_decode(end, &closing);
    return 0;
}
