/* scrub.c - see scrub.h. */
#include "store/journal/scrub.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "store/journal/imagejob.h"

enum { BATCH = 16 }; /* pages between two looks at the budget */
static const uint64_t day_ns = UINT64_C(86400) * 1000 * 1000 * 1000;

struct vv_scrub {
    varve_module_id *modules;
    size_t count;
    size_t at;                /* in pairs: module at / 2, slot at % 2 */
    uint64_t page;            /* of that file */
    struct vv_image_job *job; /* a file that is made anew */
};

void vv_scrub_release(struct vv_place *place)
{
    struct vv_scrub *scrub = place->snapshots.scrub;

    if (scrub == NULL)
        return;
    vv_image_job_free(place, scrub->job);
    vv_free(scrub->modules);
    vv_free(scrub);
    place->snapshots.scrub = NULL;
}

static varve_status begin(struct vv_place *place)
{
    varve_status rc = VARVE_OK;
    struct vv_scrub *scrub = NULL;

    TRY(vv_alloc(&scrub, 1, sizeof *scrub));
    place->snapshots.scrub = scrub;
    TRY(vv_place_image_modules(place, &scrub->modules, &scrub->count));
out:
    return rc;
}

static void next_file(struct vv_scrub *scrub)
{
    scrub->at++;
    scrub->page = 0;
}

/* The file holds other bytes than it says: its name goes now, a new one comes when it is written. */
static varve_status replace(struct vv_place *place, struct vv_scrub *scrub, const varve_module_id *module,
                            unsigned slot)
{
    varve_status rc = VARVE_OK;
    struct vv_image_pair pair;

    vv_image_pair_look(place, module, &pair);
    TRY(vv_images_rotten(&place->images, module, slot));
    place->snapshots.mended++;
    pair.newest = pair.known[1 - slot] && pair.stamps[1 - slot].state == VV_STAMP_WHOLE ? 1 - slot : slot;
    if (pair.known[slot])
        TRY(vv_image_job_new(place, &pair.stamps[slot], &pair, slot, true, &scrub->job));
out:
    return rc;
}

/* Some pages of the file that comes next. */
static varve_status read_some(struct vv_place *place, struct vv_scrub *scrub, uint64_t *budget)
{
    varve_status rc = VARVE_OK;
    const varve_module_id *module = &scrub->modules[scrub->at / VV_IMAGE_SLOTS];
    const unsigned slot = scrub->at % VV_IMAGE_SLOTS;
    struct vv_image_file *file = vv_images_use(&place->images, module, slot);
    uint64_t bad = UINT64_MAX;

    while (file != NULL && scrub->page<file->tree.page_count && * budget> 0 && rc == VARVE_OK &&
           bad == UINT64_MAX) {
        rc = vv_image_file_verify(file, scrub->page, BATCH, &bad);
        scrub->page += BATCH;
        *budget -= *budget < BATCH * VV_PAGE_SIZE ? *budget : BATCH * VV_PAGE_SIZE;
    }
    const bool through = file == NULL || scrub->page >= file->tree.page_count;
    vv_images_leave(&place->images, file);
    if (rc == VARVE_CORRUPT)
        rc = vv_images_remove(&place->images, module, slot, false);
    else if (bad != UINT64_MAX)
        rc = replace(place, scrub, module, slot);
    else if (rc == VARVE_OK && !through)
        return VARVE_OK;
    next_file(scrub);
    return rc;
}

static varve_status advance(struct vv_place *place, struct vv_scrub *scrub, uint64_t *budget)
{
    varve_status rc = VARVE_OK;

    while (*budget > 0 && rc == VARVE_OK &&
           (scrub->job != NULL || scrub->at < VV_IMAGE_SLOTS * scrub->count)) {
        bool done = false;
        if (scrub->job == NULL) {
            rc = read_some(place, scrub, budget);
            continue;
        }
        rc = vv_image_job_step(scrub->job, budget, &done);
        if (done || rc != VARVE_OK) {
            vv_image_job_free(place, scrub->job);
            scrub->job = NULL;
        }
    }
    return rc;
}

static varve_status step(struct vv_place *place, uint64_t budget, bool *more)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshots *snapshots = &place->snapshots;
    bool over = false;

    if (snapshots->scrub == NULL)
        rc = begin(place);
    if (rc == VARVE_OK)
        rc = advance(place, snapshots->scrub, &budget);
    over = rc != VARVE_OK || (snapshots->scrub->job == NULL &&
                              snapshots->scrub->at == VV_IMAGE_SLOTS * snapshots->scrub->count);
    if (over) { /* what failed is tried again a day later: until then the file is gone, which is safe */
        vv_scrub_release(place);
        snapshots->scrubbed = vv_clock_monotonic_ns();
    }
    *more = *more || !over;
    return rc;
}

varve_status vv_place_scrub_step(struct vv_place *place, uint64_t budget, bool *more)
{
    struct vv_snapshots *snapshots = &place->snapshots;

    if (vv_place_writable(place) != VARVE_OK)
        return VARVE_OK;
    pthread_mutex_lock(&snapshots->mutex);
    /* A snapshot may be about to write the same file. */
    if (snapshots->running == NULL &&
        (snapshots->scrub != NULL || vv_clock_monotonic_ns() - snapshots->scrubbed >= day_ns))
        (void)step(place, budget, more);
    pthread_mutex_unlock(&snapshots->mutex);
    return VARVE_OK;
}

varve_status vv_place_scrub(struct vv_place *place)
{
    varve_status rc = vv_place_writable(place);
    bool more = true;

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->snapshots.mutex);
    vv_scrub_release(place);
    while (rc == VARVE_OK && more) {
        more = false;
        rc = step(place, UINT64_MAX, &more);
    }
    pthread_mutex_unlock(&place->snapshots.mutex);
    return rc;
}
