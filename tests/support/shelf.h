/* shelf.h - a place for saved nodes, in memory: it counts what is read and written, and can be full. */
#ifndef SHELF_H
#define SHELF_H

#include "base/bytes.h"
#include "page/node.h"

struct shelf {
    struct vv_bytes bytes; /* u64 size before each node; the address of a node is where it begins, plus 1 */
    unsigned _Atomic reads;
    size_t writes, fail_at_write; /* 0: none fails */
};

varve_status shelf_write(void *shelf, const void *bytes, size_t size, uint64_t *address);
struct vv_node_source shelf_source(struct shelf *shelf);

#endif
