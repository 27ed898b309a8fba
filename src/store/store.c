/* store.c - opening a directory as a store: format, lock, layout; and the commits that are held.
 *
 * Moves:  OPEN    read the format, lock, let the layout finish what a crash left       [vv_store_open]
 *         CREATE  lock, `making`, names synced, the layout's files, format, no `making`  [make, finish_making]
 *         CLONE   CREATE with `cloning` beside the format until all commits are there: nobody opens it meanwhile
 * A crash at any step of CREATE leaves a directory without a format, which is no store; a later CREATE goes on
 * from there. It removes what it finds only while `making` says that all of it is half-made, so that a store
 * which lost its format is never taken for an empty one.
 * A store, and a commit, live until the last of those who hold them is gone: closing early is harmless. */
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "page/hash.h"
#include "store/copyfiles.h"

enum {
    FORMAT_LIMIT = 128, /* bytes of a format file that are looked at */
    WIPE_DEPTH = 4,
    LOCK_TEXT = 24,     /* the writer's pid, blanks, newline: of one length, so that none shines through */
    POOL_BUDGET = 256 * 1 << 20 /* private bytes of images that wait for their next session */
};

/* The first is what a store is made with unless another is asked for. */
static const struct vv_layout *const layouts[] = {
    &vv_layout_journal,
    &vv_layout_flat,
    &vv_layout_tree,
    &vv_layout_chain,
};

/* ---- The format file -------------------------------------------------------------------------- */

static const struct vv_layout *layout_named(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strlen(layouts[i]->name) == length && memcmp(layouts[i]->name, name, length) == 0)
            return layouts[i];
    return NULL;
}

const struct vv_layout *vv_layout_with(varve_layout id)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (id == layouts[i]->id || id == VARVE_LAYOUT_DEFAULT)
            return layouts[i];
    return NULL;
}

/* "varve", the version, the layout. The version is judged before what follows it, which it governs. */
static varve_status parse_format(const char *path, const char *text, size_t size,
                                 const struct vv_layout **layout)
{
    static const char magic[] = "varve ";
    size_t at = sizeof magic - 1;
    uint64_t version = 0;

    if (size < at || memcmp(text, magic, at) != 0)
        goto garbage;
    const size_t digits = at;
    for (; at < size && text[at] >= '0' && text[at] <= '9' && at - digits < 9; at++)
        version = 10 * version + (uint64_t)(text[at] - '0');
    if (at == digits || version == 0 || at == size || text[at] != ' ')
        goto garbage;
    if (version > VV_FORMAT)
        return vv_fail(VARVE_NEWER,
                       "%s: the store has format %llu, this varve knows up to %d: use a newer varve", path,
                       (unsigned long long)version, (int)VV_FORMAT);
    const char *name = text + at + 1;
    const char *end = memchr(name, '\n', size - at - 1);
    if (end == NULL || end + 1 != text + size)
        goto garbage;
    *layout = layout_named(name, (size_t)(end - name));
    if (*layout == NULL)
        goto garbage;
    return VARVE_OK;
garbage:
    return vv_fail(VARVE_CORRUPT, "%s: .varve/format is damaged: it names no format of varve", path);
}

/* NOT_FOUND when there is none. */
static varve_status read_format(varve_store *store)
{
    uint8_t *data = NULL;
    size_t size = 0;
    varve_status rc = vv_dir_read(&store->own, "format", FORMAT_LIMIT, &data, &size);

    if (rc == VARVE_OK)
        rc = parse_format(store->path, (const char *)data, size, &store->layout);
    vv_free(data);
    return rc;
}

static varve_status no_store(const varve_store *store)
{
    return vv_fail(VARVE_NOT_FOUND, "%s: no store there: make one with `varve init %s`", store->path,
                   store->path);
}

/* ---- The lock --------------------------------------------------------------------------------- */

/* The process that wrote its id into the lock file last; 0: unknown. */
static unsigned long read_pid(const varve_store *store)
{
    char text[LOCK_TEXT + 1] = "";
    size_t got = 0;

    if (vv_file_read_some(&store->lock, text, LOCK_TEXT, 0, &got) != VARVE_OK)
        got = 0;
    text[got] = '\0';
    return strtoul(text, NULL, 10);
}

/* Say who holds the lock. The words are all that depends on it, so a race with a holder that goes is harmless. */
static varve_status say_busy(varve_store *store)
{
    if (!store->read_only && vv_file_lock(&store->lock, VV_LOCK_SHARED, 0, 1, 0) == VARVE_OK)
        return vv_fail(VARVE_BUSY, "%s: another process reads all of the store: wait until it is done",
                       store->path);
    const unsigned long pid = read_pid(store);
    if (pid == 0)
        return vv_fail(VARVE_BUSY, "%s: another process is the store's writer: wait until it is done",
                       store->path);
    return vv_fail(VARVE_BUSY, "%s: process %lu is the store's writer: wait until it is done", store->path,
                   pid);
}

/* `beside`: a reader that goes along with a writer takes nothing here. */
static varve_status take_lock(varve_store *store, bool beside, uint32_t wait_ms)
{
    const unsigned flags = store->read_only ? VV_OPEN_READ : VV_OPEN_WRITE | VV_OPEN_CREATE;
    varve_status rc = vv_file_open(&store->own, "lock", flags, &store->lock);

    if (rc == VARVE_IO && !store->read_only)
        return vv_fail_within(rc, "%s: cannot be written, only be read", store->path);
    if (rc != VARVE_OK)
        return vv_fail_within(rc, "%s", store->path);
    if (beside)
        return VARVE_OK;
    rc = vv_file_lock(&store->lock, store->read_only ? VV_LOCK_SHARED : VV_LOCK_EXCLUSIVE, 0, 1, wait_ms);
    if (rc == VARVE_BUSY)
        return say_busy(store);
    if (rc != VARVE_OK || store->read_only)
        return rc;

    char text[LOCK_TEXT + 1];
    (void)snprintf(text, sizeof text, "%-*ld\n", LOCK_TEXT - 1, (long)getpid());
    /* Only words need the pid, and a full disk must not keep anybody from opening the store to make room. */
    (void)vv_file_write(&store->lock, text, LOCK_TEXT, 0);
    return VARVE_OK;
}

/* ---- Making a store --------------------------------------------------------------------------- */

static bool is_own(const char *name)
{
    return strcmp(name, ".varve") == 0;
}

static varve_status must_be_empty(varve_store *store)
{
    struct vv_names names;
    varve_status rc = vv_dir_names(&store->dir, &names);

    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++)
        if (!is_own(names.list[i]))
            rc = vv_fail(VARVE_EXISTS,
                         "%s: the directory is no store and not empty (%s): give an empty or a new one",
                         store->path, names.list[i]);
    vv_names_release(&names);
    return rc;
}

/* Remove what an interrupted CREATE left in `dir`, all but .varve: files, and directories as deep as layouts make
 * them. */
static varve_status wipe(const struct vv_dir *dir, unsigned depth)
{
    struct vv_names names;
    struct vv_dir inner = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_names(dir, &names));
    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++) {
        const char *name = names.list[i];
        if (is_own(name))
            continue;
        int number = dir->vfs->unlink(dir->vfs, dir->fd, name, false);
        if ((number == EISDIR || number == EPERM) && depth > 0) {
            rc = vv_dir_open_at(dir, name, &inner);
            if (rc == VARVE_OK)
                rc = wipe(&inner, depth - 1);
            vv_dir_close(&inner);
            number = rc != VARVE_OK ? 0 : dir->vfs->unlink(dir->vfs, dir->fd, name, true);
        }
        if (number != 0 && number != ENOENT)
            rc = vv_fail_errno(number, "remove half-made %s", name);
    }
    vv_names_release(&names);
out:
    return rc;
}

static bool has_own(const varve_store *store, const char *name)
{
    struct vv_file file = VV_FILE_NONE;
    const varve_status rc = vv_file_open(&store->own, name, VV_OPEN_READ, &file);

    vv_file_close(&file);
    return rc == VARVE_OK;
}

/* Under the lock, in a directory without a format. */
static varve_status make(varve_store *store, const struct vv_layout *layout,
                         const struct vv_layout_options *options, varve_store *model)
{
    char text[FORMAT_LIMIT];
    varve_status rc = VARVE_OK;

    if (has_own(store, "making")) {
        TRY(vv_dir_sync(&store->own)); /* its name may be as new as a crash ago */
        TRY(wipe(&store->dir, WIPE_DEPTH));
    } else {
        TRY(must_be_empty(store));
        TRY(vv_dir_publish(&store->own, "making", "", 0));
    }
    TRY(vv_dir_sync(
        &store->dir)); /* .varve itself, before there are files that only `making` in it explains */
    if (store->cloning)
        TRY(vv_dir_publish(&store->own, "cloning", "", 0));
    TRY(model != NULL ? vv_copy_files(&model->dir, &store->dir) : layout->create(&store->dir, options));
    const int size = snprintf(text, sizeof text, "varve %d %s\n", (int)VV_FORMAT, layout->name);
    TRY(vv_dir_publish(&store->own, "format", text, (size_t)size));
    TRY(vv_dir_unlink(&store->own, "making"));
    TRY(vv_dir_sync(&store->own));
    store->layout = layout;
out:
    return rc;
}

/* A format beside `making`: whoever made the store was killed before it was known that the format's name lasts.
 * It must, before anything is promised on the strength of it. */
static varve_status finish_making(varve_store *store)
{
    varve_status rc = VARVE_OK;

    if (!has_own(store, "making"))
        return VARVE_OK;
    TRY(vv_dir_sync(&store->own));
    TRY(vv_dir_unlink(&store->own, "making"));
    TRY(vv_dir_sync(&store->own));
out:
    return rc;
}

/* The directory and its .varve, made when they are not there. */
static varve_status make_directories(varve_store *store, const struct vv_vfs *vfs)
{
    varve_status rc = VARVE_OK;

    TRY(vv_dir_create(vfs, store->path, NULL));
    TRY(vv_dir_open(vfs, store->path, &store->dir));
    rc = vv_dir_open_at(&store->dir, ".varve", &store->own);
    if (rc != VARVE_NOT_FOUND)
        goto out;
    TRY(must_be_empty(store));
    TRY(vv_dir_create_at(&store->dir, ".varve"));
    TRY(vv_dir_open_at(&store->dir, ".varve", &store->own));
out:
    return rc;
}

static varve_status open_directories(varve_store *store, const struct vv_vfs *vfs)
{
    varve_status rc = vv_dir_open(vfs, store->path, &store->dir);

    if (rc == VARVE_OK)
        rc = vv_dir_open_at(&store->dir, ".varve", &store->own);
    return rc == VARVE_NOT_FOUND ? no_store(store) : rc;
}

/* ---- Open and close --------------------------------------------------------------------------- */

static const struct vv_config default_config = { .durability = VARVE_DURABLE,
                                                 .retain = VARVE_RETAIN_ALL,
                                                 .snapshot_bytes = 64 << 20 };

static varve_status store_alloc(const char *path, varve_store **store)
{
    varve_store *made = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&made, 1, sizeof *made));
    made->dir = made->own = VV_DIR_NONE;
    made->lock = VV_FILE_NONE;
    made->holders = 1;
    made->owner = getpid();
    made->config = default_config;
    made->durability = VARVE_DURABLE;
    VV_ASSERT(pthread_mutex_init(&made->mutex, NULL) == 0);
    *store = made;
    rc = vv_strdup(&made->path, path);
    if (rc == VARVE_OK)
        rc = vv_pool_new(POOL_BUDGET, &made->pool);
    if (rc != VARVE_OK) {
        vv_store_close(made);
        *store = NULL;
    }
out:
    return rc;
}

void vv_store_hold(varve_store *store)
{
    store->holders++;
}

/* In a child that was forked meanwhile: all of this is a copy of what its parent goes on using, files and lock among
 * it. Nothing is written and nothing unlocked; what memory there is goes with the process. */
static void close_copy(varve_store *store)
{
    vv_file_close(&store->lock);
    vv_dir_close(&store->own);
    vv_dir_close(&store->dir);
}

void vv_store_close(varve_store *store)
{
    if (store == NULL || --store->holders > 0)
        return;
    if (store->owner != getpid()) {
        close_copy(store);
        return;
    }
    vv_worker_stop(&store->worker);
    if (store->pool != NULL)
        vv_pool_free(store->pool);
    if (store->place != NULL)
        store->layout->close(store->place);
    if (store->tracker != NULL)
        vv_tracker_free(store->tracker);
    /* The lock goes last: nobody else may write before all is closed. A forked child has the file open too and would
     * keep it locked, so it is unlocked first. */
    if (store->lock.fd != -1)
        (void)vv_file_lock(&store->lock, VV_LOCK_RELEASE, 0, 0, 0);
    vv_file_close(&store->lock);
    vv_dir_close(&store->own);
    vv_dir_close(&store->dir);
    (void)pthread_mutex_destroy(&store->mutex);
    vv_free(store->path);
    vv_free(store);
}

varve_status vv_store_new(const struct vv_layout *layout, struct vv_place *place, varve_store **store)
{
    const varve_status rc = store_alloc("(memory)", store);

    if (rc != VARVE_OK)
        return rc;
    (*store)->layout = layout;
    (*store)->place = place;
    return VARVE_OK;
}

static varve_status check_layout(const varve_store *store, varve_layout wanted)
{
    if (wanted == VARVE_LAYOUT_DEFAULT || wanted == store->layout->id)
        return VARVE_OK;
    return vv_fail(VARVE_EXISTS, "%s: the store there has the layout %s", store->path, store->layout->name);
}

static struct vv_config settings_of(const varve_store_options *options)
{
    return (struct vv_config){ .durability = options->durability,
                               .retain = options->retain,
                               .snapshot_bytes = options->snapshot_bytes };
}

/* As layouts know it: 0 is all. */
static uint64_t newest_kept(const struct vv_config *config)
{
    return config->retain == VARVE_RETAIN_ALL ? 0 : config->retain;
}

varve_status vv_store_check_durability(const varve_store *store, varve_durability asked)
{
    if (asked != VARVE_DURABLE || (store->layout->can & VV_CAN_DURABLE) != 0)
        return VARVE_OK;
    return vv_fail(VARVE_UNSUPPORTED,
                   "the layout %s makes commits last when the store is persisted, not at each commit: ask for "
                   "BUFFERED and persist, or use the layout tree or journal",
                   store->layout->name);
}

/* The defaults, what the store has of its own, what this opening asks for. */
static varve_status read_config(varve_store *store, const varve_store_options *options)
{
    const struct vv_config asked = settings_of(options);
    struct vv_config own;
    const varve_status rc = vv_config_read(&store->own, &own);

    if (rc != VARVE_OK)
        return vv_fail_within(rc, "%s", store->path);
    if ((store->layout->can & VV_CAN_DURABLE) == 0)
        store->config.durability = VARVE_BUFFERED;
    if (vv_store_check_durability(store, asked.durability) != VARVE_OK)
        return VARVE_UNSUPPORTED;
    vv_config_merge(&store->config, &own);
    vv_config_merge(&store->config, &asked);
    store->durability = store->config.durability;
    return VARVE_OK;
}

/* A store that a clone is or was being made into is nobody else's. */
static varve_status check_cloning(const varve_store *store)
{
    if (store->cloning)
        return vv_fail(VARVE_EXISTS, "%s: a store is there already", store->path);
    if (has_own(store, "cloning"))
        return vv_fail(VARVE_NOT_FOUND,
                       "%s: a clone into it was not finished: remove the directory and clone again", store->path);
    return VARVE_OK;
}

/* `model`: a store of the same layout that nobody writes to; its files are what a new store begins with. */
static varve_status open_store(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                               bool cloning, varve_store *model, varve_store **out)
{
    const bool create = options->flags & VARVE_STORE_CREATE;
    varve_store *store = NULL;
    struct vv_layout_options place_options = {
        .vfs = vfs,
        .read_only = options->flags & VARVE_STORE_READ_ONLY,
        .finding = options->finding,
        .context = options->context,
    };
    varve_status rc = VARVE_OK;

    const struct vv_layout *wanted = vv_layout_with(options->layout);
    if (create && wanted == NULL)
        return vv_fail(VARVE_UNSUPPORTED, "%s: this varve makes no stores of the layout asked for", path);
    TRY(store_alloc(path, &store));
    store->read_only = place_options.read_only;
    store->cloning = cloning;
    TRY(create ? make_directories(store, vfs) : open_directories(store, vfs));

    /* A format that this varve does not know may lock in ways that it does not know either: look there first. */
    rc = read_format(store);
    if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
        goto out;
    if (rc == VARVE_NOT_FOUND && !create) {
        rc = no_store(store);
        goto out;
    }
    TRY(take_lock(store, store->read_only && (store->layout->can & VV_CAN_READ_BESIDE), options->wait_ms));
    if (store->layout == NULL)
        rc = read_format(store); /* whoever had the lock may have made the store meanwhile */
    if (rc == VARVE_OK)
        TRY(check_cloning(store));
    else
        TRY(rc == VARVE_NOT_FOUND ? make(store, wanted, &place_options, model) : rc);
    if (!store->read_only)
        TRY(finish_making(store));
    TRY(check_layout(store, options->layout));
    TRY(read_config(store, options));
    place_options.durability = store->config.durability;
    place_options.retain = newest_kept(&store->config);
    place_options.snapshot_bytes = store->config.snapshot_bytes;
    place_options.lock = &store->lock;
    TRY(store->layout->open(&store->dir, &place_options, &store->place));
    if (!store->read_only && !(options->flags & VARVE_STORE_NO_THREADS))
        vv_worker_init(&store->worker, store->layout, store->place);
    *out = store;
    store = NULL;
out:
    vv_store_close(store);
    return rc;
}

varve_status vv_store_open(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                           varve_store **store)
{
    return open_store(vfs, path, options, false, NULL, store);
}

varve_status vv_store_begin_clone(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                                  varve_store *model, varve_store **store)
{
    return open_store(vfs, path, options, true, model, store);
}

varve_status vv_store_end_clone(varve_store *store)
{
    varve_status rc = VARVE_OK;

    TRY(vv_dir_unlink(&store->own, "cloning"));
    TRY(vv_dir_sync(&store->own));
out:
    return rc;
}

varve_status vv_store_configure(varve_store *store, const varve_store_options *options)
{
    const struct vv_config asked = settings_of(options);
    struct vv_config own;
    varve_status rc = VARVE_OK;

    (void)pthread_mutex_lock(&store->mutex);
    TRY(vv_store_check_durability(store, asked.durability));
    TRY(vv_config_read(&store->own, &own));
    vv_config_merge(&own, &asked);
    TRY(vv_config_write(&store->own, &own));
    vv_config_merge(&store->config, &asked);
    store->durability = store->config.durability;
    store->layout->configure(store->place, newest_kept(&store->config), store->config.snapshot_bytes);
out:
    (void)pthread_mutex_unlock(&store->mutex);
    return rc;
}

varve_status vv_store_writable(const varve_store *store)
{
    if (store->read_only)
        return vv_fail(VARVE_MISUSE, "%s: the store was opened read-only", store->path);
    return VARVE_OK;
}

varve_status vv_store_tracker(varve_store *store, struct vv_tracker **tracker)
{
    varve_status rc = VARVE_OK;

    (void)pthread_mutex_lock(&store->mutex);
    if (store->tracker == NULL)
        rc = vv_tracker_new(VV_DIRTY_BEST, &store->tracker);
    *tracker = store->tracker;
    (void)pthread_mutex_unlock(&store->mutex);
    return rc;
}

/* The process that may write now; 0: none. */
static uint64_t writer_of(const varve_store *store)
{
    if (!store->read_only)
        return (uint64_t)getpid();
    return vv_file_is_locked(&store->lock, VV_LOCK_SHARED, 0, 1) ? read_pid(store) : 0;
}

void vv_store_stat(varve_store *store, varve_store_info *info)
{
    struct vv_layout_stat stat = { 0 };
    const size_t size = info->size;

    (void)pthread_mutex_lock(&store->mutex);
    const struct vv_config config = store->config;
    (void)pthread_mutex_unlock(&store->mutex);
    store->layout->stat(store->place, &stat);
    *info = (varve_store_info){
        .size = size,
        .layout = store->layout->id,
        .format = VV_FORMAT,
        .durability = config.durability,
        .retain = config.retain,
        .snapshot_bytes = config.snapshot_bytes,
        .commits = stat.commits,
        .refs = stat.refs,
        .writer_pid = writer_of(store),
        .bytes_stored = stat.bytes_stored,
        .bytes_reclaimable = stat.bytes_reclaimable,
        .journal_bytes = stat.journal_bytes,
        .snapshots_taken = stat.snapshots_taken,
        .sessions_open = store->sessions,
        .writes_poisoned = stat.poisoned,
        .damaged = stat.damaged,
        .commit_count = stat.commit_count,
        .commit_ns_total = stat.commit_ns_total,
        .sync_count = stat.sync_count,
        .sync_ns_total = stat.sync_ns_total,
    };
}

/* ---- Check ------------------------------------------------------------------------------------ */

varve_status vv_store_check(const struct vv_vfs *vfs, const char *path, const varve_check_options *options,
                            uint64_t *damage)
{
    varve_store *store = NULL;
    const struct vv_layout_options place_options = {
        .vfs = vfs,
        .read_only = (options->flags & VARVE_CHECK_REPAIR) == 0,
        .finding = options->finding,
        .progress = options->progress,
        .context = options->context,
    };
    varve_status rc = VARVE_OK;

    TRY(store_alloc(path, &store));
    store->read_only = place_options.read_only;
    TRY(open_directories(store, vfs));
    rc = read_format(store);
    if (rc == VARVE_NOT_FOUND)
        rc = no_store(store);
    if (rc == VARVE_CORRUPT) {
        /* The layouts' files cannot be judged without knowing whose they are; that alone is the report. */
        const varve_finding finding = { .severity = VARVE_DAMAGE,
                                        .file = ".varve/format",
                                        .text = vv_words() };
        if (options->finding != NULL)
            options->finding(options->context, &finding);
        *damage = 1;
        rc = VARVE_OK;
        goto out;
    }
    TRY(rc);
    TRY(take_lock(store, false, 0));
    TRY(store->layout->check(&store->dir, &place_options, options->flags, damage));
out:
    vv_store_close(store);
    return rc;
}

/* ---- Held commits ----------------------------------------------------------------------------- */

static const char *text_or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

void vv_commit_tell(const struct vv_commit_facts *facts, varve_commit_info *info)
{
    *info = (varve_commit_info){
        .id = facts->id,
        .root = facts->root,
        .parent = facts->parent,
        .number = facts->number,
        .time_ns = facts->time_ns,
        .message = text_or_empty(facts->message),
        .branch = text_or_empty(facts->branch),
        .engine = text_or_empty(facts->engine),
        .move = "",
        .modules = facts->modules,
        .modules_changed = facts->modules_changed,
        .pages_changed = facts->pages_changed,
        .bytes_written = facts->bytes_written,
    };
}

varve_status vv_commit_new(varve_store *store, struct vv_commit_facts *facts, uint64_t hold,
                           varve_commit **commit)
{
    varve_commit *made = NULL;
    const varve_status rc = vv_alloc(&made, 1, sizeof *made);

    if (rc != VARVE_OK) {
        vv_commit_facts_release(facts);
        store->layout->drop(store->place, hold);
        return rc;
    }
    VV_ASSERT(pthread_mutex_init(&made->mutex, NULL) == 0);
    made->store = store;
    made->holders = 1;
    made->facts = *facts;
    made->hold = hold;
    *facts = (struct vv_commit_facts){ .locator = 0 };
    vv_commit_tell(&made->facts, &made->info);
    vv_store_hold(store);
    *commit = made;
    return VARVE_OK;
}

varve_status vv_commit_open_id(varve_store *store, const varve_commit_id *id, varve_commit **commit)
{
    struct vv_commit_facts facts = { .locator = 0 };
    const uint64_t hold = store->layout->hold(store->place);
    const varve_status rc = store->layout->facts(store->place, id, &facts);

    if (rc == VARVE_OK)
        return vv_commit_new(store, &facts, hold, commit);
    store->layout->drop(store->place, hold);
    return rc;
}

varve_status vv_commit_state(varve_commit *commit, struct vv_state *state)
{
    varve_status rc = VARVE_OK;

    (void)pthread_mutex_lock(&commit->mutex);
    if (!commit->viewed) {
        TRY(commit->store->layout->view(commit->store->place, &commit->facts, &commit->state));
        commit->viewed = true;
    }
    TRY(vv_state_copy(state, &commit->state));
out:
    (void)pthread_mutex_unlock(&commit->mutex);
    return rc;
}

void vv_commit_hold(varve_commit *commit)
{
    commit->holders++;
}

void vv_commit_close(varve_commit *commit)
{
    if (commit == NULL || --commit->holders > 0)
        return;
    if (commit->viewed)
        vv_state_release(&commit->state);
    vv_commit_facts_release(&commit->facts);
    commit->store->layout->drop(commit->store->place, commit->hold);
    (void)pthread_mutex_destroy(&commit->mutex);
    vv_store_close(commit->store);
    vv_free(commit);
}
