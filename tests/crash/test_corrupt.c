/* Every file of a store, changed in every way: never a crash, never wrong bytes without an error, damage by name.
 *
 *   past     a store with commits on two branches, refs, code, checkpoints; closed, then judged once unharmed
 *   change   one file (two, when they are swapped): a bit flipped, cut, junk behind it, 4 KiB of zeros, 4 KiB from
 *            elsewhere, another file's bytes, an older version of it, gone
 *   judge    in a child: fsck; open; read every commit, ref and code and compare; map what branches name. What is
 *            read without an error must be what was stored. What cannot be read must be damage to fsck, which
 *            names a file. Now and then also open for writing, commit, and read again what could be read before.
 * `head` together with the log's end is two truths at once, so these are not swapped. Image files are caches that
 * are mapped as they are: their rot may show in a mapping, but then fsck must name it.
 * With --layout NAME the same is done to that layout. The memories of flat, the first and newest images of chain and the
 * base images of tree are mapped as they lie, too. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "past.h"
#include "scratch.h"
#include "tally.h"

enum { FILES = 256, NAME = 180, BLOCK = 4096, FLIPS = 900, BLOCKS = 160, CHILD_SECONDS = 60, SHOWN = 20 };

struct file {
    char name[NAME]; /* relative to the store */
    uint8_t *bytes;
    size_t size;
    uint8_t *stale; /* as it was once; NULL: it was not there */
    size_t stale_size;
};
static struct file files[FILES];
static unsigned file_count;
static struct past past;
static char root[SCRATCH_PATH], store_path[SCRATCH_PATH + 16], stale_path[SCRATCH_PATH + 16],
    again_path[SCRATCH_PATH + 16];
static uint64_t mutations, violations, harmless, reported;
static struct model_chance chance = { .state = 42 };
static varve_layout layout_asked = VARVE_LAYOUT_JOURNAL;

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "test_corrupt: %s: %s\n", what, vv_words());
    exit(2);
}

/* ---- Judging, in a child ------------------------------------------------------------------------ */

/* What a child tells; it lies in memory that outlives it. */
struct verdict {
    bool ended;
    bool lost; /* something could not be read */
    char denial[400];
};
static struct verdict *verdict;

static void deny(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void deny(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(verdict->denial, sizeof verdict->denial, format, args);
    va_end(args);
}

struct heard {
    bool damage, unnamed, image;
};

/* A memory as it is mapped: journal, tree; flat and chain, <mod>_<id>. */
static bool is_image(const char *file)
{
    if (layout_asked == VARVE_LAYOUT_FLAT || layout_asked == VARVE_LAYOUT_CHAIN)
        return strlen(file) == 129 && file[64] == '_';
    return strncmp(file, "image/", 6) == 0 || strstr(file, "/memory/") != NULL;
}

static void hear(void *context, const varve_finding *finding)
{
    struct heard *heard = context;

    const char *file = finding->file == NULL ? "" : finding->file;
    heard->image = heard->image || is_image(file);
    if (finding->severity != VARVE_DAMAGE)
        return;
    heard->damage = true;
    heard->unnamed = heard->unnamed || (finding->file == NULL && finding->text[0] == '\0');
}

static bool is_honest(varve_status rc)
{
    return rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND || rc == VARVE_NEWER;
}

/* One thing that was read: right, or an error that says so. Notes what is lost. */
static bool pass(varve_status rc, const char *what, unsigned number)
{
    if (rc == VARVE_OK)
        return true;
    verdict->lost = true;
    if (is_honest(rc))
        return true;
    deny("%s %u: status %d: %s", what, number, (int)rc, vv_words());
    return false;
}

static bool read_everything(varve_store *store, const struct heard *heard, bool could[PAST_COMMITS])
{
    bool well = true;

    for (unsigned i = 0; well && i < past.commit_count; i++) {
        if (past.commits[i].deleted)
            continue;
        const varve_status rc = past_read(&past, store, i);
        could[i] = rc == VARVE_OK;
        /* Each commit is also compared as a file to map: a cache, whose rot fsck has named. */
        well = (rc == VARVE_CONFLICT && heard->image) || pass(rc, "commit", i);
    }
    for (unsigned i = 0; well && i < past.ref_count; i++) {
        const varve_status rc = past_read_ref(&past, store, i);
        /* A move that is lost leaves the one before: damage, which is told. */
        well = pass(rc == VARVE_CONFLICT ? VARVE_NOT_FOUND : rc, "ref", i);
    }
    for (unsigned i = 0; well && i < past.code_count; i++) {
        const varve_status rc = past_read_code(store, i);
        well = rc == VARVE_NOT_FOUND || pass(rc, "code", i); /* no commit names it: gone is gone */
    }
    return well;
}

static bool map_tips(varve_store *store, const struct heard *heard)
{
    for (unsigned i = 0; i < past.ref_count; i++) {
        const varve_status rc = past_read_images(&past, store, past.refs[i].commit);
        if (rc == VARVE_CONFLICT && heard->image)
            continue;
        if (rc != VARVE_OK && !is_honest(rc)) {
            deny("images of %s: status %d: %s", past.refs[i].name, (int)rc, vv_words());
            return false;
        }
    }
    return true;
}

static varve_status open_store(const char *path, uint32_t flags, varve_store **store)
{
    const varve_store_options options = {
        .size = sizeof options, .flags = flags, .snapshot_bytes = 8 << 10, .layout = layout_asked
    };

    *store = NULL;
    return vv_store_open(&vv_vfs_system, path, &options, store);
}

/* Whoever writes to a store that is damaged must not make it worse. Which image file is below a commit may be another
 * afterwards, so rot in one that fsck named may show now, as it might have before; without the files it must not. */
static void write_and_judge(const struct heard *heard, const bool could[PAST_COMMITS])
{
    varve_store *store = NULL;

    if (open_store(again_path, 0, &store) != VARVE_OK)
        return;
    const bool branches = (store->layout->can & VV_CAN_BRANCH) != 0;
    const bool durable = (store->layout->can & VV_CAN_DURABLE) != 0;
    const unsigned before = past.commit_count, parent = past_stands(&past, "main");
    (void)past_commit(&past, store, branches ? "more" : "main", PAST_COMMITS,
                      durable ? VARVE_DURABLE : VARVE_BUFFERED);
    const bool more = past.commit_count > before && store->layout->persist(store->place) == VARVE_OK;
    const unsigned made = past.commit_count - 1;
    vv_store_close(store);
    if (open_store(again_path, VARVE_STORE_READ_ONLY, &store) != VARVE_OK) {
        deny("it does not open after it was open for writing: %s", vv_words());
        return;
    }
    bool rot[PAST_COMMITS + 1] = { false };
    for (unsigned i = 0; i < made + 1; i++) {
        /* On a line it was made of main's, and has what is damaged there. */
        const bool is_new = past.commit_count > before && i == made;
        const bool wanted = is_new ? more && (branches || could[parent]) : could[i];
        const varve_status rc = wanted ? past_read(&past, store, i) : VARVE_OK;
        rot[i] = rc == VARVE_CONFLICT && heard->image;
        /* The same diff may lie in two directories of a tree as two files, and either be the one that is read. What a
         * damaged delta of a chain holds lies in the newest image too, until there is a newer version. */
        if ((layout_asked == VARVE_LAYOUT_TREE || layout_asked == VARVE_LAYOUT_CHAIN) && is_honest(rc) &&
            heard->damage)
            continue;
        if (rc != VARVE_OK && !rot[i])
            deny("commit %u could be read before somebody wrote: %s", i, vv_words());
    }
    vv_store_close(store);
    char images[SCRATCH_PATH + NAME + 32];
    char aside[SCRATCH_PATH + NAME + 32];
    (void)snprintf(images, sizeof images, "%s/image", again_path);
    (void)snprintf(aside, sizeof aside, "%s/.varve/image", again_path);
    if (rename(images, aside) != 0 || open_store(again_path, VARVE_STORE_READ_ONLY, &store) != VARVE_OK)
        return;
    for (unsigned i = 0; i < made + 1; i++)
        if (rot[i] && past_read(&past, store, i) != VARVE_OK)
            deny("commit %u is lost, not only its image file: %s", i, vv_words());
    vv_store_close(store);
}

static void judge(bool and_write)
{
    struct heard heard = { .damage = false };
    const varve_check_options options = { .size = sizeof options, .finding = hear, .context = &heard };
    uint64_t damage = 0;
    varve_store *store = NULL;
    bool could[PAST_COMMITS] = { false };

    const varve_status checked = vv_store_check(&vv_vfs_system, store_path, &options, &damage);
    if (checked != VARVE_OK && !is_honest(checked)) {
        deny("fsck ends with status %d: %s", (int)checked, vv_words());
        return;
    }
    if ((damage > 0) != heard.damage || heard.unnamed) {
        deny("fsck counts %llu damages and does not say what they are", (unsigned long long)damage);
        return;
    }
    const varve_status opened = open_store(store_path, VARVE_STORE_READ_ONLY, &store);
    if (opened != VARVE_OK) {
        verdict->lost = true;
        if (!is_honest(opened))
            deny("opening ends with status %d: %s", (int)opened, vv_words());
    } else if (read_everything(store, &heard, could) && map_tips(store, &heard) && and_write) {
        write_and_judge(&heard, could);
    }
    if (verdict->lost && checked == VARVE_OK && damage == 0)
        deny("something is lost and fsck finds no damage: %s", vv_words());
    vv_store_close(store);
}

/* ---- Changing files ----------------------------------------------------------------------------- */

static void write_file(const char *name, const uint8_t *bytes, size_t size)
{
    char path[SCRATCH_PATH + NAME + 32];

    (void)snprintf(path, sizeof path, "%s/%s", store_path, name);
    if (bytes == NULL) {
        (void)unlink(path);
        return;
    }
    (void)chmod(path, 0600);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd == -1 || (size > 0 && write(fd, bytes, size) != (ssize_t)size))
        give_up(path);
    (void)close(fd);
}

/* The store lies there changed: judge it in a child. `what` says how. */
static void try_it(const char *name, const char *what, size_t at)
{
    int status = 0;

    mutations++;
    *verdict = (struct verdict){ .ended = false };
    const bool and_write = mutations % 4 == 0;
    if (and_write) {
        scratch_remove(again_path);
        scratch_copy(store_path, again_path);
    }
    const pid_t child = fork();
    if (child == -1)
        give_up("fork");
    if (child == 0) {
        (void)alarm(CHILD_SECONDS);
        judge(and_write);
        verdict->ended = true;
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child)
        give_up("waitpid");
    if (WIFSIGNALED(status))
        deny("it died of signal %d", WTERMSIG(status));
    else if (!verdict->ended)
        deny("it ended the process");
    *(verdict->lost ? &reported : &harmless) += 1;
    if (verdict->denial[0] == '\0')
        return;
    if (violations++ < SHOWN)
        (void)fprintf(stderr, "%.80s, %.80s %zu: %s\n", name, what, at, verdict->denial);
}

/* One file with these bytes, then as it was. */
static void try_bytes(const struct file *file, const uint8_t *bytes, size_t size, const char *what, size_t at)
{
    write_file(file->name, bytes, size);
    try_it(file->name, what, at);
    write_file(file->name, file->bytes, file->size);
}

/* The header of a record vouches for all of it. */
static bool is_header(const struct file *file, size_t at)
{
    return at % BLOCK < 264 && memcmp(file->bytes + at / BLOCK * BLOCK, "vRec", 4) == 0;
}

/* Bits of bytes that are not zero, evenly over all files; more in headers, few in what is zero. */
static void flip_bits(const struct file *file, size_t step, uint8_t *copy)
{
    size_t counts[3] = { 0, 0, 0 };
    const size_t steps[3] = { step, 40 * step, step / 5 + 1 };

    for (size_t i = 0; i < file->size; i++) {
        const unsigned kind = is_header(file, i) ? 2 : file->bytes[i] == 0;
        if (counts[kind]++ % steps[kind] != 0)
            continue;
        copy[i] ^= (uint8_t)(1u << model_chance(&chance, 8));
        try_bytes(file, copy, file->size, "a bit of byte", i);
        copy[i] = file->bytes[i];
    }
}

static void change_blocks(const struct file *file, size_t step, uint8_t *copy)
{
    for (size_t at = 0; at < file->size; at += BLOCK * step) {
        const size_t size = file->size - at < BLOCK ? file->size - at : BLOCK;
        const size_t from =
            file->size < 2 * BLOCK ? 0 : model_chance(&chance, (uint32_t)(file->size / BLOCK)) * BLOCK;
        memset(copy + at, 0, size);
        if (memcmp(copy, file->bytes, file->size) != 0)
            try_bytes(file, copy, file->size, "zeros in the block at", at);
        memcpy(copy + at, file->bytes + from, size);
        if (memcmp(copy, file->bytes, file->size) != 0)
            try_bytes(file, copy, file->size, "another block at", at);
        memcpy(copy + at, file->bytes + at, size);
    }
}

static void change_length(const struct file *file, size_t step, uint8_t *copy)
{
    const size_t sizes[] = { 0, 1, file->size / 2, file->size - 1 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < file->size)
            try_bytes(file, copy, sizes[i], "cut to", sizes[i]);
    for (size_t size = BLOCK; size < file->size; size += BLOCK * step)
        try_bytes(file, copy, size, "cut to", size);
    for (size_t i = 0; i < BLOCK; i++)
        copy[file->size + i] = (uint8_t)model_chance(&chance, 256);
    try_bytes(file, copy, file->size + 1, "more bytes:", 1);
    try_bytes(file, copy, file->size + BLOCK, "more bytes:", BLOCK);
    memcpy(copy + file->size, file->bytes, file->size < BLOCK ? file->size : BLOCK);
    try_bytes(file, copy, file->size + BLOCK, "its own first bytes behind it:", BLOCK);
}

static bool is_log(const struct file *file)
{
    return strncmp(file->name, "log.", 4) == 0;
}

static void swap_with_others(unsigned number)
{
    const struct file *file = &files[number];

    /* In a tree there are many files, and few kinds of them. */
    const unsigned most = layout_asked == VARVE_LAYOUT_TREE ? number + 5 : file_count;

    for (unsigned i = number + 1; i < file_count && i < most; i++) {
        const struct file *other = &files[i];
        if ((strcmp(file->name, "head") == 0 && is_log(other)) ||
            (is_log(file) && strcmp(other->name, "head") == 0))
            continue;
        write_file(file->name, other->bytes, other->size);
        write_file(other->name, file->bytes, file->size);
        try_it(file->name, other->name, i);
        write_file(file->name, file->bytes, file->size);
        write_file(other->name, other->bytes, other->size);
    }
}

static void change_file(unsigned number, size_t flip_step, size_t block_step)
{
    const struct file *file = &files[number];
    uint8_t *copy = malloc(file->size + BLOCK);

    if (copy == NULL)
        give_up("memory");
    memcpy(copy, file->bytes, file->size);
    flip_bits(file, flip_step, copy);
    change_blocks(file, block_step, copy);
    change_length(file, block_step, copy);
    free(copy);
    try_bytes(file, NULL, 0, "gone", 0);
    if (file->stale != NULL &&
        (file->stale_size != file->size || memcmp(file->stale, file->bytes, file->size) != 0))
        try_bytes(file, file->stale, file->stale_size, "as it was once, bytes", file->stale_size);
    swap_with_others(number);
}

/* ---- The store ---------------------------------------------------------------------------------- */

static uint8_t *slurp(const char *path, size_t *size)
{
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1)
        return NULL;
    if (fstat(fd, &status) != 0)
        give_up(path);
    *size = (size_t)status.st_size;
    uint8_t *bytes = malloc(*size + 1);
    if (bytes == NULL || read(fd, bytes, *size) != (ssize_t)*size)
        give_up(path);
    (void)close(fd);
    return bytes;
}

static int take_file(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    static ino_t seen[FILES];
    char stale[SCRATCH_PATH + NAME + 32];

    (void)walk;
    if (kind != FTW_F)
        return 0;
    for (unsigned i = 0; i < file_count; i++)
        if (seen[i] == status->st_ino)
            return 0; /* another name of it */
    if (file_count < FILES)
        seen[file_count] = status->st_ino;
    struct file *file = &files[file_count];
    if (file_count++ == FILES)
        give_up("too many files");
    (void)snprintf(file->name, sizeof file->name, "%s", path + strlen(store_path) + 1);
    file->bytes = slurp(path, &file->size);
    (void)snprintf(stale, sizeof stale, "%s/%.*s", stale_path, NAME, file->name);
    file->stale = slurp(stale, &file->stale_size);
    return 0;
}

/* The oldest goes where no other can. What lasts from persist on is persisted. */
static varve_status make_past(void)
{
    varve_status rc = VARVE_OK;
    varve_store *store = NULL;

    past.chance.state = 5;
    TRY(open_store(store_path, VARVE_STORE_CREATE, &store));
    const uint32_t can = store->layout->can;
    const varve_durability durability = (can & VV_CAN_DURABLE) != 0 ? VARVE_DURABLE : VARVE_BUFFERED;
    for (unsigned i = 0; i < 5; i++)
        TRY(past_commit(&past, store, "main", PAST_COMMITS, durability));
    TRY(past_code(&past, store));
    TRY(past_ref(&past, store, "tags/early", 2));
    TRY(past_tidy(store, 1 << 20));
    TRY(store->layout->persist(store->place));
    vv_store_close(store);
    scratch_copy(store_path, stale_path);
    TRY(open_store(store_path, 0, &store));
    for (unsigned i = 0; i < 4; i++) {
        if ((can & VV_CAN_BRANCH) != 0)
            TRY(past_commit(&past, store, "side", 3, durability));
        TRY(past_commit(&past, store, "main", PAST_COMMITS, durability));
    }
    TRY(past_code(&past, store));
    TRY(past_ref(&past, store, "tags/late", past.commit_count - 1));
    TRY(past_remove(&past, store, layout_asked == VARVE_LAYOUT_CHAIN ? 0 : 1));
    TRY(past_tidy(store, 1 << 20));
    TRY(store->layout->persist(store->place));
out:
    vv_store_close(store);
    return rc;
}

/* Every so-manieth byte that is not zero, so that about FLIPS of them are flipped in all. */
static size_t step_of(size_t wanted, bool blocks)
{
    size_t count = 0;

    for (unsigned i = 0; i < file_count; i++)
        for (size_t k = 0; k < files[i].size; k += blocks ? BLOCK : 1)
            count += blocks || files[i].bytes[k] != 0;
    return count / wanted + 1;
}

int main(int argc, char **argv)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const size_t scale = text == NULL || atol(text) < 1 ? 1 : (size_t)atol(text);
    const size_t part =
        getenv("VARVE_TEST_QUICK") != NULL ? 4 : 1; /* of the blocks; a flip each is what headers need */

    if (argc > 2 && strcmp(argv[1], "--layout") == 0)
        layout_asked = strcmp(argv[2], "tree") == 0    ? VARVE_LAYOUT_TREE
                       : strcmp(argv[2], "flat") == 0  ? VARVE_LAYOUT_FLAT
                       : strcmp(argv[2], "chain") == 0 ? VARVE_LAYOUT_CHAIN
                                                       : VARVE_LAYOUT_JOURNAL;
    scratch_in_memory();
    scratch_new(root);
    (void)snprintf(store_path, sizeof store_path, "%s/store", root);
    (void)snprintf(stale_path, sizeof stale_path, "%s/stale", root);
    (void)snprintf(again_path, sizeof again_path, "%s/again", root);
    verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdict == MAP_FAILED || make_past() != VARVE_OK || nftw(store_path, take_file, 8, FTW_PHYS) != 0)
        give_up("the store");
    try_it("nothing", "changed", 0);
    if (violations > 0 || verdict->lost)
        give_up("the store is not well before anything is changed");
    const size_t flip_step = step_of(FLIPS * scale, false);
    const size_t block_step = step_of(BLOCKS * scale / part, true);
    for (unsigned i = 0; i < file_count; i++) {
        const uint64_t before = mutations;
        change_file(i, flip_step, block_step);
        (void)printf("%-80.80s %8zu bytes %6llu changes\n", files[i].name, files[i].size,
                     (unsigned long long)(mutations - before));
    }
    (void)printf("%llu changes: %llu harmless, %llu reported\n", (unsigned long long)mutations,
                 (unsigned long long)harmless, (unsigned long long)reported);
    tally("corrupt", mutations, violations);
    (void)printf("%u passed, %u failed\n", violations == 0, violations != 0);
    scratch_remove(root);
    return violations == 0 ? 0 : 1;
}
