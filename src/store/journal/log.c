/* log.c - see log.h. */
#include "store/journal/log.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/plant.h"

/* ---- Segments --------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
    const struct vv_segment *const *x = a;
    const struct vv_segment *const *y = b;

    return (*x)->start < (*y)->start ? -1 : (*x)->start > (*y)->start;
}

/* ---- Open files. The caller holds the mutex, or is the only one who knows the segment ---------- */

/* See that one more can be open. */
static varve_status reserve_open(struct vv_log *log)
{
    varve_status rc = VARVE_OK;

    if (log->open_count == log->open_capacity) {
        const size_t capacity = 2 * log->open_capacity + 4;
        TRY(vv_resize(&log->open, capacity, sizeof(struct vv_segment *)));
        log->open_capacity = capacity;
    }
out:
    return rc;
}

static void close_open(struct vv_log *log, size_t i)
{
    vv_segment_close(log->open[i]);
    log->open[i] = log->open[--log->open_count];
}

/* Too many are open? Those go that nobody has used for the longest time. */
static void close_idle(struct vv_log *log)
{
    while (log->open_count > log->limits.files) {
        size_t oldest = SIZE_MAX;
        for (size_t i = 0; i < log->open_count; i++) {
            const struct vv_segment *segment = log->open[i];
            if (segment->users > 0 || segment->unsynced || segment->file.poisoned)
                continue;
            if (oldest == SIZE_MAX || segment->turn < log->open[oldest]->turn)
                oldest = i;
        }
        if (oldest == SIZE_MAX)
            break;
        close_open(log, oldest);
    }
}

/* Its file is open from now on, until it is released. */
static varve_status use_file(struct vv_log *log, struct vv_segment *segment)
{
    varve_status rc = VARVE_OK;

    if (segment->file.fd < 0) {
        TRY(reserve_open(log));
        TRY(vv_segment_open(segment, log->dir, !log->read_only));
        log->open[log->open_count++] = segment;
    }
    segment->users++;
    segment->turn = ++log->turn;
    close_idle(log);
out:
    return rc;
}

static void forget_gone(struct vv_log *log, struct vv_segment *segment)
{
    for (size_t i = 0; i < log->open_count; i++) {
        if (log->open[i] == segment)
            close_open(log, i);
    }
    vv_free(segment);
}

/* ---- The list --------------------------------------------------------------------------------- */

/* Put a segment, whose file is open, at the end of the list, which takes it on VARVE_OK: from then on any thread may
 * meet it. */
static varve_status list_segment(struct vv_log *log, struct vv_segment *segment)
{
    varve_status rc = VARVE_OK;

    pthread_mutex_lock(&log->mutex);
    TRY(reserve_open(log));
    TRY(vv_resize(&log->segments, log->count + 1, sizeof(struct vv_segment *)));
    log->segments[log->count++] = segment;
    log->open[log->open_count++] = segment;
    segment->turn = ++log->turn;
out:
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

/* The names that are not in the list yet. */
struct listing {
    struct vv_log *log;
    struct vv_segment **found;
    size_t count;
    varve_status status;
};

static varve_status add_found(struct listing *listing, uint64_t start)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;

    TRY(vv_resize(&listing->found, listing->count + 1, sizeof(struct vv_segment *)));
    TRY(vv_alloc(&segment, 1, sizeof *segment));
    segment->start = start;
    segment->file = VV_FILE_NONE;
    listing->found[listing->count++] = segment;
out:
    return rc;
}

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    const struct vv_log *log = listing->log;
    uint64_t start = 0;

    if (!vv_segment_parse(name, &start))
        return 0;
    if (start < VV_LOG_START || start >= VV_ADDRESS_MAX || start % VV_RECORD_ALIGN != 0)
        listing->status = vv_fail(VARVE_CORRUPT, "%s: no segment begins there", name);
    else if (log->count == 0 || start > log->segments[log->count - 1]->start)
        listing->status = add_found(listing, start);
    return listing->status != VARVE_OK;
}

/* The last segment ends nowhere yet: it may grow to what a new one would be, and may be longer already. */
static void settle_last(struct vv_log *log)
{
    struct vv_segment *last = log->segments[log->count - 1];

    last->capacity = last->written > log->limits.segment ? last->written : log->limits.segment;
}

/* Learn of the segments behind those in the list. Only one thread adds to it. */
static varve_status list_more(struct vv_log *log)
{
    varve_status rc = VARVE_OK;
    struct listing listing = { .log = log };

    rc = vv_dir_each(log->dir, list_name, &listing);
    TRY(listing.status != VARVE_OK ? listing.status : rc);
    if (listing.count == 0)
        goto out;
    qsort(listing.found, listing.count, sizeof(struct vv_segment *), by_start);
    TRY(vv_segment_open(listing.found[listing.count - 1], log->dir, !log->read_only));
    pthread_mutex_lock(&log->mutex);
    rc = reserve_open(log);
    if (rc == VARVE_OK)
        rc = vv_resize(&log->segments, log->count + listing.count, sizeof(struct vv_segment *));
    if (rc == VARVE_OK) {
        const size_t known = log->count;
        memcpy(log->segments + known, listing.found, listing.count * sizeof(struct vv_segment *));
        log->count += listing.count;
        listing.count = 0;
        for (size_t i = known == 0 ? 0 : known - 1; i + 1 < log->count; i++)
            log->segments[i]->capacity = log->segments[i + 1]->start - log->segments[i]->start;
        settle_last(log);
        log->open[log->open_count++] = log->segments[log->count - 1];
        log->segments[log->count - 1]->turn = ++log->turn;
    }
    pthread_mutex_unlock(&log->mutex);
out:
    for (size_t i = 0; i < listing.count; i++) {
        vv_segment_close(listing.found[i]);
        vv_free(listing.found[i]);
    }
    vv_free(listing.found);
    return rc;
}

varve_status vv_log_open(struct vv_log *log, const struct vv_dir *dir, bool read_only,
                         const struct vv_log_limits *limits)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(limits->segment % VV_RECORD_ALIGN == 0 && limits->segment > 0 && limits->files > 0);
    *log = (struct vv_log){ .dir = dir, .read_only = read_only, .limits = *limits };
    pthread_mutex_init(&log->mutex, NULL);
    TRY(list_more(log));
out:
    if (rc != VARVE_OK)
        vv_log_close(log);
    return rc;
}

varve_status vv_log_follow(struct vv_log *log, uint64_t end)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *last = log->count == 0 ? NULL : log->segments[log->count - 1];

    VV_ASSERT(log->read_only);
    if (last != NULL && last->start + last->written < end) {
        pthread_mutex_lock(&log->mutex);
        rc = use_file(log, last);
        if (rc == VARVE_OK) {
            rc = vv_segment_measure(last);
            last->users--;
        }
        if (rc == VARVE_OK)
            settle_last(log);
        pthread_mutex_unlock(&log->mutex);
        TRY(rc);
    }
    if (last == NULL || last->start + last->written < end)
        TRY(list_more(log));
out:
    return rc;
}

void vv_log_close(struct vv_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        vv_segment_close(log->segments[i]);
        vv_free(log->segments[i]);
    }
    vv_free(log->segments);
    vv_free(log->open);
    log->segments = log->open = NULL;
    log->count = log->open_count = log->open_capacity = 0;
    pthread_mutex_destroy(&log->mutex);
}

/* How many segments begin at or below `address`. The caller holds the mutex. */
static size_t count_below(const struct vv_log *log, uint64_t address)
{
    size_t low = 0;
    size_t high = log->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (log->segments[middle]->start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The segment that `address` belongs to, its file open until it is released, and how much of it is left from there;
 * NULL and 0 when there is none. */
static varve_status segment_of(struct vv_log *log, uint64_t address, struct vv_segment **segment,
                               uint64_t *left)
{
    varve_status rc = VARVE_OK;

    *segment = NULL;
    *left = 0;
    pthread_mutex_lock(&log->mutex);
    const size_t below = count_below(log, address);
    if (below > 0) {
        struct vv_segment *found = log->segments[below - 1];
        if (address - found->start < found->capacity) {
            rc = use_file(log, found);
            *segment = rc == VARVE_OK ? found : NULL;
            *left = rc == VARVE_OK ? found->capacity - (address - found->start) : 0;
        }
    }
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

static void release_segment(struct vv_log *log, struct vv_segment *segment)
{
    if (segment == NULL)
        return;
    pthread_mutex_lock(&log->mutex);
    VV_ASSERT(segment->users > 0);
    if (--segment->users == 0 && segment->gone)
        forget_gone(log, segment);
    close_idle(log);
    pthread_mutex_unlock(&log->mutex);
}

bool vv_log_segment_after(struct vv_log *log, uint64_t address, uint64_t *start)
{
    pthread_mutex_lock(&log->mutex);
    const size_t below = count_below(log, address);
    const bool found = below < log->count;
    if (found)
        *start = log->segments[below]->start;
    pthread_mutex_unlock(&log->mutex);
    return found;
}

uint64_t vv_log_left(struct vv_log *log, uint64_t address)
{
    uint64_t left = 0;

    pthread_mutex_lock(&log->mutex);
    const size_t below = count_below(log, address);
    if (below > 0) {
        const struct vv_segment *found = log->segments[below - 1];
        if (address - found->start < found->capacity)
            left = found->capacity - (address - found->start);
    }
    pthread_mutex_unlock(&log->mutex);
    return left;
}

void vv_log_file_name(struct vv_log *log, uint64_t address, char name[VV_SEGMENT_NAME])
{
    uint64_t start = address;

    pthread_mutex_lock(&log->mutex);
    const size_t below = count_below(log, address);
    if (below > 0)
        start = log->segments[below - 1]->start;
    pthread_mutex_unlock(&log->mutex);
    vv_segment_name(start, name);
}

varve_status vv_log_stored(struct vv_log *log, uint64_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_file file = VV_FILE_NONE;
    char name[VV_SEGMENT_NAME];
    uint64_t start = 0;

    *bytes = 0;
    while (vv_log_segment_after(log, start, &start)) {
        uint64_t allocated = 0;
        vv_segment_name(start, name);
        rc = vv_file_open(log->dir, name, VV_OPEN_READ, &file); /* those in use stay open */
        if (rc == VARVE_OK)
            rc = vv_file_allocated(&file, &allocated);
        vv_file_close(&file);
        TRY(rc == VARVE_NOT_FOUND ? VARVE_OK : rc); /* it was dropped just now */
        *bytes += allocated;
    }
out:
    return rc;
}

varve_status vv_log_read_some(struct vv_log *log, uint64_t address, void *data, size_t size, size_t *got)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    *got = 0;
    TRY(segment_of(log, address, &segment, &left));
    if (segment == NULL)
        goto out;
    TRY(vv_file_read_some(&segment->file, data, size < left ? size : (size_t)left, address - segment->start,
                          got));
out:
    release_segment(log, segment);
    return rc;
}

varve_status vv_log_read(struct vv_log *log, uint64_t address, void *data, size_t size)
{
    char name[VV_SEGMENT_NAME];
    size_t got = 0;
    const varve_status rc = vv_log_read_some(log, address, data, size, &got);

    if (rc == VARVE_OK && got < size) {
        vv_log_file_name(log, address, name);
        return vv_fail(VARVE_CORRUPT, "%s: %zu bytes at address %llu are not there", name, size - got,
                       (unsigned long long)(address + got));
    }
    return rc;
}

/* ---- Appending -------------------------------------------------------------------------------- */

/* Make the segment that follows `last` (NULL: the first). It is listed when it is whole; a failure leaves at most an
 * empty file, which the next try takes over. */
static varve_status new_segment(struct vv_log *log, const struct vv_segment *last, uint64_t size,
                                struct vv_segment **made)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    const uint64_t start = last == NULL ? VV_LOG_START : last->start + last->capacity;

    TRY(vv_alloc(&segment, 1, sizeof *segment));
    segment->start = start;
    segment->capacity = size > log->limits.segment ? size : log->limits.segment;
    segment->file = VV_FILE_NONE;
    TRY(vv_segment_create(segment, log->dir));
    TRY(list_segment(log, segment));
    *made = segment;
    segment = NULL;
out:
    if (segment != NULL)
        vv_segment_close(segment);
    vv_free(segment);
    return rc;
}

/* The segment in which `size` bytes fit at or behind `end`. */
static varve_status choose_segment(struct vv_log *log, uint64_t end, uint64_t size, uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *last = NULL; /* which nobody drops, for the log goes on behind it */
    bool found = false;

    pthread_mutex_lock(&log->mutex);
    for (size_t i = end < VV_LOG_START ? 0 : count_below(log, end); i <= log->count && !found; i++) {
        if (i == 0)
            continue;
        last = log->segments[i - 1];
        *address = end > last->start ? end : last->start;
        const uint64_t used = *address - last->start;
        if (i == log->count && used == 0 && last->capacity < size)
            last->capacity = size; /* nothing in it yet: it may be as long as it must */
        found = used <= last->capacity && last->capacity - used >= size;
    }
    pthread_mutex_unlock(&log->mutex);
    if (found)
        goto out;
    TRY(new_segment(log, last, size, &last));
    *address = last->start;
out:
    return rc;
}

/* Files that were written to stay open until they are synced. When that keeps too many open, for commits are BUFFERED
 * and nobody syncs, those written longest ago are synced here. */
static varve_status sync_surplus(struct vv_log *log)
{
    varve_status rc = VARVE_OK;

    for (;;) {
        struct vv_segment *oldest = NULL;
        size_t unsynced = 0;
        pthread_mutex_lock(&log->mutex);
        for (size_t i = 0; i < log->open_count; i++) {
            struct vv_segment *segment = log->open[i];
            unsynced += segment->unsynced ? 1 : 0;
            if (segment->unsynced && (oldest == NULL || segment->start < oldest->start))
                oldest = segment;
        }
        if (unsynced > log->limits.files)
            rc = use_file(log, oldest);
        pthread_mutex_unlock(&log->mutex);
        if (rc != VARVE_OK || unsynced <= log->limits.files)
            break;
        oldest->unsynced = false;
        rc = vv_file_sync(&oldest->file);
        release_segment(log, oldest);
        TRY(rc);
    }
out:
    return rc;
}

/* The segment behind the one of `address` is there, and its first `spare` bytes are on the disk. */
static varve_status see_to_spare(struct vv_log *log, uint64_t address, uint64_t spare)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *next = NULL;
    struct vv_segment *last = NULL;
    uint64_t left = 0;

    pthread_mutex_lock(&log->mutex);
    const size_t below = count_below(log, address);
    if (below < log->count)
        next = log->segments[below]; /* which nobody drops: it lies behind the log's end */
    else
        last = log->segments[log->count - 1];
    pthread_mutex_unlock(&log->mutex);
    if (next == NULL)
        TRY(new_segment(log, last, log->limits.segment, &next));
    if (spare > next->capacity)
        spare = next->capacity;
    if (next->solid >= spare)
        goto out;
    const uint64_t start = next->start;
    TRY(segment_of(log, start, &next, &left));
    rc = vv_segment_fill(next, spare);
    release_segment(log, next);
out:
    return rc;
}

varve_status vv_log_place(struct vv_log *log, uint64_t end, uint64_t size, uint64_t spare, uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    VV_ASSERT(!log->read_only && size % VV_RECORD_ALIGN == 0);
    TRY(choose_segment(log, end, size, address));
    if (spare > 0)
        TRY(see_to_spare(log, *address, spare));
    TRY(segment_of(log, *address, &segment, &left));
    if (!segment->settled && *address == segment->start)
        TRY(vv_segment_create(segment, log->dir)); /* what a crash left may have no durable name */
    segment->settled = true;
    if (size <= log->limits.ahead)
        TRY(vv_segment_extend(segment, *address - segment->start, size, log->limits.ahead));
    TRY(sync_surplus(log));
out:
    release_segment(log, segment);
    return rc;
}

/* From where in this segment a record can be placed when the log ends at `end`, and how many bytes from there are on
 * the disk. The caller has it in use. */
static varve_status solid_from(struct vv_segment *segment, uint64_t end, uint64_t *from, uint64_t *bytes)
{
    const varve_status rc = vv_segment_sound(segment);
    const uint64_t used = end > segment->start ? end - segment->start : 0;

    *from = segment->start + used;
    *bytes = segment->solid > used ? segment->solid - used : 0;
    return rc;
}

varve_status vv_log_spare(struct vv_log *log, uint64_t end, uint64_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;
    uint64_t at = end;

    *bytes = 0;
    do {
        uint64_t from = 0;
        uint64_t solid = 0;
        TRY(segment_of(log, at, &segment, &left));
        if (segment != NULL)
            TRY(solid_from(segment, end, &from, &solid));
        *bytes = solid > *bytes ? solid : *bytes;
        release_segment(log, segment);
        segment = NULL;
    } while (vv_log_segment_after(log, at, &at));
out:
    release_segment(log, segment);
    return rc;
}

/* A record is going to a later segment than it might. What lies where it might be must not be taken for one that
 * joins: an append that ended unfinished. Its block is on the disk already. */
static varve_status clear_header(struct vv_segment *segment, uint64_t address)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_ALIGN];
    uint8_t block[VV_RECORD_ALIGN];
    size_t got = 0;

    TRY(vv_file_read_some(&segment->file, block, sizeof block, address - segment->start, &got));
    if (memcmp(block, zeros, got) == 0)
        goto out;
    TRY(vv_file_write(&segment->file, zeros, got, address - segment->start));
    TRY(vv_file_sync(&segment->file));
out:
    return rc;
}

varve_status vv_log_place_spare(struct vv_log *log, uint64_t end, uint64_t size, uint64_t leave,
                                uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    struct vv_segment *chosen = NULL;
    uint64_t left = 0;
    uint64_t most = 0; /* that will be left in one piece */

    VV_ASSERT(!log->read_only && size % VV_RECORD_ALIGN == 0);
    *address = 0;
    for (uint64_t at = end; *address == 0 || most < leave;) {
        uint64_t from = 0;
        uint64_t bytes = 0;
        TRY(segment_of(log, at, &segment, &left));
        if (segment != NULL)
            TRY(solid_from(segment, end, &from, &bytes));
        if (*address == 0 && size <= bytes) {
            *address = from;
            bytes -= size;
        } else if (*address == 0 && segment != NULL) {
            TRY(clear_header(segment, from));
        }
        most = *address != 0 && bytes > most ? bytes : most;
        release_segment(log, segment);
        segment = NULL;
        if (!vv_log_segment_after(log, at, &at))
            break;
    }
    if (*address == 0 || most < leave)
        TRY(vv_fail_number(VARVE_FULL, ENOSPC,
                           "the space of the log that is kept for full disks is used up"));
    TRY(segment_of(log, *address, &chosen, &left));
    if (!chosen->settled && *address == chosen->start)
        TRY(vv_segment_create(chosen, log->dir));
    chosen->settled = true;
out:
    release_segment(log, segment);
    release_segment(log, chosen);
    return rc;
}

uint64_t vv_log_fresh(struct vv_log *log, uint64_t least)
{
    uint64_t start = VV_LOG_START;
    size_t i = 0;

    least = (least + VV_RECORD_ALIGN - 1) / VV_RECORD_ALIGN * VV_RECORD_ALIGN;
    pthread_mutex_lock(&log->mutex);
    while (i < log->count && log->segments[i]->start < least)
        i++;
    if (i < log->count) { /* the first: what lies there may be a record that was never told of, and joins */
        start = log->segments[i]->start;
    } else if (log->count > 0) {
        struct vv_segment *last = log->segments[log->count - 1];
        if (last->start + last->capacity < least)
            last->capacity = least - last->start;
        start = last->start + last->capacity;
    }
    pthread_mutex_unlock(&log->mutex);
    return start;
}

/* A write that failed may have put any part of the records down, or all of it. See that none can ever be read as one:
 * nobody was told of them. Of each the header goes: the first record that is tried again may be the same to the byte,
 * and then the second would continue it. */
static varve_status unwrite(struct vv_segment *segment, uint64_t offset, const uint8_t *data,
                            size_t data_size)
{
    static const uint8_t zeros[VV_RECORD_ALIGN];
    varve_status rc = VARVE_OK;
    uint64_t size = 0;

    TRY(vv_file_size(&segment->file, &size));
    for (size_t at = 0; at < data_size && offset + at < size && !VV_PLANT("failure-kept");
         at += vv_record_size(data + at))
        TRY(vv_file_write(&segment->file, zeros, sizeof zeros, offset + at));
    if (size > segment->written && offset < size) {
        const uint64_t keep = offset < segment->written ? segment->written : offset;
        TRY(vv_file_truncate(&segment->file, keep));
    }
    TRY(vv_file_sync_new(&segment->file));
out:
    return rc;
}

/* A planted bug (J3): without padding a record would share its first block with the end of the one before. */
static varve_status rewrite_neighbour(struct vv_segment *segment, uint64_t offset)
{
    varve_status rc = VARVE_OK;
    uint8_t block[VV_RECORD_ALIGN];

    if (offset < sizeof block)
        return VARVE_OK;
    TRY(vv_file_read(&segment->file, block, sizeof block, offset - sizeof block));
    TRY(vv_file_write(&segment->file, block, sizeof block, offset - sizeof block));
out:
    return rc;
}

varve_status vv_log_write(struct vv_log *log, uint64_t address, const void *data, size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    TRY(segment_of(log, address, &segment, &left));
    VV_ASSERT(segment != NULL && size <= left);
    const uint64_t offset = address - segment->start;
    if (VV_PLANT("sector-rewritten"))
        TRY(rewrite_neighbour(segment, offset));
    segment->unsynced = true;
    rc = vv_file_write(&segment->file, data, size, offset);
    if (rc == VARVE_OK) {
        if (offset + size > segment->written)
            segment->written = offset + size;
        goto out;
    }
    const varve_error why = { .status = rc, .system = vv_words_errno() };
    char words[256];
    size_t length = strlen(vv_words());
    length = length < sizeof words ? length : sizeof words - 1;
    memcpy(words, vv_words(), length);
    words[length] = '\0';
    if (unwrite(segment, offset, data, size) != VARVE_OK)
        rc = vv_fail(VARVE_UNCERTAIN, "%s; and it could not be taken back", words);
    else
        rc = vv_fail(why.status, "%s", words);
out:
    release_segment(log, segment);
    return rc;
}

varve_status vv_log_sync(struct vv_log *log, uint64_t from, uint64_t to)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    while (from < to) {
        TRY(segment_of(log, from, &segment, &left));
        if (segment != NULL) {
            segment->unsynced = false;
            rc = vv_file_sync(&segment->file);
            release_segment(log, segment);
            TRY(rc);
        }
        if (!vv_log_segment_after(log, from, &from))
            break;
    }
out:
    return rc;
}

void vv_log_tell_closed(struct vv_log *log, const struct vv_chain *chain)
{
    struct vv_closing closing = { .address = chain->end, .sequence = chain->sequence };
    struct vv_segment *segment = NULL;
    uint8_t block[VV_RECORD_ALIGN] = { 0 };
    uint64_t left = 0;

    VV_ASSERT(!log->read_only && chain->synced >= chain->end);
    memcpy(closing.previous, chain->sum, VV_SUM);
    vv_closing_encode(&closing, block);
    if (segment_of(log, chain->end, &segment, &left) != VARVE_OK || segment == NULL)
        return;
    /* Where the file ends there is nothing behind to be looked through, and it must not grow unsynced. */
    const uint64_t offset = chain->end - segment->start;
    if (offset + sizeof block <= segment->written) {
        segment->unsynced = true;
        (void)vv_file_write(&segment->file, block, sizeof block, offset);
    }
    release_segment(log, segment);
}

varve_status vv_log_forget(struct vv_log *log, uint64_t from, uint64_t to)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    while (from < to) {
        TRY(segment_of(log, from, &segment, &left));
        if (segment != NULL)
            vv_file_forget(&segment->file);
        release_segment(log, segment);
        if (!vv_log_segment_after(log, from, &from))
            break;
    }
out:
    return rc;
}

/* ---- Giving up space -------------------------------------------------------------------------- */

varve_status vv_log_allocated(struct vv_log *log, uint64_t start, uint64_t *allocated, uint64_t *written)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    *allocated = *written = 0;
    TRY(segment_of(log, start, &segment, &left));
    if (segment == NULL)
        goto out;
    TRY(vv_file_allocated(&segment->file, allocated));
    TRY(vv_file_size(&segment->file, written));
out:
    release_segment(log, segment);
    return rc;
}

varve_status vv_log_punch(struct vv_log *log, uint64_t address, uint64_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;

    TRY(segment_of(log, address, &segment, &left));
    VV_ASSERT(segment != NULL && size <= left);
    TRY(vv_file_punch(&segment->file, address - segment->start, size));
out:
    release_segment(log, segment);
    return rc;
}

varve_status vv_log_drop(struct vv_log *log, uint64_t start, uint64_t *freed)
{
    varve_status rc = VARVE_OK;
    struct vv_segment *segment = NULL;
    uint64_t left = 0;
    char name[VV_SEGMENT_NAME];

    TRY(segment_of(log, start, &segment, &left));
    pthread_mutex_lock(&log->mutex);
    VV_ASSERT(segment != NULL && log->count > 1 && segment == log->segments[0]);
    pthread_mutex_unlock(&log->mutex);
    TRY(vv_file_allocated(&segment->file, freed));
    vv_segment_name(start, name);
    TRY(vv_dir_unlink(log->dir, name));
    pthread_mutex_lock(&log->mutex);
    memmove(log->segments, log->segments + 1, (log->count - 1) * sizeof(struct vv_segment *));
    log->count--;
    segment->gone = true;
    pthread_mutex_unlock(&log->mutex);
    TRY(vv_dir_sync(log->dir)); /* before the next: what is left must be in one piece */
out:
    release_segment(log, segment);
    return rc;
}

/* ---- Reading records -------------------------------------------------------------------------- */

static varve_status fits(struct vv_log *log, const struct vv_record *record, enum vv_record_kind kind)
{
    if (record->size > vv_log_left(log, record->address))
        return vv_fail(VARVE_CORRUPT, "the record at address %llu is longer than its segment",
                       (unsigned long long)record->address);
    if (kind != 0 && record->kind != kind)
        return vv_fail(VARVE_CORRUPT, "the record at address %llu is not of the kind that is looked for",
                       (unsigned long long)record->address);
    return VARVE_OK;
}

/* Words of a failure that tell which file it is in. */
static varve_status within_file(struct vv_log *log, uint64_t address, varve_status rc)
{
    char name[VV_SEGMENT_NAME];

    if (rc != VARVE_CORRUPT)
        return rc;
    vv_log_file_name(log, address, name);
    return vv_fail_within(rc, "%s", name);
}

varve_status vv_log_record(struct vv_log *log, uint64_t address, enum vv_record_kind kind,
                           struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t header[VV_RECORD_HEADER];

    TRY(vv_log_read(log, address, header, sizeof header));
    rc = vv_record_decode(header, address, record);
    if (rc == VARVE_OK)
        rc = fits(log, record, kind);
    rc = within_file(log, address, rc);
out:
    return rc;
}

static varve_status check_sum(const void *bytes, size_t size, const uint8_t sum[VV_SUM], const char *what,
                              const struct vv_record *record)
{
    uint8_t found[VV_SUM];

    vv_record_sum(bytes, size, found);
    if (memcmp(found, sum, VV_SUM) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_CORRUPT, "the %s of the record at address %llu fail their checksum", what,
                   (unsigned long long)record->address);
}

static varve_status read_section(struct vv_log *log, const struct vv_record *record, uint64_t address,
                                 uint64_t size, const uint8_t sum[VV_SUM], const char *what, uint8_t **bytes)
{
    varve_status rc = VARVE_OK;

    *bytes = NULL;
    TRY(fits(log, record, 0)); /* so that the size is no larger than the segment */
    TRY(vv_alloc(bytes, size, 1));
    TRY(vv_log_read(log, address, *bytes, size));
    TRY(within_file(log, address, check_sum(*bytes, size, sum, what, record)));
out:
    if (rc != VARVE_OK) {
        vv_free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

varve_status vv_log_facts(struct vv_log *log, const struct vv_record *record, uint8_t **facts)
{
    return read_section(log, record, vv_record_facts_at(record), record->facts_size, record->facts_sum,
                        "facts", facts);
}

varve_status vv_log_directory(struct vv_log *log, const struct vv_record *record, uint8_t **directory)
{
    return read_section(log, record, vv_record_directory_at(record), record->directory_size,
                        record->directory_sum, "directory's bytes", directory);
}

varve_status vv_log_record_facts(struct vv_log *log, uint64_t address, enum vv_record_kind kind,
                                 struct vv_record *record, uint8_t **facts)
{
    varve_status rc = VARVE_OK;
    uint8_t head[1024];
    size_t got = 0;

    *facts = NULL;
    TRY(vv_log_read_some(log, address, head, sizeof head, &got));
    if (got < VV_RECORD_HEADER) {
        TRY(vv_log_record(log, address, kind, record)); /* says what is wrong */
        goto out;
    }
    rc = vv_record_decode(head, address, record);
    if (rc == VARVE_OK)
        rc = fits(log, record, kind);
    TRY(within_file(log, address, rc));
    if (VV_RECORD_HEADER + record->facts_size > got) {
        TRY(vv_log_facts(log, record, facts));
        goto out;
    }
    TRY(within_file(
        log, address,
        check_sum(head + VV_RECORD_HEADER, record->facts_size, record->facts_sum, "facts", record)));
    TRY(vv_memdup(facts, head + VV_RECORD_HEADER, record->facts_size));
out:
    return rc;
}

/* The pages may be more than memory holds: summed a piece at a time. */
static varve_status verify_pages(struct vv_log *log, const struct vv_record *record)
{
    enum { PIECE = 1 << 18 };
    varve_status rc = VARVE_OK;
    uint8_t *piece = NULL;
    uint8_t hash[VV_HASH_SIZE];
    struct vv_hasher hasher;

    TRY(fits(log, record, 0));
    TRY(vv_alloc(&piece, record->pages_size < PIECE ? record->pages_size : PIECE, 1));
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    for (uint64_t done = 0; done < record->pages_size;) {
        const uint64_t left = record->pages_size - done;
        const size_t size = left < PIECE ? (size_t)left : PIECE;
        TRY(vv_log_read(log, vv_record_pages_at(record) + done, piece, size));
        vv_hasher_put(&hasher, piece, size);
        done += size;
    }
    vv_hasher_end(&hasher, hash);
    if (memcmp(hash, record->pages_sum, VV_SUM) != 0)
        rc = within_file(log, record->address,
                         vv_fail(VARVE_CORRUPT, "the pages of the record at address %llu fail their checksum",
                                 (unsigned long long)record->address));
out:
    vv_free(piece);
    return rc;
}

varve_status vv_log_verify(struct vv_log *log, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t *section = NULL;

    TRY(vv_log_facts(log, record, &section));
    vv_free(section);
    section = NULL;
    TRY(vv_log_directory(log, record, &section));
    TRY(verify_pages(log, record));
out:
    vv_free(section);
    return rc;
}

/* ---- The scan --------------------------------------------------------------------------------- */

void vv_chain_start(struct vv_chain *chain)
{
    *chain = (struct vv_chain){ .end = VV_LOG_START, .synced = VV_LOG_START };
}

void vv_log_begin(struct vv_log *log, struct vv_chain *chain)
{
    uint64_t start = 0;

    vv_chain_start(chain);
    if (vv_log_segment_after(log, 0, &start) && start > VV_LOG_START) {
        chain->end = chain->synced = start;
        chain->begins = true;
    }
}

void vv_chain_advance(struct vv_chain *chain, const struct vv_record *record)
{
    chain->begins = false;
    chain->end = record->address + record->size;
    chain->sequence = record->sequence;
    if (record->synced > chain->synced)
        chain->synced = record->synced;
    memcpy(chain->epoch, record->epoch, sizeof chain->epoch);
    memcpy(chain->sum, record->sum, VV_SUM);
}

/* Is the block what stands at `address` when the log was closed there? */
static bool is_closing(const uint8_t block[VV_RECORD_ALIGN], uint64_t address, struct vv_closing *closing)
{
    static const uint8_t zeros[VV_RECORD_ALIGN];

    return vv_closing_decode(block, closing) && closing->address == address &&
           memcmp(block + VV_CLOSING, zeros, VV_RECORD_ALIGN - VV_CLOSING) == 0;
}

varve_status vv_log_closed_at(struct vv_log *log, uint64_t address, bool *closed)
{
    uint8_t block[VV_RECORD_ALIGN];
    struct vv_closing closing;
    size_t got = 0;
    const varve_status rc = vv_log_read_some(log, address, block, sizeof block, &got);

    *closed = rc == VARVE_OK && got == sizeof block && is_closing(block, address, &closing);
    return rc;
}

enum { WINDOW = 1 << 16 };
struct scanner {
    struct vv_log *log;
    const struct vv_log_scan *scan;
    uint8_t first[VV_RECORD_ALIGN]; /* the first piece: a single block, for most often the log ends there */
    uint8_t *window;                /* the next ones, so that small records cost no read each */
    const uint8_t *piece;           /* the one at hand; NULL: none yet */
    uint64_t at;
    size_t size;
    bool ended;      /* it is shorter than what was asked for: the segment, or its file, ends behind it */
    uint64_t begins; /* the segment whose first block was looked at last; 0: none */
    bool blank;      /* it is zeros, as far as it is there */
    uint8_t *large;  /* facts that were not in the window */
};

/* Is it known from the piece at hand that its segment has no more than that from `address` on? */
static bool is_past_end(const struct scanner *s, uint64_t address)
{
    uint64_t next = 0;

    return s->ended && address >= s->at && address - s->at <= s->size &&
           !(vv_log_segment_after(s->log, s->at, &next) && address >= next);
}

/* `size` bytes at `address`, lent until the next call; NULL when the segment has not as many. */
static varve_status look(struct scanner *s, uint64_t address, size_t size, const uint8_t **bytes)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(size <= WINDOW);
    *bytes = NULL;
    if (address < s->at || address - s->at > s->size || s->size - (address - s->at) < size) {
        if (is_past_end(s, address))
            goto out;
        const bool first = s->piece == NULL && size <= sizeof s->first;
        if (!first && s->window == NULL)
            TRY(vv_alloc(&s->window, WINDOW, 1));
        uint8_t *piece = first ? s->first : s->window;
        s->piece = piece;
        s->at = address;
        s->size = 0;
        s->ended = false;
        const size_t asked = first ? sizeof s->first : WINDOW;
        TRY(vv_log_read_some(s->log, address, piece, asked, &s->size));
        s->ended = s->size < asked;
        if (s->size < size)
            goto out;
    }
    *bytes = s->piece + (address - s->at);
out:
    return rc;
}

/* Is it a whole header? One of a newer format is told as such, for its log must not be cut there. */
static varve_status take_header(struct scanner *s, uint64_t address, const uint8_t *bytes,
                                struct vv_record *record, bool *found)
{
    *found = false;
    if (!vv_record_magic(bytes))
        return VARVE_OK;
    const varve_status rc = vv_record_decode(bytes, address, record);
    if (rc == VARVE_CORRUPT)
        return VARVE_OK;
    *found = rc == VARVE_OK && record->size <= vv_log_left(s->log, address);
    return rc;
}

/* A whole header at `address`? */
static varve_status header_at(struct scanner *s, uint64_t address, struct vv_record *record, bool *found)
{
    varve_status rc = VARVE_OK;
    const uint8_t *bytes = NULL;

    *found = false;
    TRY(look(s, address, VV_RECORD_HEADER, &bytes));
    if (bytes != NULL)
        TRY(take_header(s, address, bytes, record, found));
out:
    return rc;
}

/* The same at the start of a segment, where most often there is none: the window stays, for what it holds is looked
 * through next. */
static varve_status header_of_segment(struct scanner *s, uint64_t start, struct vv_record *record,
                                      bool *found)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_ALIGN];
    uint8_t block[VV_RECORD_ALIGN];
    size_t got = 0;

    *found = false;
    TRY(vv_log_read_some(s->log, start, block, sizeof block, &got));
    s->begins = start;
    s->blank = memcmp(block, zeros, got) == 0;
    if (got >= VV_RECORD_HEADER)
        TRY(take_header(s, start, block, record, found));
out:
    return rc;
}

bool vv_chain_joins(const struct vv_chain *chain, const struct vv_record *record)
{
    if (chain->begins)
        return record->address == chain->end;
    return record->sequence == chain->sequence + 1 && memcmp(record->previous, chain->sum, VV_SUM) == 0 &&
           (record->kind == VV_RECORD_OPEN || record->repairs ||
            memcmp(record->epoch, chain->epoch, sizeof chain->epoch) == 0);
}

/* The record that continues the chain: behind it, or at the start of a later segment. */
static varve_status successor(struct scanner *s, const struct vv_chain *chain, struct vv_record *record,
                              bool *found)
{
    varve_status rc = VARVE_OK;
    uint64_t start = chain->end;

    TRY(header_at(s, chain->end, record, found));
    *found = *found && vv_chain_joins(chain, record);
    while (!*found && vv_log_segment_after(s->log, start, &start)) {
        TRY(header_of_segment(s, start, record, found));
        *found = *found && vv_chain_joins(chain, record);
    }
out:
    return rc;
}

/* Is it spare space that begins at `start`, not to be read when a store is opened? `head` was told of every record up
 * to `place`, and of none behind it, and nothing lies where the first one would. fsck reads it all the same. */
static varve_status is_spare(struct scanner *s, uint64_t place, uint64_t start, bool *spare)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;
    bool found = false;

    *spare = false;
    if (s->scan->thorough || s->scan->acknowledged != place)
        goto out;
    if (s->begins != start)
        TRY(header_of_segment(s, start, &record, &found));
    *spare = s->blank;
out:
    return rc;
}

/* Was the log closed where the chain ends? Then nothing lies behind it in this segment. */
static varve_status is_closed(struct scanner *s, const struct vv_chain *chain, bool *closed)
{
    varve_status rc = VARVE_OK;
    struct vv_closing closing;
    const uint8_t *block = NULL;

    *closed = false;
    TRY(look(s, chain->end, VV_RECORD_ALIGN, &block));
    if (block == NULL || !is_closing(block, chain->end, &closing))
        goto out;
    *closed = closing.sequence == chain->sequence && memcmp(closing.previous, chain->sum, VV_SUM) == 0;
out:
    return rc;
}

/* Everything from `from` on, a header at a time: the first that is whole, and whether any says that the log
 * was synced to beyond `place`. `dirty`: there was something else than zeros. `next`: from the next segment on. */
struct beyond {
    bool proof, dirty, found;
    uint64_t proof_at;
    struct vv_record first;
};
static varve_status look_beyond(struct scanner *s, uint64_t place, uint64_t from, bool next,
                                struct beyond *beyond)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_HEADER];
    struct vv_record record;
    const uint8_t *bytes = NULL;
    bool found = false;
    bool spare = next;

    *beyond = (struct beyond){ .proof = false };
    for (uint64_t at = from;;) {
        bytes = NULL;
        if (!spare)
            TRY(look(s, at, VV_RECORD_HEADER, &bytes));
        if (bytes == NULL) { /* the segment's file ends here */
            if (!vv_log_segment_after(s->log, at, &at))
                break;
            TRY(is_spare(s, place, at, &spare));
            continue;
        }
        beyond->dirty = beyond->dirty || memcmp(bytes, zeros, sizeof zeros) != 0;
        TRY(header_at(s, at, &record, &found));
        if (found && !beyond->found) {
            beyond->found = true;
            beyond->first = record;
        }
        if (found && record.synced > place) {
            beyond->proof = true;
            beyond->proof_at = at;
            break;
        }
        at += VV_RECORD_ALIGN;
    }
out:
    return rc;
}

/* As vv_log_verify; a record that the window can hold is read with its neighbours. */
static varve_status verify(struct scanner *s, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    const uint8_t *bytes = NULL;
    const uint64_t used = vv_record_used(record);

    if (used > WINDOW / 2)
        return vv_log_verify(s->log, record);
    TRY(look(s, record->address, (size_t)used, &bytes));
    if (bytes == NULL)
        return vv_log_verify(s->log, record); /* says what is not there */
    const uint8_t *directory = bytes + VV_RECORD_HEADER + record->facts_size;
    rc = check_sum(bytes + VV_RECORD_HEADER, record->facts_size, record->facts_sum, "facts", record);
    if (rc == VARVE_OK)
        rc = check_sum(directory, record->directory_size, record->directory_sum, "directory's bytes", record);
    if (rc == VARVE_OK)
        rc = check_sum(directory + record->directory_size, record->pages_size, record->pages_sum, "pages",
                       record);
    rc = within_file(s->log, record->address, rc);
out:
    return rc;
}

/* Read the facts of a record, and all else when nothing vouches for it. Facts are lent until the next call. */
static varve_status read_whole(struct scanner *s, const struct vv_record *record, bool all,
                               const uint8_t **facts)
{
    varve_status rc = VARVE_OK;

    vv_free(s->large);
    s->large = NULL;
    *facts = NULL;
    if (all)
        TRY(verify(s, record));
    if (record->facts_size <= WINDOW / 2) {
        TRY(look(s, vv_record_facts_at(record), record->facts_size, facts));
        if (*facts == NULL)
            TRY(vv_fail(VARVE_CORRUPT, "the record at address %llu is cut short",
                        (unsigned long long)record->address));
        TRY(within_file(s->log, record->address,
                        check_sum(*facts, record->facts_size, record->facts_sum, "facts", record)));
    } else {
        TRY(vv_log_facts(s->log, record, &s->large));
        *facts = s->large;
    }
out:
    return rc;
}

static varve_status tell_damage(struct scanner *s, uint64_t address, const struct vv_record *record,
                                const char *words)
{
    return s->scan->damage(s->scan->context, address, record, words);
}

/* One record that joins. `stop`: it was never acknowledged and is not whole, so the log ends before it. */
static varve_status take_record(struct scanner *s, const struct vv_record *record, bool vouched, bool *stop)
{
    varve_status rc = VARVE_OK;
    const uint8_t *facts = NULL;
    struct beyond beyond;

    *stop = false;
    rc = read_whole(s, record, !vouched || s->scan->deep, &facts);
    if (rc == VARVE_CORRUPT) {
        char words[256];
        size_t length = strlen(vv_words());
        length = length < sizeof words ? length : sizeof words - 1;
        memcpy(words, vv_words(), length);
        words[length] = '\0';
        if (!vouched) {
            TRY(look_beyond(s, record->address, record->address + VV_RECORD_ALIGN, false, &beyond));
            *stop = !beyond.proof;
            if (*stop)
                goto out;
            /* So it was acknowledged, and of those the facts count: the rest may be a hole. */
            rc = s->scan->deep ? rc : read_whole(s, record, false, &facts);
            if (rc == VARVE_OK) {
                TRY(s->scan->record(s->scan->context, record, facts));
                goto out;
            }
        }
        TRY(tell_damage(s, record->address, record, words));
        /* What facts say stands for itself, but for those of a checkpoint, which lead to what may be damaged. */
        rc = record->kind == VV_RECORD_CHECKPOINT ? VARVE_CORRUPT : read_whole(s, record, false, &facts);
        if (rc == VARVE_CORRUPT) {
            facts = NULL;
            rc = VARVE_OK;
        }
    }
    TRY(rc);
    TRY(s->scan->record(s->scan->context, record, facts));
out:
    return rc;
}

/* Where the record was that is missing behind the chain: there, unless only zeros are left in that segment's
 * place for it and another segment follows. For words alone. */
static varve_status missing_at(struct scanner *s, uint64_t end, uint64_t *address)
{
    static const uint8_t zeros[VV_RECORD_HEADER];
    const uint8_t *bytes = NULL;
    uint64_t start = 0;
    const varve_status rc = look(s, end, VV_RECORD_HEADER, &bytes);

    *address = end;
    if (rc == VARVE_OK && (bytes == NULL || memcmp(bytes, zeros, sizeof zeros) == 0) &&
        vv_log_segment_after(s->log, end, &start))
        *address = start;
    return rc;
}

/* Nothing joins at the end of the chain. Is that the end of the log? If not, `record` is where to go on. */
static varve_status settle_end(struct scanner *s, struct vv_chain *chain, struct vv_record *record,
                               bool *goes_on)
{
    varve_status rc = VARVE_OK;
    struct beyond beyond;
    uint64_t address = 0;
    bool closed = false;

    *goes_on = false;
    TRY(is_closed(s, chain, &closed));
    const bool trusted = closed && !s->scan->thorough && s->scan->acknowledged == chain->end;
    TRY(look_beyond(s, chain->end, chain->end + (closed ? VV_RECORD_ALIGN : 0), trusted, &beyond));
    if (beyond.proof || s->scan->acknowledged > chain->end) {
        TRY(missing_at(s, chain->end, &address));
        if (beyond.found && address >= beyond.first.address)
            address = chain->end; /* what begins the next segment is not what is missing */
        TRY(tell_damage(s, address, NULL, "acknowledged records are missing or unreadable here"));
        *record = beyond.first;
        *goes_on = beyond.found && (beyond.proof || record->address < s->scan->acknowledged);
    } else if (beyond.dirty && s->scan->debris != NULL) {
        s->scan->debris(s->scan->context, chain->end);
    }
out:
    return rc;
}

varve_status vv_log_scan(struct vv_log *log, struct vv_chain *chain, const struct vv_log_scan *scan)
{
    varve_status rc = VARVE_OK;
    struct scanner s = { .log = log, .scan = scan };
    struct vv_record record;
    struct vv_record next;
    bool found = false;
    bool stop = false;

    TRY(successor(&s, chain, &record, &found));
    while (scan->limit == 0 || chain->end < scan->limit) {
        if (!found) {
            TRY(settle_end(&s, chain, &record, &found));
            if (!found)
                break;
        }
        struct vv_chain ahead = *chain;
        vv_chain_advance(&ahead, &record);
        found = false; /* what lies at the limit may be half-written still */
        if (scan->limit == 0 || ahead.end < scan->limit)
            TRY(successor(&s, &ahead, &next, &found));
        const bool vouched = scan->acknowledged >= ahead.end || (found && next.synced >= ahead.end) ||
                             VV_PLANT("debris-accepted");
        TRY(take_record(&s, &record, vouched, &stop));
        if (stop) {
            if (scan->debris != NULL)
                scan->debris(scan->context, record.address);
            break;
        }
        *chain = ahead;
        record = next;
    }
out:
    vv_free(s.window);
    vv_free(s.large);
    return rc;
}
