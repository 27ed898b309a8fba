/* replay.c - see replay.h.
 *
 *   recording   calls in shared memory, as they were told: files by inode, so that names may change  [take_call]
 *   history     what the calls did: nodes (files, directories) and operations on them, each with the
 *               call that made it durable                                                           [tell_history]
 *   point       after so many calls: operations that stand, and those that are pending             [look_at_point]
 *   choice      what became of each pending operation                                              [try_choices]
 *   disk        what then lies where; hashed, and if it is new, written out and checked            [try_disk]
 * Laws: what is durable at a point is part of every disk there. Operations land in the order in which they were
 * made: of two writes to one place that both land, the later one is what is read. */
#include "replay.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "page/hash.h"
#include "scratch.h"

enum {
    CALLS = 8192,
    MARKS = 512,
    NODES = 160,
    OPERATIONS = 8192,
    PENDING = 48, /* more than so many: only those are treated one by one that came last */
    NAME = 160,
    PATH = 240,
    SECTOR = 512,
    FINDINGS_SHOWN = 12
};
#define ARENA ((size_t)256 << 20)
#define NEVER UINT_MAX

static _Noreturn void give_up(const char *what, const char *path)
{
    perror(what);
    (void)fprintf(stderr, "replay: %s %s\n", what, path);
    exit(2);
}

static void *need(void *memory)
{
    if (memory == NULL)
        give_up("memory", "");
    return memory;
}

/* ---- The recording ------------------------------------------------------------------------------ */

struct raw_call {
    enum vv_double_call call;
    char path[PATH];    /* of the file or directory, relative to the world */
    uint64_t node, dir; /* inodes; 0: none */
    char name[NAME], to[NAME];
    size_t data; /* in the arena */
    uint64_t offset, size;
};
struct shared {
    unsigned call_count, mark_count;
    unsigned marks[MARKS]; /* calls made before each */
    size_t used;           /* of the arena */
    struct raw_call calls[CALLS];
};
/* What lay in the world when recording began. */
struct base_entry {
    uint64_t inode, dir; /* dir 0: the world itself */
    bool is_dir, is_link;
    char name[NAME];
    uint8_t *bytes; /* of a symbolic link its text */
    size_t size;
};
struct replay {
    struct shared *shared;
    uint8_t *arena; /* shared too */
    char world[PATH_MAX];
    struct base_entry base[NODES];
    unsigned base_count;
};

static void *map_shared(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        give_up("mmap", "");
    return memory;
}

struct replay *replay_new(void)
{
    struct replay *replay = need(calloc(1, sizeof *replay));

    replay->shared = map_shared(sizeof *replay->shared);
    replay->arena = map_shared(ARENA);
    return replay;
}

static void forget_base(struct replay *replay)
{
    for (unsigned i = 0; i < replay->base_count; i++)
        free(replay->base[i].bytes);
    replay->base_count = 0;
}

void replay_free(struct replay *replay)
{
    forget_base(replay);
    (void)munmap(replay->shared, sizeof *replay->shared);
    (void)munmap(replay->arena, ARENA);
    free(replay);
}

static uint64_t inode_of(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0 ? status.st_ino : 0;
}

static uint8_t *read_file(const char *path, size_t size)
{
    uint8_t *bytes = need(malloc(size + 1));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1 || read(fd, bytes, size) != (ssize_t)size)
        give_up("read", path);
    (void)close(fd);
    return bytes;
}

static uint8_t *read_link(const char *path, size_t *size)
{
    uint8_t *text = need(malloc(NAME));
    const ssize_t length = readlink(path, (char *)text, NAME - 1);

    if (length < 0)
        give_up("read link", path);
    *size = (size_t)length;
    return text;
}

static struct replay *scanned; /* nftw has no context argument */

static int scan_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    struct base_entry *entry = &scanned->base[scanned->base_count];
    char parent[PATH_MAX];

    if (scanned->base_count++ == NODES)
        give_up("too many files", path);
    *entry =
        (struct base_entry){ .inode = status->st_ino, .is_dir = kind == FTW_D, .is_link = kind == FTW_SL };
    if (walk->level > 0) {
        (void)snprintf(parent, sizeof parent, "%.*s", walk->base - 1, path);
        entry->dir = inode_of(parent);
        (void)snprintf(entry->name, NAME, "%s", path + walk->base);
    }
    if (kind == FTW_F) {
        entry->size = (size_t)status->st_size;
        entry->bytes = read_file(path, entry->size);
    } else if (kind == FTW_SL) {
        entry->bytes = read_link(path, &entry->size);
    }
    return 0;
}

void replay_begin(struct replay *replay, const char *world)
{
    forget_base(replay);
    replay->shared->call_count = replay->shared->mark_count = 0;
    replay->shared->used = 0;
    (void)snprintf(replay->world, sizeof replay->world, "%s", world);
    scanned = replay;
    if (nftw(world, scan_one, 16, FTW_PHYS) != 0)
        give_up("scan", world);
}

/* Where an open descriptor leads, relative to the world, as the kernel tells it. */
static void path_of(const struct replay *replay, int fd, char path[PATH])
{
    char link[64];
    char found[PATH_MAX];

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t size = readlink(link, found, sizeof found - 1);
    found[size < 0 ? 0 : size] = '\0';
    const size_t skip = strlen(replay->world);
    const bool inside = strncmp(found, replay->world, skip) == 0;
    (void)snprintf(path, PATH, "%.200s", !inside ? ".." : found[skip] == '/' ? found + skip + 1 : ".");
}

/* The directory that a name lies in, and the name's last component. */
static uint64_t place_of(int dir, const char *name, char last[NAME])
{
    const char *slash = strrchr(name, '/');
    struct stat status;
    char parent[PATH_MAX];

    (void)snprintf(last, NAME, "%.*s", NAME - 1, slash == NULL ? name : slash + 1);
    if (dir != AT_FDCWD)
        return fstat(dir, &status) == 0 ? status.st_ino : 0;
    (void)snprintf(parent, sizeof parent, "%.*s", slash == NULL ? 1 : (int)(slash - name),
                   slash == NULL ? "." : name);
    return inode_of(parent);
}

static uint64_t inode_at(int dir, const char *name)
{
    struct stat status;

    return fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
}

static void take_names(const struct replay *replay, const struct vv_double_event *event,
                       struct raw_call *call)
{
    char dir[PATH] = "";

    call->dir = place_of(event->dir, event->name, call->name);
    if (event->call == VV_CALL_LINK)
        call->dir = place_of(event->to_dir, event->to, call->name);
    else if (event->to != NULL)
        (void)snprintf(call->to, NAME, "%.*s", NAME - 1, event->to);
    if (event->call == VV_CALL_CREATE || event->call == VV_CALL_MKDIR || event->call == VV_CALL_LINK ||
        event->call == VV_CALL_SYMLINK)
        call->node = inode_at(event->dir, event->name);
    if (event->dir != AT_FDCWD)
        path_of(replay, event->dir, dir);
    const bool top = dir[0] == '\0' || strcmp(dir, ".") == 0;
    const char *slash = strrchr(event->name, '/');
    (void)snprintf(call->path, PATH, "%.70s%s%.160s", top ? "" : dir, top ? "" : "/",
                   slash == NULL ? event->name : slash + 1);
}

/* One call, told by the double after it was made. What failed changed nothing. */
static void take_call(void *context, const struct vv_double_event *event)
{
    struct replay *replay = context;
    struct shared *shared = replay->shared;
    struct raw_call *call = &shared->calls[shared->call_count];
    struct stat status;

    if (event->result != 0)
        return;
    if (shared->call_count == CALLS)
        give_up("too many calls", "");
    memset(call, 0, sizeof *call);
    call->call = event->call;
    call->offset = event->offset;
    call->size = event->size;
    if (event->name != NULL) {
        take_names(replay, event, call);
    } else {
        path_of(replay, event->fd, call->path);
        call->node = fstat(event->fd, &status) == 0 ? status.st_ino : 0;
    }
    if (event->call == VV_CALL_WRITE || event->call == VV_CALL_COPY) {
        uint8_t *bytes = replay->arena + shared->used;
        if (event->size > ARENA - shared->used)
            give_up("too many bytes", "");
        call->data = shared->used;
        if (event->call == VV_CALL_WRITE)
            memcpy(bytes, event->data, event->size);
        else if (pread(event->fd, bytes, event->size, 0) != (ssize_t)event->size)
            give_up("read back a copy", call->path);
        call->call = VV_CALL_WRITE; /* a copy is a write of all of it */
        shared->used += event->size;
    }
    __atomic_store_n(&shared->call_count, shared->call_count + 1, __ATOMIC_RELEASE);
}

void replay_attach(struct replay *replay, struct vv_double *d)
{
    d->record = take_call;
    d->context = replay;
}

unsigned replay_mark(struct replay *replay)
{
    struct shared *shared = replay->shared;

    if (shared->mark_count == MARKS)
        give_up("too many marks", "");
    shared->marks[shared->mark_count++] = shared->call_count;
    return shared->call_count;
}

unsigned replay_calls(const struct replay *replay)
{
    return replay->shared->call_count;
}

enum vv_double_call replay_call(const struct replay *replay, unsigned number)
{
    VV_ASSERT(number < replay->shared->call_count);
    return replay->shared->calls[number].call;
}

/* ---- The history -------------------------------------------------------------------------------- */

struct node {
    uint64_t inode;
    bool is_dir, is_link;
    const struct base_entry *base; /* NULL: made by a call */
    const char *text;              /* of a symbolic link that a call made */
    /* At the point that is looked at: */
    uint8_t *bytes; /* that stand */
    size_t size, capacity;
    bool pending;               /* it has operations that are */
    uint8_t hash[VV_HASH_SIZE]; /* of the bytes that stand, when none is pending */
};
enum kind { BYTES, HOLE, LENGTH, GROW, NAMES }; /* HOLE: bytes that become zeros */
struct operation {
    enum kind kind;
    unsigned at, durable_at; /* calls */
    unsigned node;           /* bytes and lengths: of which file; names: the directory */
    const uint8_t *data;     /* BYTES only */
    uint64_t offset, size;
    char add[NAME], remove[NAME]; /* "": none */
    unsigned added;               /* node */
};
/* A name that is there. */
struct name {
    unsigned dir, node;
    char name[NAME];
};
struct names {
    struct name list[NODES];
    unsigned count;
};

/* What becomes of a pending operation. */
struct choice {
    bool lands;
    bool extends;        /* bytes: the length is that of all of it, whatever landed */
    bool garbles;        /* bytes: and the sectors that these lie in hold garbage, other bytes in them too */
    uint64_t hole, size; /* bytes that do not land */
};
struct history {
    struct replay *replay;
    const struct replay_scope *scope;
    replay_check_fn check;
    void *context;
    struct replay_report *report;
    struct node nodes[NODES];
    unsigned node_count;
    struct operation operations[OPERATIONS];
    unsigned operation_count;
    struct names live; /* while it is told: as of all calls so far */
    /* The point that is looked at. */
    unsigned point, marks;
    struct operation *pending[OPERATIONS];
    struct choice choices[OPERATIONS];
    unsigned pending_count;
    struct names stand;
    struct names there; /* on the disk that is tried */
    uint8_t *scratch;   /* bytes of a file of it */
    size_t scratch_capacity;
    char tried[160]; /* in words */
    /* Disks that were tried. */
    uint8_t (*seen)[VV_HASH_SIZE];
    size_t seen_count, seen_capacity;
    uint64_t chance;
    unsigned shown;
    char root[SCRATCH_PATH], disk[SCRATCH_PATH + 8];
};

static char current[512];

const char *replay_current(void)
{
    return current;
}

static unsigned node_of(const struct history *h, uint64_t inode)
{
    for (unsigned i = h->node_count; i-- > 0;) /* an inode that is used again: the newest */
        if (h->nodes[i].inode == inode)
            return i;
    return NEVER;
}

static unsigned add_node(struct history *h, uint64_t inode, bool is_dir, const struct base_entry *base)
{
    if (h->node_count == NODES)
        give_up("too many files", h->scope->name);
    h->nodes[h->node_count] = (struct node){
        .inode = inode, .is_dir = is_dir, .is_link = base != NULL && base->is_link, .base = base
    };
    return h->node_count++;
}

static struct name *find_name(struct names *names, unsigned dir, const char *name)
{
    for (unsigned i = 0; i < names->count; i++)
        if (names->list[i].dir == dir && strcmp(names->list[i].name, name) == 0)
            return &names->list[i];
    return NULL;
}

static void set_name(struct names *names, unsigned dir, const char *name, unsigned node)
{
    struct name *found = find_name(names, dir, name);

    if (found == NULL) {
        if (names->count == NODES)
            give_up("too many names", name);
        found = &names->list[names->count++];
        found->dir = dir;
        (void)snprintf(found->name, NAME, "%s", name);
    }
    found->node = node;
}

static void remove_name(struct names *names, unsigned dir, const char *name)
{
    struct name *found = find_name(names, dir, name);

    if (found != NULL)
        *found = names->list[--names->count];
}

static void land_names(struct names *names, const struct operation *operation)
{
    if (operation->remove[0] != '\0')
        remove_name(names, operation->node, operation->remove);
    if (operation->add[0] != '\0')
        set_name(names, operation->node, operation->add, operation->added);
}

static struct operation *add_operation(struct history *h, enum kind kind, unsigned at, unsigned node)
{
    if (h->operation_count == OPERATIONS)
        give_up("too many operations", h->scope->name);
    struct operation *operation = &h->operations[h->operation_count++];
    *operation = (struct operation){ .kind = kind, .at = at, .durable_at = NEVER, .node = node };
    return operation;
}

static void tell_names(struct history *h, const struct raw_call *call, unsigned at)
{
    const unsigned dir = node_of(h, call->dir);
    const enum vv_double_call kind = call->call;
    struct name *found = dir == NEVER ? NULL : find_name(&h->live, dir, call->name);

    if (dir == NEVER || (kind == VV_CALL_CREATE && found != NULL))
        return; /* beside the world, or there already */
    struct operation *operation = add_operation(h, NAMES, at, dir);
    if (kind == VV_CALL_CREATE || kind == VV_CALL_MKDIR || kind == VV_CALL_SYMLINK) {
        operation->added = add_node(h, call->node, kind == VV_CALL_MKDIR, NULL);
        memcpy(operation->add, call->name, NAME);
        if (kind == VV_CALL_SYMLINK) { /* its text is there with its name, or neither is */
            h->nodes[operation->added].is_link = true;
            h->nodes[operation->added].text = call->to;
        }
    } else if (kind == VV_CALL_LINK) {
        operation->added = node_of(h, call->node);
        memcpy(operation->add, call->name, NAME);
    } else {
        memcpy(operation->remove, call->name, NAME);
        if (kind == VV_CALL_RENAME) {
            VV_ASSERT(found != NULL);
            operation->added = found->node;
            memcpy(operation->add, call->to, NAME);
        }
    }
    land_names(&h->live, operation);
}

static void tell_bytes(struct history *h, const struct raw_call *call, unsigned at)
{
    static const enum kind kinds[VV_CALL_COUNT] = {
        [VV_CALL_WRITE] = BYTES,
        [VV_CALL_PUNCH] = HOLE,
        [VV_CALL_TRUNCATE] = LENGTH,
        [VV_CALL_ALLOCATE] = GROW,
    };
    const unsigned node = node_of(h, call->node);

    if (node == NEVER)
        return;
    struct operation *operation = add_operation(h, kinds[call->call], at, node);
    operation->data = h->replay->arena + call->data;
    operation->offset = call->offset;
    operation->size = call->size;
    if (h->scope->is_dull != NULL && h->scope->is_dull(call->path))
        operation->durable_at = at;
}

/* A sync makes durable what was done before to that file's bytes, or to that directory's names. */
static void tell_sync(struct history *h, const struct raw_call *call, unsigned at)
{
    const unsigned node = node_of(h, call->node);

    for (unsigned i = 0; i < h->operation_count; i++) {
        struct operation *operation = &h->operations[i];
        if (operation->node == node && operation->durable_at == NEVER)
            operation->durable_at = at;
    }
}

static void tell_history(struct history *h)
{
    const struct shared *shared = h->replay->shared;

    for (unsigned i = 0; i < h->replay->base_count; i++) { /* a directory comes before what is in it */
        const struct base_entry *base = &h->replay->base[i];
        const unsigned node = add_node(h, base->inode, base->is_dir, base);
        if (i > 0)
            set_name(&h->stand, node_of(h, base->dir), base->name, node);
    }
    h->live = h->stand;
    for (unsigned at = 0; at < shared->call_count; at++) {
        const struct raw_call *call = &shared->calls[at];
        switch (call->call) {
        case VV_CALL_CREATE:
        case VV_CALL_MKDIR:
        case VV_CALL_RENAME:
        case VV_CALL_UNLINK:
        case VV_CALL_LINK:
        case VV_CALL_SYMLINK:
            tell_names(h, call, at);
            break;
        case VV_CALL_WRITE:
        case VV_CALL_PUNCH:
        case VV_CALL_ALLOCATE:
        case VV_CALL_TRUNCATE:
            tell_bytes(h, call, at);
            break;
        case VV_CALL_SYNC:
        case VV_CALL_SYNC_DIR:
            tell_sync(h, call, at);
            break;
        case VV_CALL_COPY: /* recorded as a write */
        case VV_CALL_COUNT:
            break;
        }
    }
}

/* ---- A disk ------------------------------------------------------------------------------------- */

static void reach(uint8_t **bytes, size_t *capacity, size_t size)
{
    if (size <= *capacity)
        return;
    *capacity = 2 * size;
    *bytes = need(realloc(*bytes, *capacity));
}

static void set_length(uint8_t **bytes, size_t *size, size_t *capacity, size_t wanted)
{
    if (wanted > *size) {
        reach(bytes, capacity, wanted);
        memset(*bytes + *size, 0, wanted - *size);
    }
    *size = wanted;
}

static void put_piece(uint8_t **bytes, size_t *size, size_t *capacity, const struct operation *operation,
                      uint64_t from, uint64_t to)
{
    if (from >= to)
        return;
    const size_t end = (size_t)(operation->offset + to);
    if (end > *size)
        set_length(bytes, size, capacity, end);
    memcpy(*bytes + operation->offset + from, operation->data + from, (size_t)(to - from));
}

/* A hole leaves a file's length alone. */
static void put_hole(uint8_t *bytes, size_t size, const struct operation *operation, uint64_t from,
                     uint64_t to)
{
    const uint64_t first = operation->offset + from;
    const uint64_t end = operation->offset + to < size ? operation->offset + to : size;

    if (first < end)
        memset(bytes + first, 0, (size_t)(end - first));
}

/* A drive that loses power in the middle of a sector may leave anything in it. */
static void garble(uint8_t *bytes, size_t size, uint64_t from, uint64_t to)
{
    const uint64_t first = from / SECTOR * SECTOR;
    const uint64_t end = (to + SECTOR - 1) / SECTOR * SECTOR;

    if (from < to && first < size)
        memset(bytes + first, 0xa5, (size_t)((end < size ? end : size) - first));
}

static void land_bytes(uint8_t **bytes, size_t *size, size_t *capacity, const struct operation *operation,
                       const struct choice *choice)
{
    const size_t end = (size_t)(operation->offset + operation->size);

    if (operation->kind == LENGTH) {
        set_length(bytes, size, capacity, (size_t)operation->size);
        return;
    }
    if (operation->kind == HOLE) {
        put_hole(*bytes, *size, operation, 0, choice->hole);
        put_hole(*bytes, *size, operation, choice->hole + choice->size, operation->size);
        return;
    }
    if (operation->kind == GROW || choice->extends) {
        if (end > *size)
            set_length(bytes, size, capacity, end);
    }
    if (operation->kind == BYTES) {
        put_piece(bytes, size, capacity, operation, 0, choice->hole);
        put_piece(bytes, size, capacity, operation, choice->hole + choice->size, operation->size);
        if (choice->garbles)
            garble(*bytes, *size, operation->offset + choice->hole,
                   operation->offset + choice->hole + choice->size);
    }
}

/* The bytes of a node on the disk that is tried; lent until the next call. */
static const uint8_t *bytes_of(struct history *h, unsigned node, size_t *size)
{
    const struct node *at = &h->nodes[node];

    *size = at->size;
    if (!at->pending)
        return at->bytes;
    reach(&h->scratch, &h->scratch_capacity, at->size + 1);
    if (at->size > 0)
        memcpy(h->scratch, at->bytes, at->size);
    for (unsigned i = 0; i < h->pending_count; i++)
        if (h->pending[i]->kind != NAMES && h->pending[i]->node == node && h->choices[i].lands)
            land_bytes(&h->scratch, size, &h->scratch_capacity, h->pending[i], &h->choices[i]);
    return h->scratch;
}

static void hash_dir(struct history *h, unsigned dir, struct vv_hasher *hasher, unsigned depth)
{
    uint8_t hash[VV_HASH_SIZE];

    VV_ASSERT(depth < 8);
    for (unsigned i = 0; i < h->there.count; i++) {
        const struct name *name = &h->there.list[i];
        if (name->dir != dir)
            continue;
        vv_hasher_put(hasher, name->name, strlen(name->name) + 1);
        vv_hasher_u64(hasher, h->nodes[name->node].is_link);
        if (h->nodes[name->node].is_dir) {
            vv_hasher_u64(hasher, 1);
            hash_dir(h, name->node, hasher, depth + 1);
            vv_hasher_u64(hasher, 2);
            continue;
        }
        const uint8_t *sum = h->nodes[name->node].hash;
        if (h->nodes[name->node].pending) {
            size_t size = 0;
            const uint8_t *bytes = bytes_of(h, name->node, &size);
            vv_hash(VV_HASH_RECORD, bytes, size, hash);
            sum = hash;
        }
        vv_hasher_put(hasher, sum, VV_HASH_SIZE);
    }
}

static bool is_new(struct history *h, const uint8_t hash[VV_HASH_SIZE])
{
    if (2 * (h->seen_count + 1) > h->seen_capacity) {
        const size_t old = h->seen_capacity;
        uint8_t(*was)[VV_HASH_SIZE] = h->seen;
        h->seen_capacity = old == 0 ? 256 : 4 * old;
        h->seen = need(calloc(h->seen_capacity, VV_HASH_SIZE));
        h->seen_count = 0;
        for (size_t i = 0; i < old; i++)
            if (!vv_hash_is_zero(was[i]))
                (void)is_new(h, was[i]);
        free(was);
    }
    uint64_t place = 0;
    memcpy(&place, hash, sizeof place);
    for (place &= h->seen_capacity - 1;; place = (place + 1) & (h->seen_capacity - 1)) {
        if (vv_hash_is_zero(h->seen[place]))
            break;
        if (vv_hash_equal(h->seen[place], hash))
            return false;
    }
    memcpy(h->seen[place], hash, VV_HASH_SIZE);
    h->seen_count++;
    return true;
}

static void write_file(const char *path, const uint8_t *bytes, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1)
        give_up("write", path);
    for (size_t at = 0; at < size;) { /* zeros stay holes, which read the same */
        const size_t part = size - at < VV_PAGE_SIZE ? size - at : VV_PAGE_SIZE;
        const bool empty = part == VV_PAGE_SIZE && vv_page_is_zero(bytes + at);
        if (!empty && pwrite(fd, bytes + at, part, (off_t)at) != (ssize_t)part)
            give_up("write", path);
        at += part;
    }
    if (ftruncate(fd, (off_t)size) != 0)
        give_up("write", path);
    (void)close(fd);
}

static void write_link(const char *path, const uint8_t *bytes, size_t size)
{
    char text[NAME];

    (void)snprintf(text, sizeof text, "%.*s", (int)size, (const char *)bytes);
    if (symlink(text, path) != 0)
        give_up("link", path);
}

static void write_dir(struct history *h, unsigned dir, const char *path)
{
    char below[PATH_MAX];

    if (mkdir(path, 0700) != 0)
        give_up("make", path);
    for (unsigned i = 0; i < h->there.count; i++) {
        const struct name *name = &h->there.list[i];
        if (name->dir != dir)
            continue;
        (void)snprintf(below, sizeof below, "%s/%s", path, name->name);
        if (h->nodes[name->node].is_dir) {
            write_dir(h, name->node, below);
        } else {
            size_t size = 0;
            const uint8_t *bytes = bytes_of(h, name->node, &size);
            if (h->nodes[name->node].is_link)
                write_link(below, bytes, size);
            else
                write_file(below, bytes, size);
        }
    }
}

static void find(struct history *h, const char *denial)
{
    h->report->violations++;
    if (h->shown++ >= FINDINGS_SHOWN)
        return;
    (void)fprintf(stderr, "%s: %s\n", current, denial);
}

static bool is_enough(const struct history *h)
{
    return h->scope->enough != 0 && h->report->violations >= h->scope->enough;
}

static void try_disk(struct history *h)
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];
    char denial[512] = "";
    const struct raw_call *last = h->point > 0 ? &h->replay->shared->calls[h->point - 1] : NULL;

    if (is_enough(h))
        return;
    h->report->tried++;
    h->there = h->stand;
    for (unsigned i = 0; i < h->pending_count; i++)
        if (h->pending[i]->kind == NAMES && h->choices[i].lands)
            land_names(&h->there, h->pending[i]);
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_u64(&hasher, h->marks);
    hash_dir(h, 0, &hasher, 0);
    vv_hasher_end(&hasher, hash);
    if (!is_new(h, hash))
        return;
    h->report->distinct++;
    if (h->scope->one_in > 1 && h->report->distinct % h->scope->one_in != 0)
        return;
    h->report->checked++;
    (void)snprintf(current, sizeof current, "%s: after call %u (%s %s), %s", h->scope->name, h->point,
                   last == NULL ? "" : vv_double_call_name(last->call), last == NULL ? "" : last->path,
                   h->tried);
    write_dir(h, 0, h->disk);
    if (!h->check(h->context, h->disk, h->point, denial))
        find(h, denial);
    scratch_remove(h->disk);
}

/* ---- Choices ------------------------------------------------------------------------------------ */

static void choose_all(struct history *h, bool lands)
{
    for (unsigned i = 0; i < h->pending_count; i++)
        h->choices[i] = (struct choice){ .lands = lands };
}

/* In words, for findings: what is done, and to which operation. */
static void say(struct history *h, const char *what, unsigned which)
{
    static const char *const kinds[] = { "write", "hole", "length", "allocation", "name" };

    if (which == NEVER) {
        (void)snprintf(h->tried, sizeof h->tried, "%s of %u pending", what, h->pending_count);
        return;
    }
    const struct operation *operation = h->pending[which];
    const struct raw_call *call = &h->replay->shared->calls[operation->at];
    (void)snprintf(h->tried, sizeof h->tried, "%s: %s of call %u, %.60s @%llu+%llu", what,
                   kinds[operation->kind], operation->at + 1, call->path,
                   (unsigned long long)operation->offset, (unsigned long long)operation->size);
}

static void try_as(struct history *h, const char *what, unsigned which, struct choice choice)
{
    h->choices[which] = choice;
    say(h, what, which);
    try_disk(h);
}

/* The ways in which one write may be torn, all others as they were chosen. */
static void tear(struct history *h, unsigned which)
{
    const uint64_t size = h->pending[which]->size;
    const uint64_t half = size / 2;
    const uint64_t page = size > VV_PAGE_SIZE ? VV_PAGE_SIZE : 0;

    try_as(h, "zeros", which, (struct choice){ .lands = true, .extends = true, .size = size });
    try_as(h, "garbage", which,
           (struct choice){ .lands = true, .extends = true, .garbles = true, .size = size });
    if (size < 2)
        return;
    try_as(h, "first half", which, (struct choice){ .lands = true, .hole = half, .size = size - half });
    try_as(h, "first half and length", which,
           (struct choice){ .lands = true, .extends = true, .hole = half, .size = size - half });
    try_as(h, "second half", which, (struct choice){ .lands = true, .size = half });
    if (size <= SECTOR)
        return;
    try_as(h, "all but the first sector", which, (struct choice){ .lands = true, .size = SECTOR });
    try_as(h, "all but the last sector", which,
           (struct choice){ .lands = true,
                            .extends = true,
                            .hole = (size - 1) / SECTOR * SECTOR,
                            .size = size - (size - 1) / SECTOR * SECTOR });
    if (page != 0)
        try_as(h, "all but a page", which,
               (struct choice){ .lands = true, .hole = half / page * page, .size = page });
}

/* A hole is made block by block: a half of it may be there, or all but one. */
static void make_hole_in_part(struct history *h, unsigned which)
{
    const uint64_t blocks = h->pending[which]->size / VV_PAGE_SIZE;
    const uint64_t half = blocks / 2 * VV_PAGE_SIZE;

    if (blocks < 2)
        return;
    try_as(h, "first half", which,
           (struct choice){ .lands = true, .hole = half, .size = h->pending[which]->size - half });
    try_as(h, "second half", which, (struct choice){ .lands = true, .size = half });
    if (blocks > 2)
        try_as(h, "all but a block", which,
               (struct choice){ .lands = true, .hole = half, .size = VV_PAGE_SIZE });
}

static void vary(struct history *h, unsigned which)
{
    if (h->pending[which]->kind == BYTES)
        tear(h, which);
    else if (h->pending[which]->kind == HOLE)
        make_hole_in_part(h, which);
}

static uint64_t next_chance(struct history *h)
{
    h->chance = h->chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return h->chance >> 33;
}

static void choose_by_chance(struct history *h)
{
    for (unsigned i = 0; i < h->pending_count; i++) {
        const uint64_t size = h->pending[i]->size;
        const uint64_t unit = h->pending[i]->kind == HOLE ? VV_PAGE_SIZE : SECTOR;
        const uint64_t sectors = (size + unit - 1) / unit;
        h->choices[i] = (struct choice){ .lands = next_chance(h) % 2 == 0 };
        if ((h->pending[i]->kind != BYTES && h->pending[i]->kind != HOLE) || h->scope->brief ||
            next_chance(h) % 3 != 0 || sectors < 2)
            continue;
        h->choices[i].lands = true;
        h->choices[i].extends = next_chance(h) % 2 == 0;
        h->choices[i].hole = next_chance(h) % sectors * unit;
        const uint64_t left = size - h->choices[i].hole;
        const uint64_t wanted = (1 + next_chance(h) % sectors) * unit;
        h->choices[i].size = wanted < left ? wanted : left;
    }
}

/* A hint is written over and over, and never synced: only what it says last is looked at closely. */
static bool is_close_up(const struct history *h, unsigned which)
{
    const struct operation *operation = h->pending[which];

    if (h->scope->is_hint == NULL || operation->kind == NAMES ||
        !h->scope->is_hint(h->replay->shared->calls[operation->at].path))
        return true;
    for (unsigned i = which + 1; i < h->pending_count; i++)
        if (h->pending[i]->node == operation->node && h->pending[i]->kind != NAMES)
            return false;
    return true;
}

static void try_choices(struct history *h)
{
    const unsigned count = h->pending_count;
    const unsigned first = count > PENDING ? count - PENDING : 0;

    choose_all(h, false);
    say(h, "none", NEVER);
    try_disk(h);
    for (unsigned i = 0; i < count; i++) { /* prefixes; the last is all */
        h->choices[i].lands = true;
        if (i >= first && is_close_up(h, i)) {
            say(h, "all up to", i);
            try_disk(h);
        }
    }
    for (unsigned i = first; i < count && count > 1; i++) {
        if (!is_close_up(h, i))
            continue;
        choose_all(h, true);
        try_as(h, "all but", i, (struct choice){ .lands = false });
        choose_all(h, false);
        try_as(h, "only", i, (struct choice){ .lands = true });
    }
    for (unsigned i = first; i < count && !h->scope->brief; i++) {
        if (!is_close_up(h, i))
            continue;
        choose_all(h, true);
        vary(h, i);
        choose_all(h, false);
        vary(h, i);
    }
    choose_all(h, true);
    for (unsigned i = 0; i < count; i++)
        if (h->pending[i]->kind == BYTES)
            h->choices[i] = (struct choice){ .lands = true, .extends = true, .size = h->pending[i]->size };
    say(h, "names without bytes", NEVER);
    try_disk(h);
    for (unsigned i = 0; i < h->scope->chances && count > 2; i++) {
        choose_by_chance(h);
        say(h, "a subset by chance", NEVER);
        try_disk(h);
    }
}

/* ---- Points ------------------------------------------------------------------------------------- */

static unsigned marks_at(const struct history *h, unsigned point)
{
    const struct shared *shared = h->replay->shared;
    unsigned count = 0;

    while (count < shared->mark_count && shared->marks[count] <= point)
        count++;
    return count;
}

/* Nothing new can lie on the disk after a sync, but for what is promised then. */
static bool is_worth_it(const struct history *h, unsigned point)
{
    if (point == h->scope->first || point == 0 || marks_at(h, point) != marks_at(h, point - 1))
        return true;
    const struct raw_call *last = &h->replay->shared->calls[point - 1];
    return last->call != VV_CALL_SYNC && last->call != VV_CALL_SYNC_DIR;
}

static void start_bytes(struct node *node)
{
    node->size = 0;
    if (node->text != NULL) {
        set_length(&node->bytes, &node->size, &node->capacity, strlen(node->text));
        memcpy(node->bytes, node->text, node->size);
    } else if (node->base != NULL && !node->is_dir) {
        set_length(&node->bytes, &node->size, &node->capacity, node->base->size);
        if (node->size > 0)
            memcpy(node->bytes, node->base->bytes, node->size);
    }
}

static void start_names(struct history *h)
{
    h->stand.count = 0;
    for (unsigned i = 1; i < h->replay->base_count; i++)
        set_name(&h->stand, node_of(h, h->replay->base[i].dir), h->replay->base[i].name, i);
}

static void look_at_point(struct history *h, unsigned point)
{
    const struct choice lands = { .lands = true };

    h->point = point;
    h->marks = marks_at(h, point);
    h->pending_count = 0;
    start_names(h);
    for (unsigned i = 0; i < h->node_count; i++) {
        h->nodes[i].pending = false;
        start_bytes(&h->nodes[i]);
    }
    for (unsigned i = 0; i < h->operation_count && h->operations[i].at < point; i++) {
        struct operation *operation = &h->operations[i];
        struct node *node = &h->nodes[operation->node];
        if (operation->durable_at >= point) {
            h->pending[h->pending_count++] = operation;
            node->pending = node->pending || operation->kind != NAMES;
        } else if (operation->kind == NAMES) {
            land_names(&h->stand, operation);
        } else {
            land_bytes(&node->bytes, &node->size, &node->capacity, operation, &lands);
        }
    }
    for (unsigned i = 0; i < h->node_count; i++)
        if (!h->nodes[i].is_dir && !h->nodes[i].pending)
            vv_hash(VV_HASH_RECORD, h->nodes[i].size == 0 ? (const uint8_t *)"" : h->nodes[i].bytes,
                    h->nodes[i].size, h->nodes[i].hash);
}

void replay_run(struct replay *replay, const struct replay_scope *scope, replay_check_fn check, void *context,
                struct replay_report *report)
{
    struct history *h = need(calloc(1, sizeof *h));

    h->replay = replay;
    h->scope = scope;
    h->check = check;
    h->context = context;
    h->report = report;
    h->chance = 1 + replay->shared->call_count;
    scratch_new(h->root);
    (void)snprintf(h->disk, sizeof h->disk, "%s/disk", h->root);
    tell_history(h);
    for (unsigned point = scope->first; point <= replay->shared->call_count; point++) {
        if (!is_worth_it(h, point) || is_enough(h))
            continue;
        look_at_point(h, point);
        try_choices(h);
    }
    report->workloads++;
    report->calls += replay->shared->call_count - scope->first;
    scratch_remove(h->root);
    for (unsigned i = 0; i < h->node_count; i++)
        free(h->nodes[i].bytes);
    free(h->scratch);
    free(h->seen);
    free(h);
}
