/* nodefile.c - see nodefile.h. */
#include "store/plain/nodefile.h"

#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"

enum {
    MAGIC = 16,
    SUM = 16,
    HEADER = 4 + SUM,    /* of a frame */
    NODE_MAX = 64 << 10, /* no saved node is larger */
    FIRST = 1024,        /* most nodes end before that: one read */
    BLOCK = 4096,        /* a drive that loses power while it writes may lose all of one */
    FLUSH = 1 << 20      /* so much may wait before it is written without being asked */
};
static const uint8_t magic[MAGIC + 1] = "varve nodes 1\n\0\0";

static void sum_of(const void *bytes, size_t size, uint8_t sum[SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, SUM);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

static varve_status bad_node(const struct vv_nodefile *nodes, uint64_t offset)
{
    return vv_fail(VARVE_CORRUPT, "%s: the node at %llu is damaged", nodes->file.name,
                   (unsigned long long)offset);
}

/* From what waits, or from the file. */
static varve_status read_at(const struct vv_nodefile *nodes, uint64_t offset, void *data, size_t size)
{
    if (offset < MAGIC || offset > nodes->end || size > nodes->end - offset)
        return bad_node(nodes, offset);
    if (offset >= nodes->tail_at) {
        memcpy(data, nodes->tail.data + (offset - nodes->tail_at), size);
        return VARVE_OK;
    }
    return vv_file_read(&nodes->file, data, size, offset);
}

/* The beginning of a frame, as much of it as one read gives; the file may end where a gap begins. */
static varve_status read_first(const struct vv_nodefile *nodes, uint64_t offset, uint8_t first[FIRST], size_t *have)
{
    varve_status rc = VARVE_OK;

    if (offset >= nodes->tail_at || offset < MAGIC) {
        const uint64_t most = offset < nodes->end ? nodes->end - offset : 0;
        *have = most < HEADER ? HEADER : most < FIRST ? (size_t)most : FIRST;
        return read_at(nodes, offset, first, *have);
    }
    TRY(vv_file_read_some(&nodes->file, first, FIRST, offset, have));
    if (*have < HEADER)
        rc = bad_node(nodes, offset);
out:
    return rc;
}

static varve_status read_frame(const struct vv_nodefile *nodes, uint64_t offset, struct vv_bytes *bytes)
{
    const size_t before = bytes->size;
    uint8_t first[FIRST], sum[SUM];
    size_t have = 0;
    varve_status rc = VARVE_OK;

    TRY(read_first(nodes, offset, first, &have));
    const uint32_t size = vv_get_u32(first);
    if (size == 0 || size > NODE_MAX)
        return bad_node(nodes, offset);
    uint8_t *place = vv_bytes_extend(bytes, size);
    if (place == NULL)
        return vv_bytes_done(bytes);
    if (size <= have - HEADER)
        memcpy(place, first + HEADER, size);
    else
        rc = read_at(nodes, offset + HEADER, place, size);
    sum_of(place, size, sum);
    if (rc == VARVE_OK && memcmp(sum, first + 4, SUM) != 0)
        rc = bad_node(nodes, offset);
    if (rc != VARVE_OK)
        vv_bytes_cut(bytes, before);
out:
    return rc;
}

static varve_status read_node(void *context, uint64_t address, struct vv_bytes *bytes)
{
    struct vv_nodefile *nodes = context;

    if (address < nodes->space)
        return bad_node(nodes, address);
    VV_ASSERT(pthread_rwlock_rdlock(&nodes->lock) == 0);
    const varve_status rc = read_frame(nodes, address - nodes->space, bytes);
    VV_ASSERT(pthread_rwlock_unlock(&nodes->lock) == 0);
    return rc;
}

static uint64_t next_block(uint64_t offset)
{
    return (offset + BLOCK - 1) / BLOCK * BLOCK;
}

/* Nothing but zeros up to the next block, or to the end? Then the frames go on there. */
static varve_status is_gap(const struct vv_nodefile *nodes, uint64_t offset, bool *gap)
{
    uint8_t rest[BLOCK] = { 0 };
    const uint64_t end = next_block(offset) < nodes->tail_at ? next_block(offset) : nodes->tail_at;
    size_t got = 0;
    varve_status rc = VARVE_OK;

    *gap = false;
    if (offset >= end)
        return VARVE_OK;
    TRY(vv_file_read_some(&nodes->file, rest, (size_t)(end - offset), offset, &got));
    *gap = true;
    for (size_t i = 0; i < got; i++)
        *gap = *gap && rest[i] == 0;
out:
    return rc;
}

varve_status vv_nodefile_check(const struct vv_nodefile *nodes)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    bool gap = false;
    varve_status rc = VARVE_OK;

    for (uint64_t offset = MAGIC; offset < nodes->end;) {
        TRY(is_gap(nodes, offset, &gap));
        if (gap) {
            offset = next_block(offset);
            continue;
        }
        vv_bytes_clear(&bytes);
        TRY(read_frame(nodes, offset, &bytes));
        offset += HEADER + bytes.size;
    }
out:
    vv_bytes_release(&bytes);
    return rc;
}

/* ---- Open and close ----------------------------------------------------------------------------- */

static void begin(struct vv_nodefile *nodes, uint64_t end, uint64_t space)
{
    nodes->end = nodes->tail_at = end;
    nodes->tail = VV_BYTES_NONE;
    nodes->synced = 0; /* nobody relies on a file that is being made */
    nodes->space = space;
    nodes->source = (struct vv_node_source){ .read = read_node, .context = nodes };
    VV_ASSERT(pthread_rwlock_init(&nodes->lock, NULL) == 0);
}

varve_status vv_nodefile_create(const struct vv_dir *dir, const char *name, unsigned flags, uint64_t space,
                                struct vv_nodefile *nodes)
{
    varve_status rc =
        vv_file_open(dir, name, VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE | flags, &nodes->file);

    if (rc == VARVE_OK)
        rc = vv_file_write(&nodes->file, magic, MAGIC, 0);
    if (rc != VARVE_OK)
        vv_file_close(&nodes->file);
    else
        begin(nodes, MAGIC, space);
    return rc;
}

varve_status vv_nodefile_open(const struct vv_dir *dir, const char *name, bool write, uint64_t end,
                              uint64_t space, struct vv_nodefile *nodes)
{
    uint8_t found[MAGIC];
    uint64_t size = 0;
    varve_status rc = vv_file_open(dir, name, write ? VV_OPEN_WRITE : VV_OPEN_READ, &nodes->file);

    if (rc != VARVE_OK)
        return rc;
    TRY(vv_file_size(&nodes->file, &size));
    if (size < MAGIC || end > size || (end != 0 && end < MAGIC)) {
        rc = vv_fail(VARVE_CORRUPT, "%s: the file is too short: nodes of page trees are missing", name);
        goto out;
    }
    TRY(vv_file_read(&nodes->file, found, MAGIC, 0));
    if (memcmp(found, magic, MAGIC) != 0) {
        rc = vv_fail(VARVE_CORRUPT, "%s: these are no nodes of page trees", name);
        goto out;
    }
    begin(nodes, end == 0 ? size : end, space);
    nodes->synced = nodes->end;
out:
    if (rc != VARVE_OK)
        vv_file_close(&nodes->file);
    return rc;
}

void vv_nodefile_close(struct vv_nodefile *nodes)
{
    if (nodes->file.fd == -1)
        return;
    vv_file_close(&nodes->file);
    vv_bytes_release(&nodes->tail);
    (void)pthread_rwlock_destroy(&nodes->lock);
}

/* ---- Writing ------------------------------------------------------------------------------------ */

varve_status vv_nodefile_put(void *context, const void *bytes, size_t size, uint64_t *address)
{
    struct vv_nodefile *nodes = context;
    uint8_t sum[SUM];

    VV_ASSERT(size > 0 && size <= NODE_MAX);
    sum_of(bytes, size, sum);
    VV_ASSERT(pthread_rwlock_wrlock(&nodes->lock) == 0);
    if (nodes->end == nodes->synced && nodes->tail.size == 0 && !VV_PLANT("nodes-same-block"))
        nodes->end = nodes->tail_at = next_block(nodes->end);
    const size_t before = nodes->tail.size;
    vv_bytes_u32(&nodes->tail, (uint32_t)size);
    vv_bytes_put(&nodes->tail, sum, sizeof sum);
    vv_bytes_put(&nodes->tail, bytes, size);
    const varve_status rc = vv_bytes_done(&nodes->tail);
    if (rc != VARVE_OK)
        vv_bytes_cut(&nodes->tail, before);
    *address = nodes->space + nodes->end;
    if (rc == VARVE_OK)
        nodes->end += HEADER + size;
    VV_ASSERT(pthread_rwlock_unlock(&nodes->lock) == 0);
    return rc == VARVE_OK && nodes->tail.size >= FLUSH ? vv_nodefile_flush(nodes) : rc;
}

varve_status vv_nodefile_flush(struct vv_nodefile *nodes)
{
    varve_status rc = VARVE_OK;

    if (nodes->tail.size == 0)
        return VARVE_OK;
    TRY(vv_file_write(&nodes->file, nodes->tail.data, nodes->tail.size, nodes->tail_at));
    VV_ASSERT(pthread_rwlock_wrlock(&nodes->lock) == 0);
    nodes->tail_at = nodes->end;
    vv_bytes_clear(&nodes->tail);
    VV_ASSERT(pthread_rwlock_unlock(&nodes->lock) == 0);
out:
    return rc;
}

varve_status vv_nodefile_sync(struct vv_nodefile *nodes)
{
    VV_ASSERT(nodes->tail.size == 0);
    const varve_status rc = vv_file_sync_new(&nodes->file);
    if (rc == VARVE_OK)
        nodes->synced = nodes->end;
    return rc;
}

void vv_nodefile_cut(struct vv_nodefile *nodes, uint64_t end)
{
    VV_ASSERT(end <= nodes->end);
    VV_ASSERT(pthread_rwlock_wrlock(&nodes->lock) == 0);
    if (end <= nodes->tail_at) {
        vv_bytes_clear(&nodes->tail);
        nodes->tail_at = end;
    } else {
        vv_bytes_cut(&nodes->tail, (size_t)(end - nodes->tail_at));
    }
    nodes->end = end;
    VV_ASSERT(pthread_rwlock_unlock(&nodes->lock) == 0);
}
