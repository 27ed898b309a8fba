/* receipt.c - see receipt.h; and the public functions on receipts. */
#include "vm/receipt.h"

#include "base/alloc.h"
#include "page/hash.h"

struct varve_receipt {
    varve_receipt_info info;
    char *message, *trace, *function;
    struct vv_event *events;
    size_t event_count;
    varve_frame frame; /* of the outermost call */
};

enum { PIECE_COST = 64 }; /* bytes of a piece without its text, the same on every machine */

/* ---- Record --------------------------------------------------------------------------------------- */

static void free_events(struct vv_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        vv_free(events[i].topic);
        vv_free(events[i].data);
    }
}

void vv_record_clear(struct vv_record *record)
{
    free_events(record->events, record->event_count);
    record->event_count = record->piece_count = record->sealed = 0;
    record->event_bytes = 0;
    vv_bytes_clear(&record->output);
}

void vv_record_release(struct vv_record *record)
{
    vv_record_clear(record);
    vv_free(record->events);
    vv_free(record->pieces);
    vv_bytes_release(&record->output);
}

struct vv_record_mark vv_record_mark(struct vv_record *record)
{
    record->sealed = record->piece_count;
    return (struct vv_record_mark){ .events = record->event_count, .pieces = record->piece_count };
}

void vv_record_revert(struct vv_record *record, struct vv_record_mark mark)
{
    for (size_t i = mark.events; i < record->event_count; i++)
        record->events[i].reverted = true;
    for (size_t i = mark.pieces; i < record->piece_count; i++)
        record->pieces[i].reverted = true;
    record->sealed = record->piece_count;
}

/* Room for one more of `size` bytes each. */
static varve_status reserve(void *pointer, size_t *capacity, size_t count, size_t size)
{
    varve_status rc = VARVE_OK;

    if (count < *capacity)
        return VARVE_OK;
    const size_t wanted = *capacity == 0 ? 16 : *capacity * 2;
    rc = vv_resize(pointer, wanted, size);
    if (rc == VARVE_OK)
        *capacity = wanted;
    return rc;
}

varve_status vv_record_emit(struct vv_record *record, const varve_limits *limits,
                            const varve_module_id *source, const char *topic, const void *data, size_t size)
{
    varve_status rc = VARVE_OK;
    const size_t topic_size = strlen(topic);
    struct vv_event event = { .source = *source, .topic_size = topic_size, .data_size = size };

    if (topic_size > VV_TOPIC_MAX)
        return vv_fail(VARVE_LIMIT, "an event's topic of %zu bytes: the limit is %d", topic_size,
                       VV_TOPIC_MAX);
    if (record->event_count >= limits->events)
        return vv_fail(VARVE_LIMIT, "more than %u events in one call (limit: events)", limits->events);
    if (size > limits->event_bytes || record->event_bytes + topic_size + size > limits->event_bytes)
        return vv_fail(VARVE_LIMIT, "events of more than %u bytes in one call (limit: event_bytes)",
                       limits->event_bytes);
    TRY(reserve(&record->events, &record->event_capacity, record->event_count, sizeof event));
    TRY(vv_memdup(&event.topic, topic, topic_size + 1));
    TRY(vv_memdup(&event.data, data, size));
    record->event_bytes += topic_size + size;
    record->events[record->event_count++] = event;
out:
    if (rc != VARVE_OK)
        vv_free(event.topic);
    return rc;
}

varve_status vv_record_print(struct vv_record *record, const varve_module_id *module, int stream,
                             const void *data, size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_piece *last =
        record->piece_count > record->sealed ? &record->pieces[record->piece_count - 1] : NULL;

    /* A piece takes room too: one byte to each stream in turn must not cost the host sixty times as much. */
    if (size > VV_OUTPUT_MAX || record->output.size + size + record->piece_count * PIECE_COST > VV_OUTPUT_MAX)
        return vv_fail(VARVE_LIMIT, "more than %d bytes printed in one call", VV_OUTPUT_MAX);
    const size_t offset = record->output.size;
    vv_bytes_put(&record->output, data, size);
    TRY(vv_bytes_done(&record->output));
    if (last != NULL && last->stream == stream && memcmp(&last->module, module, sizeof *module) == 0) {
        last->size += size;
        return VARVE_OK;
    }
    TRY(reserve(&record->pieces, &record->piece_capacity, record->piece_count, sizeof *last));
    record->pieces[record->piece_count++] =
        (struct vv_piece){ .module = *module, .stream = stream, .offset = offset, .size = size };
out:
    return rc;
}

void vv_record_deliver(const struct vv_record *record, varve_output_fn output, void *context)
{
    if (output == NULL)
        return;
    for (size_t i = 0; i < record->piece_count; i++) {
        const struct vv_piece *piece = &record->pieces[i];
        output(context, &piece->module, piece->stream, record->output.data + piece->offset, piece->size,
               piece->reverted);
    }
}

/* ---- Receipt -------------------------------------------------------------------------------------- */

/* What machines must agree on: no texts. */
static void digest(const struct varve_receipt *receipt, uint8_t out[VV_HASH_SIZE])
{
    const varve_receipt_info *info = &receipt->info;
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, VV_HASH_RECEIPT);
    vv_hasher_u64(&hasher, info->status);
    vv_hasher_u64(&hasher, info->data_size);
    vv_hasher_put(&hasher, info->data, info->data_size);
    vv_hasher_u64(&hasher, info->gas_used);
    vv_hasher_u64(&hasher, info->gas_limit);
    vv_hasher_u64(&hasher, receipt->event_count);
    for (size_t i = 0; i < receipt->event_count; i++) {
        const struct vv_event *event = &receipt->events[i];
        vv_hasher_put(&hasher, event->source.bytes, sizeof event->source.bytes);
        vv_hasher_u64(&hasher, event->reverted);
        vv_hasher_u64(&hasher, event->topic_size);
        vv_hasher_put(&hasher, event->topic, event->topic_size);
        vv_hasher_u64(&hasher, event->data_size);
        vv_hasher_put(&hasher, event->data, event->data_size);
    }
    vv_hasher_u64(&hasher, 1); /* frames */
    vv_hasher_put(&hasher, receipt->frame.module.bytes, sizeof receipt->frame.module.bytes);
    vv_hasher_u64(&hasher, strlen(receipt->function));
    vv_hasher_put(&hasher, receipt->function, strlen(receipt->function));
    vv_hasher_u64(&hasher, receipt->frame.status);
    vv_hasher_u64(&hasher, receipt->frame.gas_used);
    vv_hasher_u64(&hasher, info->pages_changed);
    vv_hasher_end(&hasher, out);
}

varve_status vv_receipt_new(const struct vv_receipt_facts *facts, struct vv_record *record,
                            varve_receipt **out)
{
    varve_status rc = VARVE_OK;
    struct varve_receipt *receipt = NULL;

    TRY(vv_alloc(&receipt, 1, sizeof *receipt));
    TRY(vv_strdup(&receipt->message, facts->message));
    TRY(vv_strdup(&receipt->trace, facts->trace));
    TRY(vv_strdup(&receipt->function, facts->function));
    receipt->events = record->events;
    receipt->event_count = record->event_count;
    record->events = NULL;
    record->event_count = record->event_capacity = 0;
    receipt->info = (varve_receipt_info){ .status = facts->status,
                                          .message = receipt->message,
                                          .trace = receipt->trace,
                                          .gas_used = facts->gas_used,
                                          .gas_limit = facts->gas_limit,
                                          .pages_changed = facts->pages_changed,
                                          .event_count = receipt->event_count,
                                          .frame_count = 1 };
    receipt->frame = (varve_frame){ .size = sizeof receipt->frame,
                                    .module = facts->module,
                                    .function = receipt->function,
                                    .status = facts->status,
                                    .gas_used = facts->gas_used,
                                    .gas_limit = facts->gas_limit };
    digest(receipt, receipt->info.digest);
out:
    if (rc != VARVE_OK)
        varve_receipt_free(receipt);
    else
        *out = receipt;
    return rc;
}

const varve_receipt_info *varve_receipt_get(const varve_receipt *receipt)
{
    return &receipt->info;
}

varve_status varve_receipt_event(const varve_receipt *receipt, size_t index, varve_event *event)
{
    if (receipt == NULL || event == NULL || event->size < sizeof *event)
        return VARVE_MISUSE;
    if (index >= receipt->event_count)
        return VARVE_END;
    const struct vv_event *e = &receipt->events[index];
    *event = (varve_event){ .size = event->size,
                            .source = e->source,
                            .topic = e->topic,
                            .data = e->data,
                            .data_size = e->data_size,
                            .topic_size = e->topic_size,
                            .reverted = e->reverted };
    return VARVE_OK;
}

varve_status varve_receipt_frame(const varve_receipt *receipt, size_t index, varve_frame *frame)
{
    if (receipt == NULL || frame == NULL || frame->size < sizeof *frame)
        return VARVE_MISUSE;
    if (index >= 1)
        return VARVE_END;
    const size_t size = frame->size;
    *frame = receipt->frame;
    frame->size = size;
    return VARVE_OK;
}

void varve_receipt_free(varve_receipt *receipt)
{
    if (receipt == NULL)
        return;
    free_events(receipt->events, receipt->event_count);
    vv_free(receipt->events);
    vv_free(receipt->message);
    vv_free(receipt->trace);
    vv_free(receipt->function);
    vv_free(receipt);
}
