/* standalone.c - run a fuzz target as an ordinary test, without libFuzzer.
 *
 *   fuzz_NAME CORPUS               every file of CORPUS: as it is, every prefix of it, and seeded mutations
 *   fuzz_NAME CORPUS FILE NUMBER   the one input that a failure named: written to stdout, then run
 *
 * The inputs depend on nothing but the files' bytes and VARVE_FUZZ_RUNS (mutations of each file, default
 * 4000), so a failure is found again. Each input ends at a page that cannot be read: a decoder that reads one
 * byte too far dies here even without a sanitizer. */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    INPUT_MAX = 1 << 20, /* corpus files are small: a longer one is an error */
    PREFIXES_MAX = 4096, /* longer files are cut at this many places, evenly */
    FILES_MAX = 1024,
    RUNS_DEFAULT = 4000,
    STEPS_MAX = 4 /* changes on top of each other in one mutation */
};

struct corpus {
    char *names[FILES_MAX];
    size_t count;
};

static uint8_t *arena;              /* INPUT_MAX bytes, then a page without access */
static uint8_t original[INPUT_MAX]; /* the file that is being varied */
static uint8_t varied[INPUT_MAX];
static char where[512];                  /* what a signal handler says: made before each file */
static volatile unsigned current_number; /* which of its inputs runs */

static void die(const char *what, const char *which)
{
    fprintf(stderr, "%s: %s\n", which, what);
    exit(2);
}

/* ---- reporting: what died must be named, from inside a signal handler ---- */

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(3);
}

static void on_death(int number)
{
    char digits[16];
    size_t at = sizeof digits - 1;
    unsigned left = current_number;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    say("\ndied on: ");
    say(where);
    say(" ");
    say(digits + at);
    say("\n");
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- chance: xorshift64*, seeded by the file's bytes and the input's number ---- */

static uint64_t chance_state;

static uint64_t chance(void)
{
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return chance_state * UINT64_C(2685821657736338717);
}

static size_t chance_below(size_t limit)
{
    return limit == 0 ? 0 : (size_t)(chance() % limit);
}

static void chance_seed(const uint8_t *data, size_t size, unsigned number)
{
    uint64_t sum = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * UINT64_C(1099511628211);
    chance_state = (sum ^ number) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    (void)chance();
}

/* ---- mutations ---- */

/* Put an integer that decoders trip over, little-endian, over 1, 2, 4 or 8 bytes at `at`. */
static void put_hard_number(uint8_t *data, size_t size, size_t at)
{
    static const uint64_t hard[] = {
        0,
        1,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        4095,
        4096,
        4097,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        UINT64_C(0x100000000),
        INT64_MAX,
        UINT64_C(1) << 63,
        UINT64_MAX,
    };
    const uint64_t value = hard[chance_below(sizeof hard / sizeof hard[0])];
    const size_t width = (size_t)1 << chance_below(4);

    for (size_t i = 0; i < width && at + i < size; i++)
        data[at + i] = (uint8_t)(value >> (8 * i));
}

/* Add or take a little from one byte, bit or integer; move, double or drop a piece. Returns the new size. */
static size_t mutate_once(uint8_t *data, size_t size)
{
    const size_t at = chance_below(size);
    const size_t other = chance_below(size);
    size_t length = 1 + chance_below(chance_below(4) == 0 ? size : 16);

    if (size == 0) {
        data[0] = (uint8_t)chance();
        return 1;
    }
    if (length > size - at)
        length = size - at;
    switch (chance_below(8)) {
    case 0:
        data[at] ^= (uint8_t)(1u << chance_below(8));
        return size;
    case 1:
        data[at] = (uint8_t)chance();
        return size;
    case 2:
        data[at] = (uint8_t)(data[at] + (chance_below(2) == 0 ? 1 : -1));
        return size;
    case 3:
    case 4:
        put_hard_number(data, size, at);
        return size;
    case 5: /* drop a piece */
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 6: /* double a piece */
        if (size + length > INPUT_MAX)
            return size;
        memmove(data + at + length, data + at, size - at);
        return size + length;
    default: /* one piece over another */
        if (length > size - other)
            length = size - other;
        memmove(data + other, data + at, length);
        return size;
    }
}

/* ---- running ---- */

static unsigned prefix_count(size_t size)
{
    return size < PREFIXES_MAX ? (unsigned)size : PREFIXES_MAX;
}

/* Make input `number` of the file in `original`: 0 is the file, then its prefixes, then mutations. */
static size_t make_input(size_t size, unsigned number)
{
    const unsigned prefixes = prefix_count(size);
    size_t result = size;

    memcpy(varied, original, size);
    if (number == 0)
        return size;
    if (number <= prefixes)
        return (size_t)((uint64_t)size * (number - 1) / prefixes);
    chance_seed(original, size, number);
    for (size_t steps = 1 + chance_below(STEPS_MAX); steps > 0; steps--)
        result = mutate_once(varied, result);
    return result;
}

static void run_input(size_t size)
{
    uint8_t *const input = arena + INPUT_MAX - size;

    memcpy(input, varied, size);
    if (LLVMFuzzerTestOneInput(input, size) != 0)
        die("the target must return 0", where);
}

static size_t read_file(const char *path)
{
    FILE *const file = fopen(path, "rb");

    if (file == NULL)
        die("cannot open", path);
    const size_t size = fread(original, 1, sizeof original, file);
    if (ferror(file) || fgetc(file) != EOF)
        die("cannot read, or too long", path);
    fclose(file);
    return size;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_corpus(const char *folder, struct corpus *corpus)
{
    DIR *const dir = opendir(folder);

    corpus->count = 0;
    if (dir == NULL)
        die("cannot open", folder);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        if (corpus->count == FILES_MAX)
            die("too many files", folder);
        corpus->names[corpus->count] = strdup(entry->d_name);
        if (corpus->names[corpus->count++] == NULL)
            die("out of memory", folder);
    }
    closedir(dir);
    if (corpus->count == 0)
        die("an empty corpus tests nothing", folder);
    qsort(corpus->names, corpus->count, sizeof corpus->names[0], by_name);
}

static size_t load(const char *folder, const char *name)
{
    char path[4096];

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        die("too long a path", name);
    snprintf(where, sizeof where, "%s", name);
    return read_file(path);
}

static unsigned long replay(const char *folder, const char *name, unsigned runs)
{
    const size_t size = load(folder, name);
    const unsigned count = 1 + prefix_count(size) + runs;

    for (unsigned number = 0; number < count; number++) {
        current_number = number;
        run_input(make_input(size, number));
    }
    return count;
}

static unsigned runs_wanted(void)
{
    const char *const text = getenv("VARVE_FUZZ_RUNS");

    return text == NULL ? RUNS_DEFAULT : (unsigned)strtoul(text, NULL, 10);
}

static void prepare(void)
{
    static const int deadly[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM };
    const size_t guard = 65536; /* a multiple of any host's page */

    arena = mmap(NULL, INPUT_MAX + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED || mprotect(arena + INPUT_MAX, guard, PROT_NONE) != 0)
        die("cannot map", "memory");
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        signal(deadly[i], on_death);
}

int main(int argc, char **argv)
{
    static struct corpus corpus;
    unsigned long inputs = 0;

    if (argc != 2 && argc != 4)
        die("CORPUS [FILE NUMBER]", argv[0]);
    prepare();
    if (argc == 4) {
        const size_t file_size = load(argv[1], argv[2]);
        const size_t size = make_input(file_size, (unsigned)strtoul(argv[3], NULL, 10));
        if (fwrite(varied, 1, size, stdout) != size || fflush(stdout) != 0)
            die("cannot write", "stdout");
        run_input(size);
        return 0;
    }
    list_corpus(argv[1], &corpus);
    for (size_t i = 0; i < corpus.count; i++) {
        alarm(60); /* an input that takes for ever is a failure, and named */
        inputs += replay(argv[1], corpus.names[i], runs_wanted());
        free(corpus.names[i]);
    }
    printf("%lu inputs from %zu files\n", inputs, corpus.count);
    return 0;
}
