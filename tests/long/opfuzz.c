/* opfuzz.c - operations of every kind, at random, on a store and on a model of it in memory; whatever the store says
 * must be what the model says.
 *
 *   opfuzz [--seed N] [--count N] [--life N] [--only LIST] [--trace] [--shrink]
 *
 * Each operation draws its choices from the seed and its own number, and picks among what is there: sessions, images,
 * commits, refs. So operations can be left out and the rest still means something: --only 3-17,40 runs those alone
 * (of the others, nothing is done), and --shrink, after a failure, looks for a short list that fails still. Roots and
 * ids are computed by shadow.c, which knows docs/format.md and not the library. After `life` operations the store is
 * checked, thrown away and a new one begun. What failed is printed with the line that repeats it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scratch.h"
#include "shadow.h"
#include "varve.h"

enum {
    SESSIONS = 4,
    REFS = 8,
    HELD = 4,
    SAVEPOINTS = 8,
    NONE = -1,
    UNKNOWN = -2,
    PAGES_MAX = 320,
    LIFE_MOST = 65536
};
enum { BUFFER = 5 * SHADOW_PAGE };

struct entry { /* a commit */
    varve_commit_id id;
    varve_root root;
    uint64_t number;
    int64_t time_ns;
    int parent;
    bool deleted, again; /* again: one with this id had been deleted when it was made */
    char message[32], branch[32];
    struct shadow_state state;
};
struct ref {
    int at; /* NONE: it is not there */
    uint64_t moves;
};
struct work { /* a session; NULL: the place is free */
    varve_session *session;
    struct shadow_state state;
    int base;
    int ref;      /* which it would move; NONE: detached */
    int expected; /* where that must stand; NONE: it must not exist */
    bool read_only;
    unsigned savepoints;
    struct {
        uint32_t number;
        struct shadow_state state;
    } savepoint[SAVEPOINTS];
};
struct world {
    uint64_t seed, op, chance;
    bool trace;
    char path[SCRATCH_PATH];
    varve_store *store;
    varve_error error;
    struct entry *commits;
    size_t count, capacity;
    struct ref refs[REFS];
    struct work work[SESSIONS];
    struct {
        varve_commit *commit;
        int entry;
    } held[HELD];
    uint64_t last_number;
    const char *doing;
};
static struct {
    uint64_t commits, pages, roots, reopened, refused, deleted, maintained, freed, snapshots, lives;
} done;

/* In the order of their names, as they are listed. */
static const char *const ref_names[REFS] = { "dev",      "feature/a", "feature/b", "main",
                                             "tags/old", "tags/v1",   "topic",     "wide" };

/* ---- Chance and complaints -------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static unsigned roll(struct world *w, unsigned below)
{
    w->chance = mix(w->chance);
    return (unsigned)((w->chance >> 20) % below);
}

static _Noreturn void wrong(const struct world *w, const char *format, ...)
{
    va_list list;

    printf("opfuzz: operation %" PRIu64 " of seed %" PRIu64 ", %s: ", w->op, w->seed, w->doing);
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    printf("\n");
    (void)fflush(stdout);
    _exit(1);
}

/* With --trace: what an operation chose. */
static void tell(const struct world *w, const char *what, int entry)
{
    char text[65] = "none";

    if (!w->trace)
        return;
    if (entry != NONE)
        varve_hex_format(w->commits[entry].id.bytes, text);
    printf("    %s %.12s\n", what, text);
}

static void must(struct world *w, varve_status got, varve_status wanted)
{
    if (got != wanted)
        wrong(w, "%s instead of %s: %s", varve_status_name(got), varve_status_name(wanted),
              got == VARVE_OK ? "" : w->error.message);
}

static void must_be(const struct world *w, bool right, const char *what)
{
    if (!right)
        wrong(w, "%s", what);
}

static bool same_id(const varve_commit_id *a, const varve_commit_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* ---- Commits of the model --------------------------------------------------------------------- */

/* The newest with this id that was not deleted: one that was may have been made again. */
static int find_entry(const struct world *w, const varve_commit_id *id)
{
    for (size_t i = w->count; i-- > 0;)
        if (!w->commits[i].deleted && same_id(&w->commits[i].id, id))
            return (int)i;
    return NONE;
}

static bool was_deleted(const struct world *w, const varve_commit_id *id)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->commits[i].deleted && same_id(&w->commits[i].id, id))
            return true;
    return false;
}

/* The nearest ancestor that is there. UNKNOWN: behind a deleted one, made again after it had been deleted itself; who
 * stepped over it before need not know. */
static int retained_parent(const struct world *w, int entry)
{
    int at = w->commits[entry].parent, found = NONE;
    bool stepped = false;

    while (at != NONE && (found = find_entry(w, &w->commits[at].id)) == NONE) {
        at = w->commits[at].parent;
        stepped = true;
    }
    return found != NONE && stepped && w->commits[found].again ? UNKNOWN : found;
}

static bool same_commit(const struct world *w, int a, int b)
{
    return a == b || (a != NONE && b != NONE && same_id(&w->commits[a].id, &w->commits[b].id));
}

/* One that is there; often a late one. */
static int any_commit(struct world *w)
{
    for (unsigned tries = 0; tries < 32 && w->count > 0; tries++) {
        const size_t late = w->count < 8 ? w->count : 8;
        const size_t at =
            roll(w, 2) == 0 ? roll(w, (unsigned)w->count) : w->count - 1 - roll(w, (unsigned)late);
        if (!w->commits[at].deleted)
            return (int)at;
    }
    return NONE;
}

static struct entry *add_entry(struct world *w)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity == 0 ? 256 : 2 * w->capacity;
        w->commits = realloc(w->commits, w->capacity * sizeof *w->commits);
        if (w->commits == NULL)
            wrong(w, "out of memory");
    }
    w->commits[w->count] = (struct entry){ .parent = NONE };
    return &w->commits[w->count++];
}

static varve_commit *open_entry(struct world *w, int entry)
{
    char text[65];
    varve_commit *commit = NULL;

    varve_hex_format(w->commits[entry].id.bytes, text);
    must(w, varve_commit_open(w->store, text, &commit, &w->error), VARVE_OK);
    return commit;
}

static void compare_info(struct world *w, const varve_commit_info *info, int entry)
{
    const struct entry *e = &w->commits[entry];
    const varve_commit_id none = { { 0 } };

    must_be(w, same_id(&info->id, &e->id), "another commit");
    must_be(w, memcmp(&info->root, &e->root, sizeof e->root) == 0, "the commit has another root");
    must_be(w, same_id(&info->parent, e->parent == NONE ? &none : &w->commits[e->parent].id),
            "another parent");
    must_be(w, info->number == e->number, "another number");
    must_be(w, info->time_ns == e->time_ns, "another time");
    must_be(w, strcmp(info->message, e->message) == 0, "another message");
    must_be(w, strcmp(info->branch, e->branch) == 0, "another branch");
}

/* ---- Sessions --------------------------------------------------------------------------------- */

static void forget_savepoints(struct work *s, unsigned kept)
{
    while (s->savepoints > kept)
        shadow_release(&s->savepoint[--s->savepoints].state);
}

static void forget_work(struct work *s)
{
    forget_savepoints(s, 0);
    shadow_release(&s->state);
    s->session = NULL;
}

static void abort_work(struct work *s)
{
    if (s->session == NULL)
        return;
    varve_session_abort(s->session);
    forget_work(s);
}

static struct work *any_work(struct world *w)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        struct work *s = &w->work[roll(w, SESSIONS)];
        if (s->session != NULL)
            return s;
    }
    return NULL;
}

static void op_begin(struct world *w)
{
    struct work *s = &w->work[roll(w, SESSIONS)];
    const int ref = (int)roll(w, REFS), at = w->refs[ref].at;
    const unsigned how = roll(w, at == NONE ? 4 : 10);
    const int chosen = any_commit(w);
    varve_session_options options = { .size = sizeof options, .branch = ref_names[ref] };
    varve_commit *base = NULL;
    varve_status expected = VARVE_OK;

    if (s->session != NULL && roll(w, 4) != 0)
        return;
    abort_work(s);
    s->base = at;
    s->expected = at;
    s->ref = ref;
    s->read_only = roll(w, 8) == 0;
    options.flags = s->read_only ? VARVE_SESSION_READ_ONLY : 0;
    if (how == 0) {
        options.flags |= VARVE_SESSION_GENESIS;
        s->base = NONE;
    } else if (how <= 3 && chosen != NONE) {
        s->base = chosen;
        base = open_entry(w, s->base);
        options.base = base;
        s->expected = at == NONE ? NONE : s->base;
        if (how == 1) {
            options.branch = "";
            s->ref = NONE;
        }
    } else if (at == NONE && w->last_number > 0) {
        expected = VARVE_NOT_FOUND;
    }
    must(w, varve_session_begin(w->store, &options, &s->session, &w->error), expected);
    if (s->session != NULL && s->base != NONE)
        shadow_copy(&s->state, &w->commits[s->base].state);
    varve_commit_close(base);
}

static void op_abort(struct world *w)
{
    struct work *s = any_work(w);

    if (s != NULL)
        abort_work(s);
}

/* ---- Images ----------------------------------------------------------------------------------- */

static varve_module_id image_id(unsigned number)
{
    varve_module_id id;

    shadow_image_id(number, id.bytes);
    return id;
}

static int any_image(struct world *w, const struct work *s)
{
    for (unsigned tries = 0; tries < 16; tries++) {
        const unsigned number = roll(w, SHADOW_IMAGES);
        if (shadow_pages(&s->state, number) > 0)
            return (int)number;
    }
    return NONE;
}

static varve_image *open_image(struct world *w, struct work *s, unsigned number)
{
    const varve_module_id id = image_id(number);
    varve_image *image = NULL;

    must(w, varve_image_open(s->session, &id, NULL, &image, &w->error), VARVE_OK);
    must_be(w, varve_image_size(image) == (uint64_t)shadow_pages(&s->state, number) * SHADOW_PAGE,
            "the image has another size");
    return image;
}

static void op_create(struct world *w)
{
    struct work *s = any_work(w);
    const unsigned number = roll(w, SHADOW_IMAGES), kind = roll(w, 32);
    const uint32_t pages = 1 + (kind == 0 ? roll(w, PAGES_MAX) : kind < 8 ? roll(w, 40) : roll(w, 8));
    const varve_module_id id = image_id(number);
    const varve_image_options options = { .size = sizeof options,
                                          .name = shadow_image_name(number),
                                          .create_size = (uint64_t)pages * SHADOW_PAGE,
                                          .reserve = (uint64_t)PAGES_MAX * SHADOW_PAGE };
    varve_image *image = NULL;

    if (s == NULL)
        return;
    if (shadow_pages(&s->state, number) == 0 && roll(w, 4) == 0) {
        must(w, varve_image_open(s->session, &id, NULL, &image, &w->error), VARVE_NOT_FOUND);
        return;
    }
    must(w, varve_image_open(s->session, &id, &options, &image, &w->error), VARVE_OK);
    if (shadow_pages(&s->state, number) == 0)
        shadow_create(&s->state, number, pages);
    must_be(w, varve_image_size(image) == (uint64_t)shadow_pages(&s->state, number) * SHADOW_PAGE,
            "the image has another size");
}

static void op_grow(struct world *w)
{
    struct work *s = any_work(w);
    const int number = s == NULL ? NONE : any_image(w, s);

    if (number == NONE)
        return;
    varve_image *image = open_image(w, s, (unsigned)number);
    const uint32_t pages = shadow_pages(&s->state, (unsigned)number);
    const uint32_t wanted = pages + roll(w, roll(w, 8) == 0 ? 64 : 4);
    if (wanted > PAGES_MAX)
        return;
    if (pages > 1 && roll(w, 8) == 0) {
        must(w, varve_image_grow(image, SHADOW_PAGE, &w->error), VARVE_MISUSE);
        return;
    }
    must(w, varve_image_grow(image, (uint64_t)wanted * SHADOW_PAGE, &w->error), VARVE_OK);
    if (wanted > pages)
        shadow_grow(&s->state, (unsigned)number, wanted);
}

static void op_remove(struct world *w)
{
    struct work *s = any_work(w);
    const unsigned number = roll(w, SHADOW_IMAGES);
    const varve_module_id id = image_id(number);

    if (s == NULL || roll(w, 3) != 0)
        return;
    const bool there = shadow_pages(&s->state, number) > 0;
    must(w, varve_session_remove(s->session, &id, &w->error), there ? VARVE_OK : VARVE_NOT_FOUND);
    shadow_remove(&s->state, number);
}

static void fill(struct world *w, uint8_t *bytes, size_t size)
{
    const unsigned how = roll(w, 6);

    for (size_t i = 0; i < size; i++)
        bytes[i] = how == 0 ? 0 : how == 1 ? 0x77 : (uint8_t)(w->chance >> i % 8 * 8) ^ (uint8_t)(i / 8);
}

static void op_write(struct world *w)
{
    static uint8_t bytes[BUFFER];
    struct work *s = any_work(w);
    const int number = s == NULL ? NONE : any_image(w, s);
    static const unsigned sizes[] = { 1, 4, 16, 64, 300, 1200, SHADOW_PAGE, 2 * SHADOW_PAGE, BUFFER };

    if (number == NONE)
        return;
    varve_image *image = open_image(w, s, (unsigned)number);
    const uint64_t length = varve_image_size(image);
    uint64_t offset = roll(w, (unsigned)length);
    uint64_t size = 1 + roll(w, sizes[roll(w, sizeof sizes / sizeof *sizes)]);
    if (roll(w, 4) == 0) { /* whole pages */
        offset -= offset % SHADOW_PAGE;
        size = SHADOW_PAGE * (1 + size / SHADOW_PAGE);
    }
    if (size > sizeof bytes)
        size = sizeof bytes;
    if (offset + size > length) {
        if (roll(w, 4) == 0) {
            must(w, varve_image_write(image, offset, bytes, size, &w->error), VARVE_MISUSE);
            return;
        }
        size = length - offset;
    }
    fill(w, bytes, size);
    if (roll(w, 3) == 0)
        must(w, varve_image_write(image, offset, bytes, size, &w->error), VARVE_OK);
    else
        memcpy((uint8_t *)varve_image_bytes(image) + offset, bytes, size);
    shadow_write(&s->state, (unsigned)number, offset, bytes, size);
}

/* A word here and there, over many pages. */
static void op_sprinkle(struct world *w)
{
    struct work *s = any_work(w);
    const int number = s == NULL ? NONE : any_image(w, s);

    if (number == NONE)
        return;
    uint8_t *bytes = varve_image_bytes(open_image(w, s, (unsigned)number));
    const unsigned words = shadow_pages(&s->state, (unsigned)number) * (SHADOW_PAGE / 8);
    for (unsigned n = 1 + roll(w, 16); n > 0; n--) {
        const uint64_t at = 8 * (uint64_t)roll(w, words), value = roll(w, 3) == 0 ? 0 : w->chance;
        memcpy(bytes + at, &value, sizeof value);
        shadow_write(&s->state, (unsigned)number, at, &value, sizeof value);
    }
}

static bool same_page(const uint8_t *bytes, const struct shadow_state *state, unsigned number, uint32_t page)
{
    static const uint8_t zeros[SHADOW_PAGE];
    const uint8_t *expected = shadow_page(state, number, page);

    done.pages++;
    return memcmp(bytes, expected == NULL ? zeros : expected, SHADOW_PAGE) == 0;
}

static void op_read(struct world *w)
{
    uint8_t copy[SHADOW_PAGE];
    struct work *s = any_work(w);
    const int number = s == NULL ? NONE : any_image(w, s);

    if (number == NONE)
        return;
    varve_image *image = open_image(w, s, (unsigned)number);
    for (unsigned n = 0; n < 4; n++) {
        const uint32_t page = roll(w, shadow_pages(&s->state, (unsigned)number));
        const uint8_t *bytes = (uint8_t *)varve_image_bytes(image) + (size_t)page * SHADOW_PAGE;
        if (n == 0) {
            must(w, varve_image_read(image, (uint64_t)page * SHADOW_PAGE, copy, sizeof copy, &w->error),
                 VARVE_OK);
            bytes = copy;
        }
        if (!same_page(bytes, &s->state, (unsigned)number, page))
            wrong(w, "page %u of image %d differs", page, number);
    }
}

/* ---- Named values, savepoints, roots ---------------------------------------------------------- */

static void op_meta(struct world *w)
{
    static uint8_t bytes[SHADOW_VALUE_MAX];
    struct work *s = any_work(w);
    const unsigned meta = roll(w, SHADOW_METAS);

    if (s == NULL)
        return;
    const size_t size = roll(w, 4) == 0 ? 0 : 1 + roll(w, roll(w, 8) == 0 ? SHADOW_VALUE_MAX : 20);
    fill(w, bytes, size);
    must(w, varve_session_set_meta(s->session, shadow_meta_key(meta), bytes, size, &w->error), VARVE_OK);
    shadow_set_meta(&s->state, meta, bytes, size);
}

static void compare_meta(struct world *w, varve_session *session, const struct shadow_state *state)
{
    const char *after = NULL, *key = NULL;

    for (unsigned meta = 0; meta < SHADOW_METAS; meta++) {
        size_t size = 0, got_size = 0;
        const void *value = shadow_meta(state, meta, &size), *got = NULL;
        must(w, varve_session_get_meta(session, shadow_meta_key(meta), &got, &got_size, &w->error),
             value == NULL ? VARVE_NOT_FOUND : VARVE_OK);
        if (value == NULL)
            continue;
        must_be(w, got_size == size && memcmp(got, value, size) == 0, "another named value");
        must(w, varve_session_next_meta(session, after, &key, &w->error), VARVE_OK);
        must_be(w, strcmp(key, shadow_meta_key(meta)) == 0, "another name of a value");
        after = shadow_meta_key(meta);
    }
    must(w, varve_session_next_meta(session, after, &key, &w->error), VARVE_END);
}

static void compare_modules(struct world *w, varve_session *session, const struct shadow_state *state)
{
    const varve_module_id *after = NULL;
    varve_module_id id;

    for (unsigned rank = 0; rank < SHADOW_IMAGES; rank++) {
        const unsigned number = shadow_image_at(rank);
        varve_module_info info = { .size = sizeof info };
        uint8_t root[32];
        if (shadow_pages(state, number) == 0)
            continue;
        must(w, varve_session_next_module(session, after, &info, &w->error), VARVE_OK);
        id = image_id(number);
        must_be(w, memcmp(&info.id, &id, sizeof id) == 0, "another image is next");
        must_be(w, info.memory_size == (uint64_t)shadow_pages(state, number) * SHADOW_PAGE, "another size");
        shadow_memory_root(state, number, root);
        must_be(w, memcmp(info.memory_root, root, sizeof root) == 0, "another memory root");
        after = &id;
    }
    varve_module_info info = { .size = sizeof info };
    must(w, varve_session_next_module(session, after, &info, &w->error), VARVE_END);
}

static void op_list(struct world *w)
{
    struct work *s = any_work(w);

    if (s == NULL)
        return;
    compare_meta(w, s->session, &s->state);
    compare_modules(w, s->session, &s->state);
}

static void op_savepoint(struct world *w)
{
    struct work *s = any_work(w);

    if (s == NULL || s->savepoints == SAVEPOINTS)
        return;
    must(w, varve_session_savepoint(s->session, &s->savepoint[s->savepoints].number, &w->error), VARVE_OK);
    shadow_copy(&s->savepoint[s->savepoints++].state, &s->state);
}

static void op_rollback(struct world *w)
{
    struct work *s = any_work(w);

    if (s == NULL || s->savepoints == 0)
        return;
    const unsigned to = roll(w, 3) == 0 ? roll(w, s->savepoints) : s->savepoints - 1;
    must(w, varve_session_rollback(s->session, s->savepoint[to].number, &w->error), VARVE_OK);
    shadow_release(&s->state);
    shadow_copy(&s->state, &s->savepoint[to].state);
    forget_savepoints(s, to + 1);
}

static void op_release(struct world *w)
{
    struct work *s = any_work(w);

    if (s == NULL || s->savepoints == 0)
        return;
    const unsigned from = roll(w, s->savepoints);
    must(w, varve_session_release(s->session, s->savepoint[from].number, &w->error), VARVE_OK);
    forget_savepoints(s, from);
}

static void op_root(struct world *w)
{
    struct work *s = any_work(w);
    varve_root root, expected;

    if (s == NULL)
        return;
    must(w, varve_session_root(s->session, &root, &w->error), VARVE_OK);
    shadow_root(&s->state, expected.bytes);
    must_be(w, memcmp(&root, &expected, sizeof root) == 0, "the session has another root");
    done.roots++;
}

/* A page, or an image that is not there, proved to someone who has the root alone. */
static void op_prove(struct world *w)
{
    struct work *s = any_work(w);
    const unsigned number = roll(w, SHADOW_IMAGES);
    const varve_module_id id = image_id(number);
    varve_claim claim = { .size = sizeof claim };
    varve_root root;
    void *proof = NULL;
    size_t size = 0;

    if (s == NULL)
        return;
    const uint32_t pages = shadow_pages(&s->state, number), page = pages == 0 ? 0 : roll(w, pages);
    shadow_root(&s->state, root.bytes);
    must(w, varve_prove(s->session, &id, page, &proof, &size, &w->error), VARVE_OK);
    must(w, varve_proof_check(proof, size, &root, &claim, &w->error), VARVE_OK);
    must_be(w, claim.present == (pages > 0), "the proof is of another presence");
    if (claim.present)
        must_be(w, claim.page == page && same_page(claim.bytes, &s->state, number, page),
                "other bytes are proved");
    root.bytes[roll(w, 32)] ^= 1;
    must(w, varve_proof_check(proof, size, &root, &claim, &w->error), VARVE_INVALID);
    varve_free(proof);
}

/* ---- Commits ---------------------------------------------------------------------------------- */

/* What the model expects of a commit to `ref` (NONE: none). */
static varve_status judge_move(const struct world *w, const struct work *s, int ref, bool own)
{
    if (ref == NONE)
        return VARVE_OK;
    if (!own)
        return w->refs[ref].at == NONE ? VARVE_OK : VARVE_EXISTS;
    return same_commit(w, w->refs[ref].at, s->expected) ? VARVE_OK : VARVE_CONFLICT;
}

/* To go where it stands already is no move. */
static void move_ref(struct world *w, int ref, int to)
{
    w->refs[ref].moves += !same_commit(w, w->refs[ref].at, to);
    w->refs[ref].at = to;
}

static void settle_commit(struct world *w, struct work *s, const varve_commit_info *info,
                          const varve_commit_options *options, const varve_root *root, int ref)
{
    varve_commit_id id;
    const uint8_t *parent = s->base == NONE ? NULL : w->commits[s->base].id.bytes;
    const int64_t time_ns = options->time_ns == 0 ? info->time_ns : options->time_ns;
    const char *message = options->message == NULL ? "" : options->message;
    const int base = s->base;

    shadow_commit_id(parent, root->bytes, time_ns, message, id.bytes);
    must_be(w, same_id(&info->id, &id), "the commit has another id");
    int entry = find_entry(w, &id);
    if (entry == NONE) {
        const bool again = was_deleted(w, &id);
        struct entry *e = add_entry(w);
        entry = (int)w->count - 1;
        *e = (struct entry){ .id = id,
                             .root = *root,
                             .number = info->number,
                             .time_ns = time_ns,
                             .parent = base,
                             .again = again };
        (void)snprintf(e->message, sizeof e->message, "%s", message);
        (void)snprintf(e->branch, sizeof e->branch, "%s", ref == NONE ? "" : ref_names[ref]);
        shadow_copy(&e->state, &s->state);
        must_be(w, info->number > w->last_number, "a number was given again");
        w->last_number = info->number;
    }
    tell(w, entry == (int)w->count - 1 ? "made" : "was there", entry);
    tell(w, "on", base);
    compare_info(w, info, entry);
    if (ref != NONE)
        move_ref(w, ref, entry);
    s->base = entry;
    s->expected = entry;
    if (options->branch != NULL)
        s->ref = ref;
    done.commits++;
}

static void op_commit(struct world *w)
{
    static const char *const messages[] = { NULL, "", "a step", "r\xc3\xa9sum\xc3\xa9" };
    struct work *s = any_work(w);
    varve_commit_options options = { .size = sizeof options, .message = messages[roll(w, 4)] };
    varve_commit *commit = NULL;
    varve_root root, before;

    if (s == NULL)
        return;
    options.flags = (roll(w, 2) == 0 ? VARVE_COMMIT_CHAIN : 0) | (roll(w, 3) == 0 ? VARVE_COMMIT_EMPTY : 0);
    options.time_ns = roll(w, 4) == 0 ? 0 : 1 + roll(w, 3);
    options.durability = roll(w, 8) == 0 ? VARVE_DURABLE : VARVE_BUFFERED;
    int ref = s->ref;
    if (roll(w, 8) == 0) {
        ref = (int)roll(w, REFS + 1) - 1;
        options.branch = ref == NONE ? "" : ref_names[ref];
    }
    const struct shadow_state empty = { .image = { NULL } };
    shadow_root(&s->state, root.bytes);
    shadow_root(s->base == NONE ? &empty : &w->commits[s->base].state, before.bytes);
    const bool unchanged = memcmp(&root, &before, sizeof root) == 0 && !(options.flags & VARVE_COMMIT_EMPTY);
    varve_status expected = s->read_only ? VARVE_MISUSE : VARVE_OK;
    if (expected == VARVE_OK && !unchanged)
        expected = judge_move(w, s, ref, ref == s->ref);
    if (expected == VARVE_OK && !unchanged && s->base != NONE &&
        find_entry(w, &w->commits[s->base].id) == NONE)
        expected = VARVE_CONFLICT; /* nothing follows what was deleted */
    must(w, varve_session_commit(s->session, &options, &commit, &w->error), expected);
    if (expected != VARVE_OK) {
        done.refused++;
        if (roll(w, 2) == 0)
            abort_work(s); /* it may be refused for ever */
        return;
    }
    if (unchanged)
        must_be(w,
                s->base == NONE ? commit == NULL
                                : same_id(&varve_commit_get(commit)->id, &w->commits[s->base].id),
                "a commit of nothing is not the base");
    else
        settle_commit(w, s, varve_commit_get(commit), &options, &root, ref);
    if (options.flags & VARVE_COMMIT_CHAIN)
        forget_savepoints(s, 0);
    else
        forget_work(s);
    varve_commit_close(commit);
}

/* Some way to name a commit, and which one it must be. */
static int revision(struct world *w, int entry, char text[128])
{
    const int ref = (int)roll(w, REFS);
    const char *name =
        strncmp(ref_names[ref], "tags/", 5) == 0 && roll(w, 2) == 0 ? ref_names[ref] + 5 : ref_names[ref];
    char hex[65];
    int at = w->refs[ref].at;

    switch (roll(w, 5)) {
    case 0:
        varve_hex_format(w->commits[entry].id.bytes, hex);
        (void)snprintf(text, 128, "%s", hex);
        return entry;
    case 1:
        (void)snprintf(text, 128, "r%" PRIu64, w->commits[entry].number);
        return entry;
    case 2:
        varve_hex_format(w->commits[entry].root.bytes, hex);
        (void)snprintf(text, 128, "root:%s", hex);
        for (size_t i = w->count; i-- > 0;)
            if (!w->commits[i].deleted &&
                memcmp(&w->commits[i].root, &w->commits[entry].root, sizeof(varve_root)) == 0)
                return (int)i;
        return NONE;
    case 3: {
        unsigned steps = roll(w, 6);
        (void)snprintf(text, 128, "%s~%u", name, steps);
        for (; at >= 0 && steps > 0; steps--)
            at = retained_parent(w, at);
        return at;
    }
    default:
        (void)snprintf(text, 128, "%s", name);
        return at;
    }
}

static void op_find(struct world *w)
{
    char text[128];
    varve_commit *commit = NULL;

    const int some = w->count == 0 ? NONE : (int)roll(w, (unsigned)w->count); /* it may be deleted */
    if (some == NONE)
        return;
    int entry = revision(w, some, text);
    if (entry == UNKNOWN)
        return;
    if (entry != NONE && w->commits[entry].deleted)
        entry = text[0] == 'r' ? NONE : find_entry(w, &w->commits[entry].id);
    const varve_status got = varve_commit_open(w->store, text, &commit, &w->error);
    if (got != (entry == NONE ? VARVE_NOT_FOUND : VARVE_OK))
        wrong(w, "%s is %s: %s", text, varve_status_name(got), got == VARVE_OK ? "" : w->error.message);
    if (commit != NULL)
        compare_info(w, varve_commit_get(commit), entry);
    varve_commit_close(commit);
}

/* Keep a commit open while others go on. */
static void op_hold(struct world *w)
{
    const unsigned place = roll(w, HELD);

    varve_commit_close(w->held[place].commit);
    w->held[place].commit = NULL;
    w->held[place].entry = any_commit(w);
    if (w->held[place].entry != NONE && roll(w, 4) != 0)
        w->held[place].commit = open_entry(w, w->held[place].entry);
}

/* Everything that a commit holds. */
static void read_commit(struct world *w, varve_commit *commit, const struct shadow_state *state)
{
    const varve_session_options options = {
        .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY, .base = commit, .branch = ""
    };
    struct work s = { .base = NONE };

    must(w, varve_session_begin(w->store, &options, &s.session, &w->error), VARVE_OK);
    compare_meta(w, s.session, state);
    compare_modules(w, s.session, state);
    shadow_copy(&s.state, state);
    for (unsigned number = 0; number < SHADOW_IMAGES; number++) {
        if (shadow_pages(state, number) == 0)
            continue;
        const uint8_t *bytes = varve_image_bytes(open_image(w, &s, number));
        for (uint32_t page = 0; page < shadow_pages(state, number); page++)
            if (!same_page(bytes + (size_t)page * SHADOW_PAGE, state, number, page))
                wrong(w, "page %u of image %u of a commit differs", page, number);
    }
    abort_work(&s);
}

static void op_read_commit(struct world *w)
{
    const unsigned place = roll(w, HELD);

    if (w->held[place].commit != NULL) {
        read_commit(w, w->held[place].commit, &w->commits[w->held[place].entry].state);
        return;
    }
    const int entry = any_commit(w);
    if (entry == NONE)
        return;
    varve_commit *commit = open_entry(w, entry);
    read_commit(w, commit, &w->commits[entry].state);
    varve_commit_close(commit);
}

static bool pages_differ(const struct shadow_state *a, const struct shadow_state *b, unsigned number,
                         uint32_t page)
{
    static const uint8_t zeros[SHADOW_PAGE];
    const uint8_t *old = page < shadow_pages(a, number) ? shadow_page(a, number, page) : NULL;
    const uint8_t *new = page < shadow_pages(b, number) ? shadow_page(b, number, page) : NULL;

    return memcmp(old == NULL ? zeros : old, new == NULL ? zeros : new, SHADOW_PAGE) != 0;
}

/* The pages that differ, no more and no less. */
static void op_diff(struct world *w)
{
    static bool told[SHADOW_IMAGES][PAGES_MAX];
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    varve_status rc = VARVE_OK;

    const int from = any_commit(w), to = any_commit(w);
    if (from == NONE || to == NONE)
        return;
    varve_commit *a = open_entry(w, from), *b = open_entry(w, to);
    const struct shadow_state *old = &w->commits[from].state, *new = &w->commits[to].state;
    memset(told, 0, sizeof told);
    must(w, varve_diff_open(w->store, a, b, &diff, &w->error), VARVE_OK);
    varve_commit_close(a);
    varve_commit_close(b);
    while ((rc = varve_diff_next(diff, &change, &w->error)) == VARVE_OK) {
        unsigned number = 0;
        if (change->kind != VARVE_CHANGE_PAGE)
            continue;
        while (number < SHADOW_IMAGES) {
            const varve_module_id id = image_id(number);
            if (memcmp(&id, &change->module, sizeof id) == 0)
                break;
            number++;
        }
        must_be(w, number < SHADOW_IMAGES && change->index < PAGES_MAX, "a difference in what is not there");
        if (change->after != NULL && change->index < shadow_pages(new, number))
            must_be(w, same_page(change->after, new, number, (uint32_t)change->index),
                    "other bytes in a difference");
        told[number][change->index] = true;
    }
    must(w, rc, VARVE_END);
    varve_diff_close(diff);
    for (unsigned number = 0; number < SHADOW_IMAGES; number++)
        for (uint32_t page = 0; page < PAGES_MAX; page++)
            if (told[number][page] != pages_differ(old, new, number, page))
                wrong(w, "page %u of image %u: %s", page, number,
                      told[number][page] ? "no difference" : "a difference that is not told");
}

static void op_log(struct world *w)
{
    const int ref = (int)roll(w, REFS);
    const varve_log_options options = { .size = sizeof options, .from = ref_names[ref] };
    varve_log *log = NULL;
    const varve_commit_info *info = NULL;
    int at = w->refs[ref].at;

    tell(w, ref_names[ref], at);
    must(w, varve_log_open(w->store, &options, &log, &w->error), at == NONE ? VARVE_NOT_FOUND : VARVE_OK);
    for (unsigned steps = 0; steps < 24 && at >= 0; steps++) {
        tell(w, "then", at);
        must(w, varve_log_next(log, &info, &w->error), VARVE_OK);
        compare_info(w, info, at);
        at = retained_parent(w, at);
        if (at == NONE)
            must(w, varve_log_next(log, &info, &w->error), VARVE_END);
    }
    varve_log_close(log);
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static void op_ref(struct world *w)
{
    const int ref = (int)roll(w, REFS), at = w->refs[ref].at;
    const bool tag = strncmp(ref_names[ref], "tags/", 5) == 0;
    const bool gone = roll(w, 5) == 0;
    const int to = any_commit(w);
    const unsigned how = roll(w, 4);
    varve_commit *commit = NULL, *expected = NULL;
    uint32_t flags = 0;
    int wanted = NONE; /* where it must stand; only without force */

    if (to == NONE)
        return;
    if (!gone)
        commit = open_entry(w, to);
    if (how == 0) {
        flags = VARVE_REF_FORCE;
    } else if (how < 3 && at != NONE) {
        wanted = at;
        expected = open_entry(w, at);
    } else if (roll(w, 2) == 0) {
        wanted = any_commit(w);
        if (wanted != NONE)
            expected = open_entry(w, wanted);
    }
    varve_status answer = VARVE_OK;
    if (at == NONE && gone)
        answer = VARVE_NOT_FOUND;
    else if (at != NONE && !gone && expected != NULL && tag)
        answer = VARVE_EXISTS;
    else if (flags == 0 && !same_commit(w, wanted, at))
        answer = VARVE_CONFLICT;
    must(w, varve_ref_set(w->store, ref_names[ref], commit, expected, flags, &w->error), answer);
    if (answer == VARVE_OK)
        move_ref(w, ref, gone ? NONE : to);
    varve_commit_close(commit);
    varve_commit_close(expected);
}

static void op_refs(struct world *w)
{
    const char *after = NULL;
    varve_ref found = { .size = sizeof found };

    for (int ref = 0; ref < REFS; ref++) {
        const int at = w->refs[ref].at;
        if (at == NONE)
            continue;
        must(w, varve_ref_next(w->store, after, &found, &w->error), VARVE_OK);
        must_be(w, strcmp(found.name, ref_names[ref]) == 0, "another ref is next");
        must_be(w, same_id(&found.commit, &w->commits[at].id), "the ref names another commit");
        must_be(w, found.moves == w->refs[ref].moves, "the ref made more or fewer moves");
        after = ref_names[ref];
    }
    must(w, varve_ref_next(w->store, after, &found, &w->error), VARVE_END);
}

/* ---- Deleting ---------------------------------------------------------------------------------- */

/* A commit, or one that is held still and was deleted before. */
static void op_delete(struct world *w)
{
    const unsigned place = roll(w, 4 * HELD);
    const bool held = place < HELD && w->held[place].commit != NULL;
    const int entry = held ? w->held[place].entry : any_commit(w);
    varve_status expected = VARVE_OK;

    if (entry == NONE)
        return;
    varve_commit *commit = held ? w->held[place].commit : open_entry(w, entry);
    const int there = find_entry(w, &w->commits[entry].id);
    if (there == NONE)
        expected = VARVE_NOT_FOUND;
    for (int ref = 0; ref < REFS; ref++)
        if (there != NONE && same_commit(w, w->refs[ref].at, there))
            expected = VARVE_MISUSE;
    must(w, varve_commit_delete(w->store, commit, &w->error), expected);
    if (expected == VARVE_OK) {
        tell(w, "deleted", there);
        w->commits[there].deleted = true;
        done.deleted++;
    }
    if (!held)
        varve_commit_close(commit);
}

/* What retention keeps of one ref: the newest `newest` of a line. */
static void keep_line(struct world *w, int at, unsigned newest, bool *kept)
{
    for (; at >= 0 && newest > 0; newest--) {
        kept[at] = true;
        at = retained_parent(w, at);
    }
}

/* Give space back; now and then after retention let go of all but the newest few of each branch, and the tags. */
static void op_maintain(struct world *w)
{
    static bool kept[LIFE_MOST];
    varve_store_options options = { .size = sizeof options, .retain = 2 + roll(w, 6) };
    const varve_maintain_options dry = { .size = sizeof dry, .flags = VARVE_MAINTAIN_DRY_RUN };
    const varve_maintain_options snapshot = { .size = sizeof snapshot, .flags = VARVE_MAINTAIN_SNAPSHOT };
    const bool retains = roll(w, 8) == 0;
    uint64_t freed = 0;

    for (int ref = 0; retains && ref < REFS; ref++)
        for (int at = w->refs[ref].at; at != NONE; at = retained_parent(w, at))
            if (at == UNKNOWN)
                return;
    if (retains) {
        memset(kept, 0, sizeof kept);
        for (int ref = 0; ref < REFS; ref++)
            keep_line(w, w->refs[ref].at,
                      strncmp(ref_names[ref], "tags/", 5) == 0 ? 1 : (unsigned)options.retain, kept);
        must(w, varve_store_configure(w->store, &options, &w->error), VARVE_OK);
    }
    if (roll(w, 4) == 0)
        must(w, varve_store_maintain(w->store, &dry, &freed, &w->error), VARVE_OK);
    must(w, varve_store_maintain(w->store, roll(w, 4) == 0 ? &snapshot : NULL, &freed, &w->error), VARVE_OK);
    done.maintained++;
    done.freed += freed;
    if (!retains)
        return;
    for (size_t i = 0; i < w->count; i++) {
        done.deleted += !w->commits[i].deleted && !kept[i];
        w->commits[i].deleted = w->commits[i].deleted || !kept[i];
    }
    options.retain = VARVE_RETAIN_ALL;
    must(w, varve_store_configure(w->store, &options, &w->error), VARVE_OK);
}

/* ---- The store -------------------------------------------------------------------------------- */

static void op_stat(struct world *w)
{
    varve_store_info info = { .size = sizeof info };
    uint64_t refs = 0, sessions = 0, commits = 0;

    must(w, varve_store_stat(w->store, &info, &w->error), VARVE_OK);
    for (unsigned i = 0; i < REFS; i++)
        refs += w->refs[i].at != NONE;
    for (unsigned i = 0; i < SESSIONS; i++)
        sessions += w->work[i].session != NULL;
    for (size_t i = 0; i < w->count; i++)
        commits += !w->commits[i].deleted;
    must_be(w, info.commits == commits, "another count of commits");
    must_be(w, info.refs == refs, "another count of refs");
    must_be(w, info.sessions_open == sessions, "another count of sessions");
    must_be(w, info.writes_poisoned == 0 && info.damaged == 0, "poisoned or damaged");
    if (roll(w, 4) == 0)
        must(w, varve_store_persist(w->store, &w->error), VARVE_OK);
}

static void tell_finding(void *context, const varve_finding *finding)
{
    const struct world *w = context;

    if (finding->severity == VARVE_DAMAGE)
        wrong(w, "damage: %s: %s", finding->file == NULL ? "" : finding->file, finding->text);
}

static void open_store(struct world *w)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = VARVE_STORE_CREATE,
                                          .snapshot_bytes = 64 << 10,
                                          .finding = tell_finding,
                                          .context = w };

    must(w, varve_store_open(w->path, &options, &w->store, &w->error), VARVE_OK);
}

static void close_store(struct world *w)
{
    varve_store_info info = { .size = sizeof info };

    must(w, varve_store_stat(w->store, &info, &w->error), VARVE_OK);
    done.snapshots += info.snapshots_taken;
    for (unsigned i = 0; i < SESSIONS; i++)
        abort_work(&w->work[i]);
    for (unsigned i = 0; i < HELD; i++) {
        varve_commit_close(w->held[i].commit);
        w->held[i].commit = NULL;
    }
    varve_store_close(w->store);
    w->store = NULL;
}

static void op_reopen(struct world *w)
{
    if (roll(w, 8) != 0)
        return;
    close_store(w);
    if (roll(w, 8) == 0) {
        const varve_check_options options = { .size = sizeof options, .finding = tell_finding, .context = w };
        uint64_t damage = 0;
        must(w, varve_store_check(w->path, &options, &damage, &w->error), VARVE_OK);
        must_be(w, damage == 0, "the check found damage");
    }
    open_store(w);
    op_refs(w);
    done.reopened++;
}

/* ---- All of it -------------------------------------------------------------------------------- */

static const struct operation {
    const char *name;
    void (*run)(struct world *w);
    unsigned weight;
} operations[] = {
    { "begin", op_begin, 10 },
    { "abort", op_abort, 2 },
    { "create", op_create, 6 },
    { "grow", op_grow, 4 },
    { "remove", op_remove, 3 },
    { "write", op_write, 30 },
    { "sprinkle", op_sprinkle, 10 },
    { "read", op_read, 8 },
    { "named value", op_meta, 5 },
    { "list", op_list, 3 },
    { "savepoint", op_savepoint, 6 },
    { "rollback", op_rollback, 5 },
    { "release", op_release, 2 },
    { "root", op_root, 3 },
    { "prove", op_prove, 2 },
    { "commit", op_commit, 14 },
    { "find", op_find, 6 },
    { "hold", op_hold, 3 },
    { "read a commit", op_read_commit, 3 },
    { "diff", op_diff, 2 },
    { "log", op_log, 2 },
    { "move a ref", op_ref, 4 },
    { "delete", op_delete, 4 },
    { "maintain", op_maintain, 2 },
    { "list refs", op_refs, 2 },
    { "stat", op_stat, 2 },
    { "reopen", op_reopen, 3 },
};

static void run_one(struct world *w)
{
    unsigned total = 0, at = 0;

    w->chance = mix(w->seed ^ mix(w->op));
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        total += operations[i].weight;
    unsigned drawn = roll(w, total);
    while (drawn >= operations[at].weight)
        drawn -= operations[at++].weight;
    w->doing = operations[at].name;
    if (w->trace)
        printf("%" PRIu64 " %s\n", w->op, w->doing);
    operations[at].run(w);
}

static void begin_life(struct world *w)
{
    scratch_new(w->path);
    w->last_number = 0;
    for (unsigned i = 0; i < REFS; i++)
        w->refs[i] = (struct ref){ .at = NONE };
    open_store(w);
    done.lives++;
}

/* Everything is read once more before it goes: by the check, by another opening, and of every 16th commit all. */
static void end_life(struct world *w)
{
    uint64_t damage = 0;

    w->doing = "the end";
    close_store(w);
    must(w, varve_store_check(w->path, NULL, &damage, &w->error), VARVE_OK);
    must_be(w, damage == 0, "the check found damage");
    open_store(w);
    op_refs(w);
    for (size_t i = 0; i < w->count; i++) {
        if (w->commits[i].deleted)
            continue;
        varve_commit *commit = open_entry(w, (int)i);
        compare_info(w, varve_commit_get(commit), (int)i);
        if (i % 16 == 0)
            read_commit(w, commit, &w->commits[i].state);
        varve_commit_close(commit);
    }
    close_store(w);
    for (size_t i = 0; i < w->count; i++)
        shadow_release(&w->commits[i].state);
    w->count = 0;
    scratch_remove(w->path);
}

/* ---- Which operations, and fewer of them ------------------------------------------------------ */

struct task {
    uint64_t seed, count, life;
    bool trace;
    uint8_t *left_out; /* by operation: 1 where nothing is done */
};

/* Leave out all but `text`, "3-17,40". */
static bool parse_only(const char *text, struct task *task)
{
    memset(task->left_out, 1, task->count);
    while (*text != '\0') {
        char *end = NULL;
        const uint64_t first = strtoull(text, &end, 10);
        const uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;
        if (end == text || last < first || last >= task->count || (*end != ',' && *end != '\0'))
            return false;
        memset(task->left_out + first, 0, last - first + 1);
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

static void print_only(const struct task *task)
{
    const char *comma = "";

    for (uint64_t op = 0; op < task->count; op++) {
        const uint64_t first = op;
        if (task->left_out[op])
            continue;
        while (op + 1 < task->count && !task->left_out[op + 1])
            op++;
        printf("%s%" PRIu64, comma, first);
        if (op > first)
            printf("-%" PRIu64, op);
        comma = ",";
    }
}

static void run_all(const struct task *task)
{
    static struct world world;
    struct world *w = &world;

    w->seed = task->seed;
    w->trace = task->trace;
    for (w->op = 0; w->op < task->count; w->op++) {
        if (w->op % task->life == 0) {
            w->doing = "the beginning";
            begin_life(w);
        }
        if (!task->left_out[w->op])
            run_one(w);
        if ((w->op + 1) % task->life == 0 || w->op + 1 == task->count)
            end_life(w);
    }
}

/* In a process of its own, without a word unless `aloud`: whether it failed. */
static bool fails(const struct task *task, bool aloud)
{
    int status = 0;

    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!aloud &&
            (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL))
            _exit(0);
        run_all(task);
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status != 0;
}

/* Leave out `part` of what is left, from the `at`-th on; if it fails no more, put it back. */
static bool try_without(struct task *task, uint64_t *left, uint64_t *count, uint64_t at, uint64_t part)
{
    const uint64_t end = at + part < *count ? at + part : *count;

    for (uint64_t i = at; i < end; i++)
        task->left_out[left[i]] = 1;
    if (fails(task, false)) {
        memmove(left + at, left + end, (*count - end) * sizeof *left);
        *count -= end - at;
        return true;
    }
    for (uint64_t i = at; i < end; i++)
        task->left_out[left[i]] = 0;
    return false;
}

/* Leave out halves, then ever smaller parts, as long as it fails still. */
static void shrink(struct task *task)
{
    uint64_t *left = calloc(task->count, sizeof *left), count = 0;

    if (left == NULL)
        return;
    for (uint64_t op = 0; op < task->count; op++)
        if (!task->left_out[op])
            left[count++] = op;
    for (uint64_t part = count / 2; part > 0; part /= 2)
        for (uint64_t at = 0; at < count;)
            if (!try_without(task, left, &count, at, part))
                at += part;
    free(left);
    printf("opfuzz: %" PRIu64 " operations are enough:\nopfuzz --seed %" PRIu64 " --count %" PRIu64
           " --life %" PRIu64 " --trace --only ",
           count, task->seed, task->count, task->life);
    print_only(task);
    printf("\n");
    task->trace = true;
    (void)fails(task, true);
}

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

static uint64_t number(int argc, char **argv, const char *name, uint64_t otherwise)
{
    const char *text = option(argc, argv, name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static bool flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct task task = {
        .seed = number(argc, argv, "--seed",
                       mix((uint64_t)now.tv_sec ^ (uint64_t)now.tv_nsec << 20) % 1000000000),
        .count = number(argc, argv, "--count", 20000),
        .life = number(argc, argv, "--life", 10000),
        .trace = flag(argc, argv, "--trace"),
    };
    const char *only = option(argc, argv, "--only");
    task.left_out = calloc(task.count + 1, 1);
    if (task.left_out == NULL || task.life == 0 || task.life > LIFE_MOST || task.count == 0 ||
        (only != NULL && !parse_only(only, &task))) {
        (void)fprintf(stderr, "opfuzz: no such numbers\n");
        return 2;
    }
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    printf("opfuzz --seed %" PRIu64 " --count %" PRIu64 " --life %" PRIu64 "\n", task.seed, task.count,
           task.life);
    if (flag(argc, argv, "--shrink") && fails(&task, true)) {
        shrink(&task);
        return 1;
    }
    run_all(&task);
    printf("%" PRIu64 " operations in %" PRIu64 " stores: %" PRIu64 " commits, %" PRIu64 " refused, %" PRIu64
           " deleted, %" PRIu64 " roots and %" PRIu64 " pages compared, %" PRIu64 " times reopened, %" PRIu64
           " snapshots, %" PRIu64 " times maintained (%" PRIu64 " MiB freed), 0 differences\n",
           task.count, done.lives, done.commits, done.refused, done.deleted, done.roots, done.pages,
           done.reopened, done.snapshots, done.maintained, done.freed >> 20);
    printf("1 passed, 0 failed\n");
    free(task.left_out);
    return 0;
}
