/* snapshot.c - see snapshot.h.
 *
 *   snapshot   a commit's state, or the pairs that lack a file; which module comes next; jobs
 * Moves:  BEGIN     pick a commit, see that it has a checkpoint, open its state       [begin]
 *         JOB       the file of the next module that needs one (imagejob.h)           [make_job]
 *         STEP      some of its pages; when no module is left the snapshot is taken   [advance, end]
 *         FREEZE    the same for the images of a session, in a child                  [vv_place_freeze] */
#include "store/journal/snapshot.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/process.h"
#include "store/journal/imagejob.h"

static const uint64_t retry_ns = UINT64_C(10) * 1000 * 1000 * 1000;
/* The first reading for rot is due ten minutes after opening, the next a day later. */
static const uint64_t first_scrub_ns = UINT64_C(86400 - 600) * 1000 * 1000 * 1000;
static const uint64_t late_ns = UINT64_C(600) * 1000 * 1000 * 1000;

struct vv_snapshot {
    uint64_t hold;   /* so that what is read stays */
    uint64_t commit; /* address of its record; 0: only pairs are completed */
    uint64_t end;    /* of that record */
    uint64_t checkpoint;
    struct vv_state state;
    varve_module_id module; /* the last one that was looked at */
    bool begun;
    bool again;            /* look at it once more */
    varve_module_id *lone; /* modules with one file, when pairs are completed */
    size_t lone_count, lone_at;
    struct vv_image_job *job;
    struct vv_image_job *forked; /* all jobs of the child */
    struct vv_child child;
};

/* ---- Which commit ----------------------------------------------------------------------------- */

static uint64_t wanted_bytes(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const uint64_t bytes = place->options.snapshot_bytes;
    pthread_mutex_unlock(&place->mutex);
    return place->limits.snapshot_bytes != 0 ? place->limits.snapshot_bytes : bytes;
}

/* Where `main` stands, if it moved since the last snapshot; else the branch that moved last. Address 0: no branch. */
static varve_status pick(struct vv_place *place, uint64_t *commit)
{
    varve_status rc = VARVE_OK;
    const struct vv_index *index = &place->index;

    *commit = 0;
    pthread_mutex_lock(&place->mutex);
    const struct vv_index_ref *best = vv_index_ref(index, "main");
    if (best != NULL && (vv_hash_is_zero(best->commit) || best->last <= place->snapshots.reached))
        best = NULL;
    for (const struct vv_index_ref *ref = best != NULL ? NULL : vv_index_ref_after(index, NULL); ref != NULL;
         ref = vv_index_ref_after(index, ref->name)) {
        if (!vv_hash_is_zero(ref->commit) && strncmp(ref->name, "tags/", 5) != 0 &&
            (best == NULL || ref->last > best->last))
            best = ref;
    }
    if (best != NULL)
        rc = vv_index_find(index, best->commit, commit);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

struct looking {
    struct vv_place *place;
    uint64_t newest; /* address of a checkpoint */
};

static int look_at_name(void *context, const char *name)
{
    struct looking *looking = context;
    varve_module_id module;
    unsigned slot = 0;
    struct vv_stamp stamp;

    if (vv_image_file_parse(name, &module, &slot) &&
        vv_images_look(&looking->place->images, &module, slot, &stamp) == VARVE_OK &&
        stamp.state == VV_STAMP_WHOLE && stamp.generation > looking->newest)
        looking->newest = stamp.generation;
    return 0;
}

/* What snapshots of earlier openings reached. A checkpoint lies behind its commit, so this is no less. */
static void learn_reached(struct vv_place *place)
{
    struct looking looking = { .place = place };

    if (place->snapshots.looked)
        return;
    (void)vv_images_each(&place->images, look_at_name, &looking);
    if (looking.newest > place->snapshots.reached)
        place->snapshots.reached = looking.newest;
    place->snapshots.looked = true;
}

/* How much log there is up to the commit that comes next, since the last snapshot. */
static uint64_t bytes_ahead(struct vv_place *place)
{
    uint64_t commit = 0;
    struct vv_record record;

    if (pick(place, &commit) != VARVE_OK || commit == 0 ||
        vv_log_record(&place->log, commit, 0, &record) != VARVE_OK)
        return 0;
    const uint64_t end = record.address + record.size;
    return end > place->snapshots.reached ? end - place->snapshots.reached : 0;
}

/* Is a snapshot of some commit due? The snapshots' mutex is held. */
static bool is_due(struct vv_place *place)
{
    struct vv_snapshots *snapshots = &place->snapshots;
    const uint64_t bytes = wanted_bytes(place);
    const uint64_t now = vv_clock_monotonic_ns();

    pthread_mutex_lock(&place->mutex);
    const bool small = place->stored < bytes / 16;
    pthread_mutex_unlock(&place->mutex);
    if (bytes == 0 || small || now < snapshots->retry)
        return false;
    learn_reached(place);
    const uint64_t ahead = bytes_ahead(place);
    return ahead >= bytes || (ahead >= bytes / 16 && now - snapshots->ended >= late_ns);
}

/* ---- A snapshot ------------------------------------------------------------------------------- */

static void snapshot_free(struct vv_place *place, struct vv_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    vv_child_kill(&snapshot->child);
    vv_image_job_free(place, snapshot->job);
    while (snapshot->forked != NULL) {
        struct vv_image_job *job = snapshot->forked;
        snapshot->forked = job->next;
        vv_image_job_free(place, job);
    }
    if (snapshot->state.fresh != NULL)
        vv_state_release(&snapshot->state);
    vv_free(snapshot->lone);
    vv_place_drop(place, snapshot->hold);
    vv_free(snapshot);
}

static varve_status new_snapshot(struct vv_place *place, struct vv_snapshot **snapshot)
{
    const varve_status rc = vv_alloc(snapshot, 1, sizeof **snapshot);

    if (rc == VARVE_OK) {
        (*snapshot)->child = VV_CHILD_NONE;
        (*snapshot)->hold = vv_place_hold(place);
    }
    return rc;
}

/* Of the commit whose record is at `commit`. */
static varve_status begin(struct vv_place *place, uint64_t commit)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshot *snapshot = NULL;
    struct vv_record record;

    VV_ASSERT(place->snapshots.running == NULL);
    vv_scrub_release(place);
    TRY(new_snapshot(place, &snapshot));
    snapshot->commit = commit;
    TRY(vv_log_record(&place->log, commit, 0, &record));
    snapshot->end = record.address + record.size;
    TRY(vv_place_checkpoint_of(place, commit, &snapshot->checkpoint));
    TRY(vv_views_open_checkpoint(&place->views, snapshot->checkpoint, &record, &snapshot->state));
    place->snapshots.running = snapshot;
    snapshot = NULL;
out:
    snapshot_free(place, snapshot);
    return rc;
}

/* The snapshot is over: taken, or given up and not tried again at once. */
static void end(struct vv_place *place, bool taken)
{
    struct vv_snapshots *snapshots = &place->snapshots;

    if (taken && snapshots->running->commit != 0) {
        snapshots->taken++;
        if (snapshots->running->end > snapshots->reached)
            snapshots->reached = snapshots->running->end;
    }
    snapshots->ended = vv_clock_monotonic_ns();
    if (!taken)
        snapshots->retry = snapshots->ended + retry_ns;
    snapshot_free(place, snapshots->running);
    snapshots->running = NULL;
}

static varve_status count_leaf(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    uint64_t *left = context;

    (void)index;
    (void)leaf;
    return --*left == 0 ? VARVE_END : VARVE_OK;
}

/* A memory of a few pages is read as quickly as a file is mapped. */
static varve_status is_worth_it(const struct vv_place *place, const struct vv_pagetree *tree, bool *yes)
{
    uint64_t left = place->limits.image_pages;
    const varve_status rc = vv_pagetree_each(tree, 0, count_leaf, &left);

    *yes = left == 0 && place->limits.image_pages > 0;
    return rc == VARVE_END ? VARVE_OK : rc;
}

/* The job for a module as the snapshot's commit has it; none when a file is as it should be, or it needs none. */
static varve_status make_job(struct vv_place *place, struct vv_snapshot *snapshot, struct vv_module *module,
                             struct vv_image_job **job)
{
    varve_status rc = VARVE_OK;
    struct vv_stamp stamp = { .state = VV_STAMP_WHOLE,
                              .generation = snapshot->checkpoint,
                              .module = module->id,
                              .to = { .page_count = module->memory.page_count,
                                      .address = vv_pagetree_address(&module->memory) } };
    struct vv_image_pair pair;
    bool yes = false;

    *job = NULL;
    TRY(is_worth_it(place, &module->memory, &yes));
    if (!yes)
        goto out;
    TRY(vv_pagetree_top(&module->memory, stamp.to.top));
    VV_ASSERT(stamp.to.address != 0);
    vv_image_pair_look(place, &module->id, &pair);
    if (pair.newest != VV_IMAGE_SLOTS) {
        const struct vv_stamp_tree *newest = &pair.stamps[pair.newest].to;
        if (newest->page_count == stamp.to.page_count && vv_hash_equal(newest->top, stamp.to.top))
            goto out;
    }
    TRY(vv_image_job_new(place, &stamp, &pair, pair.newest == VV_IMAGE_SLOTS ? 0 : 1 - pair.newest, false,
                         job));
out:
    return rc;
}

/* The next job; none: the snapshot is complete. A file that was left half-written takes two. */
static varve_status next_job(struct vv_place *place, struct vv_snapshot *snapshot)
{
    varve_status rc = VARVE_OK;
    struct vv_module *module = NULL;
    struct vv_image_pair pair;

    while (snapshot->lone_at < snapshot->lone_count && snapshot->job == NULL) {
        const varve_module_id *id = &snapshot->lone[snapshot->lone_at++];
        vv_image_pair_look(place, id, &pair);
        if (pair.newest != VV_IMAGE_SLOTS && !pair.there[1 - pair.newest])
            TRY(vv_image_job_new(place, &pair.stamps[pair.newest], &pair, 1 - pair.newest, false,
                                 &snapshot->job));
    }
    if (snapshot->commit == 0)
        goto out;
    while (snapshot->job == NULL) {
        if (snapshot->again)
            TRY(vv_state_get(&snapshot->state, &snapshot->module, &module));
        else
            TRY(vv_state_next(&snapshot->state, snapshot->begun ? &snapshot->module : NULL, &module));
        if (module == NULL)
            break;
        snapshot->module = module->id;
        snapshot->begun = true;
        snapshot->again = false;
        TRY(make_job(place, snapshot, module, &snapshot->job));
    }
out:
    return rc;
}

/* A step of the compact kind; `done`: nothing is left. */
static varve_status advance(struct vv_place *place, struct vv_snapshot *snapshot, uint64_t *budget,
                            bool *done)
{
    varve_status rc = VARVE_OK;

    while (*budget > 0 && !*done) {
        bool written = false;
        if (snapshot->job == NULL)
            TRY(next_job(place, snapshot));
        if (snapshot->job == NULL) {
            *done = true;
            break;
        }
        TRY(vv_image_job_step(snapshot->job, budget, &written));
        if (written) {
            snapshot->again = snapshot->job->resumed && snapshot->commit != 0;
            vv_image_job_free(place, snapshot->job);
            snapshot->job = NULL;
        }
    }
out:
    return rc;
}

/* ---- The second file of a pair ---------------------------------------------------------------- */

struct listing {
    varve_module_id *modules;
    size_t count;
    varve_status rc;
};

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    varve_module_id module;
    unsigned slot = 0;

    if (!vv_image_file_parse(name, &module, &slot))
        return 0;
    for (size_t i = 0; i < listing->count; i++) {
        if (memcmp(&listing->modules[i], &module, sizeof module) == 0)
            return 0;
    }
    listing->rc = vv_resize(&listing->modules, listing->count + 1, sizeof *listing->modules);
    if (listing->rc == VARVE_OK)
        listing->modules[listing->count++] = module;
    return listing->rc != VARVE_OK;
}

varve_status vv_place_image_modules(struct vv_place *place, varve_module_id **modules, size_t *count)
{
    struct listing listing = { .rc = VARVE_OK };
    varve_status rc = vv_images_each(&place->images, list_name, &listing);

    if (rc == VARVE_OK)
        rc = listing.rc;
    if (rc != VARVE_OK) {
        vv_free(listing.modules);
        return rc;
    }
    *modules = listing.modules;
    *count = listing.count;
    return VARVE_OK;
}

/* Half of the way to the next snapshot is behind us, so there will be one. */
static bool pairs_are_due(struct vv_place *place)
{
    return !place->snapshots.recreated && vv_clock_monotonic_ns() >= place->snapshots.retry &&
           place->snapshots.looked && wanted_bytes(place) > 0 &&
           bytes_ahead(place) >= wanted_bytes(place) / 2;
}

static varve_status begin_pairs(struct vv_place *place)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshot *snapshot = NULL;

    place->snapshots.recreated = true;
    TRY(new_snapshot(place, &snapshot));
    TRY(vv_place_image_modules(place, &snapshot->lone, &snapshot->lone_count));
    place->snapshots.running = snapshot;
    snapshot = NULL;
out:
    snapshot_free(place, snapshot);
    return rc;
}

varve_status vv_place_snapshot_thin(struct vv_place *place, uint64_t *bytes)
{
    varve_status rc = VARVE_OK;
    varve_module_id *modules = NULL;
    size_t count = 0;

    *bytes = 0;
    pthread_mutex_lock(&place->snapshots.mutex);
    if (place->snapshots.running != NULL)
        end(place, false);
    vv_scrub_release(place);
    TRY(vv_place_image_modules(place, &modules, &count));
    for (size_t i = 0; i < count; i++) {
        struct vv_image_pair pair;
        vv_image_pair_look(place, &modules[i], &pair);
        if (pair.newest == VV_IMAGE_SLOTS || !pair.there[1 - pair.newest])
            continue;
        rc = vv_images_remove(&place->images, &modules[i], 1 - pair.newest, true);
        if (rc == VARVE_OK && pair.known[1 - pair.newest])
            *bytes += pair.stamps[1 - pair.newest].to.page_count * VV_PAGE_SIZE;
        rc = rc == VARVE_BUSY ? VARVE_OK : rc;
        TRY(rc);
    }
out:
    pthread_mutex_unlock(&place->snapshots.mutex);
    vv_free(modules);
    return rc;
}

/* ---- The forked kind -------------------------------------------------------------------------- */

/* In the child: see process.h. */
static bool write_frozen(void *context)
{
    const struct vv_snapshot *snapshot = context;

    for (const struct vv_image_job *job = snapshot->forked; job != NULL; job = job->next) {
        if (!vv_image_job_write_frozen(job))
            return false;
    }
    return true;
}

/* The jobs of images that hold what the commit holds. */
static varve_status make_frozen_jobs(struct vv_place *place, struct vv_snapshot *snapshot,
                                     struct vv_frozen *images, size_t count)
{
    varve_status rc = VARVE_OK;
    size_t jobs = 0;

    for (size_t i = 0; i < count && jobs < VV_CHILD_KEEP; i++) {
        struct vv_module *module = NULL;
        struct vv_image_job *job = NULL;
        uint8_t here[VV_HASH_SIZE];
        uint8_t there[VV_HASH_SIZE];
        TRY(vv_state_get(&snapshot->state, &images[i].module, &module));
        if (module == NULL)
            continue;
        TRY(vv_pagetree_root(images[i].tree, here));
        TRY(vv_pagetree_root(&module->memory, there));
        if (!vv_hash_equal(here, there))
            continue;
        TRY(make_job(place, snapshot, module, &job));
        if (job == NULL)
            continue;
        if (job->resumed) { /* its pages are not those in memory: that is done in steps */
            vv_image_job_free(place, job);
            continue;
        }
        job->frozen = images[i].bytes;
        job->next = snapshot->forked;
        snapshot->forked = job;
        jobs++;
    }
out:
    return rc;
}

static varve_status share_all(struct vv_frozen *images, size_t count, bool yes)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        const varve_status status = images[i].share(images[i].context, yes);
        rc = rc == VARVE_OK ? status : rc;
    }
    return rc;
}

static varve_status start_child(struct vv_snapshot *snapshot, struct vv_frozen *images, size_t count)
{
    int keep[VV_CHILD_KEEP];
    size_t kept = 0;

    for (const struct vv_image_job *job = snapshot->forked; job != NULL; job = job->next)
        keep[kept++] = job->target.file.fd;
    varve_status rc = share_all(images, count, true);
    if (rc == VARVE_OK)
        rc = vv_child_start(&snapshot->child, write_frozen, snapshot, keep, kept);
    const varve_status back = share_all(images, count, false);
    return rc == VARVE_OK ? back : rc;
}

bool vv_place_wants_frozen(struct vv_place *place)
{
    return place->snapshots.fork_wanted;
}

varve_status vv_place_freeze(struct vv_place *place, const struct vv_commit_facts *facts,
                             struct vv_frozen *images, size_t count)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshots *snapshots = &place->snapshots;

    if (pthread_mutex_trylock(&snapshots->mutex) != 0)
        return VARVE_OK; /* a step is being made: the next commit, then */
    if (snapshots->running != NULL || !snapshots->fork_wanted)
        goto out;
    snapshots->fork_wanted = false;
    TRY(begin(place, facts->locator));
    rc = make_frozen_jobs(place, snapshots->running, images, count);
    if (rc == VARVE_OK && snapshots->running->forked != NULL)
        rc = start_child(snapshots->running, images, count);
    if (rc != VARVE_OK) {
        end(place, false);
        snapshots->fork_wanted = true;
    }
out:
    pthread_mutex_unlock(&snapshots->mutex);
    return rc;
}

/* The child has ended: what it wrote becomes whole. The other modules follow in steps. */
static varve_status take_over(struct vv_place *place, struct vv_snapshot *snapshot)
{
    varve_status rc = VARVE_OK;

    while (snapshot->forked != NULL) {
        struct vv_image_job *job = snapshot->forked;
        snapshot->forked = job->next;
        if (rc == VARVE_OK)
            rc = vv_image_target_finish(&job->target);
        vv_image_job_free(place, job);
    }
    return rc;
}

/* While there is a child: has it done its work? `waiting`: not yet. */
static varve_status look_after_child(struct vv_place *place, struct vv_snapshot *snapshot, bool wait,
                                     bool *waiting)
{
    bool succeeded = false;

    *waiting = false;
    if (snapshot->child.pid == 0)
        return VARVE_OK;
    if (!vv_child_ended(&snapshot->child, wait, &succeeded)) {
        *waiting = true;
        return VARVE_OK;
    }
    if (!succeeded) {
        place->snapshots.fork_wanted = true;
        return vv_fail(VARVE_IO, "the process that wrote a snapshot failed");
    }
    return take_over(place, snapshot);
}

/* ---- Steps ------------------------------------------------------------------------------------ */

static bool may_write(struct vv_place *place)
{
    return !place->options.read_only && !place->damaged && !place->poisoned;
}

void vv_snapshots_init(struct vv_place *place)
{
    struct vv_snapshots *snapshots = &place->snapshots;

    pthread_mutex_init(&snapshots->mutex, NULL);
    snapshots->ended = vv_clock_monotonic_ns();
    snapshots->scrubbed = snapshots->ended - first_scrub_ns;
    vv_images_init(&place->images, &place->dir, &place->views.nodes, place->options.read_only,
                   place->limits.image_files);
}

void vv_snapshots_release(struct vv_place *place)
{
    struct vv_snapshot *running = place->snapshots.running;
    bool waiting = false;

    if (running != NULL && may_write(place))
        (void)look_after_child(place, running, true, &waiting); /* what it has written is not to be lost */
    snapshot_free(place, place->snapshots.running);
    place->snapshots.running = NULL;
    vv_scrub_release(place);
    vv_images_release(&place->images);
    pthread_mutex_destroy(&place->snapshots.mutex);
}

bool vv_place_snapshot_due(struct vv_place *place)
{
    bool due = false;

    if (!may_write(place))
        return false;
    pthread_mutex_lock(&place->snapshots.mutex);
    due = place->snapshots.running != NULL || is_due(place) || pairs_are_due(place);
    pthread_mutex_unlock(&place->snapshots.mutex);
    return due;
}

/* Of the commit that comes next; none when there is no branch. */
static varve_status begin_next(struct vv_place *place)
{
    uint64_t commit = 0;
    const varve_status rc = pick(place, &commit);

    return rc != VARVE_OK || commit == 0 ? rc : begin(place, commit);
}

/* See that something is on its way, if anything is due. */
static varve_status start(struct vv_place *place)
{
    if (place->snapshots.running != NULL || place->snapshots.scrub != NULL)
        return VARVE_OK; /* one at a time writes files */
    if (is_due(place))
        return begin_next(place);
    return pairs_are_due(place) ? begin_pairs(place) : VARVE_OK;
}

varve_status vv_place_snapshot_step(struct vv_place *place, uint64_t budget, bool *more)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshots *snapshots = &place->snapshots;
    bool waiting = false;
    bool done = false;

    if (!may_write(place))
        return VARVE_OK;
    pthread_mutex_lock(&snapshots->mutex);
    rc = start(place);
    if (rc != VARVE_OK) {
        snapshots->retry = vv_clock_monotonic_ns() + retry_ns;
        goto out;
    }
    if (snapshots->running == NULL)
        goto out;
    rc = look_after_child(place, snapshots->running, false, &waiting);
    if (rc == VARVE_OK && !waiting)
        rc = advance(place, snapshots->running, &budget, &done);
    if (rc != VARVE_OK || done)
        end(place, rc == VARVE_OK);
    *more = *more || (rc == VARVE_OK && !done && !waiting);
out:
    pthread_mutex_unlock(&snapshots->mutex);
    /* A failure is a cache that stays as it was; only one that poisoned the log is everybody's. */
    return rc == VARVE_UNCERTAIN ? rc : VARVE_OK;
}

/* All steps that are left of the one on its way. */
static varve_status finish_running(struct vv_place *place)
{
    bool waiting = false;
    bool done = false;
    varve_status rc = look_after_child(place, place->snapshots.running, true, &waiting);

    while (rc == VARVE_OK && !done) {
        uint64_t budget = UINT64_MAX;
        rc = advance(place, place->snapshots.running, &budget, &done);
    }
    end(place, rc == VARVE_OK);
    return rc;
}

void vv_place_snapshot_settle(struct vv_place *place)
{
    struct vv_snapshots *snapshots = &place->snapshots;

    if (!may_write(place))
        return;
    pthread_mutex_lock(&snapshots->mutex);
    vv_scrub_release(place);
    const bool unforked = snapshots->running == NULL && snapshots->fork_wanted;
    if ((unforked ? begin_next(place) : start(place)) == VARVE_OK && snapshots->running != NULL)
        (void)finish_running(place);
    pthread_mutex_unlock(&snapshots->mutex);
}

varve_status vv_place_snapshot(struct vv_place *place, bool fork)
{
    varve_status rc = VARVE_OK;
    struct vv_snapshots *snapshots = &place->snapshots;

    TRY(vv_place_writable(place));
    if (fork) {
        snapshots->fork_wanted = true;
        return VARVE_OK;
    }
    pthread_mutex_lock(&snapshots->mutex);
    learn_reached(place);
    if (snapshots->running != NULL)
        (void)finish_running(place); /* what was on its way, of another commit */
    rc = begin_next(place);
    if (rc == VARVE_OK && snapshots->running != NULL)
        rc = finish_running(place);
    pthread_mutex_unlock(&snapshots->mutex);
out:
    return rc;
}
