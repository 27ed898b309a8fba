/* receipt.h - what a call did: what it printed and emitted while it ran, and the receipt when it has ended.
 *
 * A record collects during one outermost call. A mark remembers a moment of it; reverting to a mark keeps what came
 * after but says that it was undone. */
#ifndef VV_RECEIPT_H
#define VV_RECEIPT_H

#include "base/bytes.h"
#include "vm/limits.h"

struct vv_event {
    varve_module_id source;
    char *topic;
    uint8_t *data;
    size_t topic_size, data_size;
    bool reverted;
};

/* Something printed: a range of the record's output. */
struct vv_piece {
    varve_module_id module;
    int stream;
    size_t offset, size;
    bool reverted;
};

struct vv_record {
    struct vv_event *events;
    struct vv_piece *pieces;
    size_t event_count, event_capacity, piece_count, piece_capacity;
    size_t sealed;        /* pieces below are not made longer: a mark lies behind them */
    uint64_t event_bytes; /* topics and data */
    struct vv_bytes output;
};
struct vv_record_mark {
    size_t events, pieces;
};

void vv_record_clear(struct vv_record *record); /* keeps room */
void vv_record_release(struct vv_record *record);
struct vv_record_mark vv_record_mark(struct vv_record *record);
void vv_record_revert(struct vv_record *record, struct vv_record_mark mark);
/* LIMIT, naming it, when the call emitted or printed too much. */
varve_status vv_record_emit(struct vv_record *record, const varve_limits *limits,
                            const varve_module_id *source, const char *topic, const void *data, size_t size);
varve_status vv_record_print(struct vv_record *record, const varve_module_id *module, int stream,
                             const void *data, size_t size);
void vv_record_deliver(const struct vv_record *record, varve_output_fn output, void *context);

struct vv_receipt_facts {
    varve_status status;
    const char *message, *trace;
    uint64_t gas_used, gas_limit, pages_changed;
    varve_module_id module;
    const char *function;
};
/* The events move from the record into the receipt. */
varve_status vv_receipt_new(const struct vv_receipt_facts *facts, struct vv_record *record,
                            varve_receipt **receipt);

#endif
