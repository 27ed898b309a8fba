/* main.c - varve-bench: the machine, the table, bench.json.
 *
 *   varve-bench [--quick] [--only SUBSTRING] [--dir DIR] [--json FILE] [--list]
 * The parent makes a scratch directory, runs each row in a child, and takes both away again, however the child
 * ended. Exit: 0 measured (goals missed or not), 1 a row failed, 2 usage, 130 interrupted. */
#include "bench.h"
#include "disk.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <libgen.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <varve.h>

/* Their numbers are not in every linux/magic.h. */
#define XFS_MAGIC 0x58465342
#define ZFS_MAGIC 0x2fc12fc1
#define BCACHEFS_MAGIC 0xca451a4e

#ifdef BENCH_WITH_VM
#define WITH_VM(row) (row)
#else
#define WITH_VM(row) NULL
#endif

static const struct bench_row rows[] = {
    { "durable commit",
      "A chained session changes one word of one page of a 64 MiB image, all of it resident, and commits.\n"
      "Floor: the bytes that this commit wrote, rounded to the sector, put over bytes written before and "
      "flushed: by\n"
      "pwrite and fdatasync, or by one O_DIRECT|O_DSYNC write, whichever is the faster here. A durable "
      "commit cannot\n"
      "wait for less than one flush.",
      bench_durable_commit },
    { "commit per dirty page",
      "10 000 pages in random places, five words changed in each; commit, durable.\n"
      "Floor, per page: read the page, read what it was, hash it (BLAKE3, sixteen pages abreast). A root and "
      "a delta\n"
      "need no less; finding the pages, the tree above them, compression, the log and its flush count as "
      "ours.",
      bench_commit_per_page },
    { "root per dirty page",
      "The root that such a commit would have, without committing: finding the pages, hashing, the tree.\n"
      "Floor, per page: as above.",
      bench_root_per_page },
    { "commit, images",
      "One page changed, committed, in a state of 1 image and in one of 1000. The floor is the smaller case: "
      "what is\n"
      "not touched should cost nothing.",
      bench_commit_images },
    { "commit, history",
      "One page changed, committed, in a young store and in an old one. The floor is the younger.",
      bench_commit_history },
    { "commits at once",
      "Threads with a session and a branch each change one page and commit, durable: the time of all for one "
      "commit.\n"
      "Floor: as many threads that each overwrite as many bytes of one file, by pwrite and fdatasync. "
      "Commits "
      "that wait for\n"
      "the same flush need less.",
      bench_commits_at_once },
    { "commit beside a snapshot",
      "One page changed, committed, durable, while all pages of the image are written to its file: the "
      "slowest of "
      "a thousand.\n"
      "The floor is the slowest of a thousand such commits without a snapshot. A forked one lets one commit "
      "wait "
      "for the fork.",
      bench_commit_snapshot },
    { "first write",
      "The first store to each of many pages of a session's image, in random places.\n"
      "Floor: the same stores into the same bytes of a plain file mapped MAP_PRIVATE (each copies a page), "
      "or, for\n"
      "pages that hold nothing yet, into plain anonymous memory (each clears one).",
      bench_first_write },
    { "open head",
      "Open a store and begin a session on its head; no image is touched. However long the history is, it "
      "should take as long.\n"
      "Floor: open the directory and a lock file and take the lock, read 8 KiB of a head file, map a segment "
      "of a log and read its\n"
      "last page, close. Nothing can know where a store stands with less.",
      bench_open_head },
    { "open image",
      "Begin a session, open a 16 MiB image in a store opened anew and read each of its pages.\n"
      "Floor: map a file and copy every page on write, where all pages come from the log; map a file and "
      "read "
      "every page, where\n"
      "the image file has them.",
      bench_open_image },
    { "open any commit",
      "Find a commit by its number, begin a session on it and read every page of a 1 MiB image, whose pages "
      "were\n"
      "changed one a commit. A commit that was not open before, each time; the image file holds the newest.\n"
      "Floor: map a file, copy on write the pages that differ from it, read the others.",
      bench_open_commit },
    { "bytes per commit, images",
      "What a commit writes, padding to the sector left out, against the bytes that differ; 48 more a page "
      "and 512 more a\n"
      "commit are allowed. The padding is told apart.",
      bench_bytes },
    { "bytes per commit, programs", "The same for real programs: their heaps decide which bytes differ.",
      WITH_VM(bench_bytes_guests) },
    { "layouts",
      "SQLite again, the same 200 commits in each layout. The floor column is the journal. In flat and chain a commit is\n"
      "not durable before the store is persisted.",
      WITH_VM(bench_layouts) },
    { "tree beside journal",
      "A session on the head of a store of images of 64 KiB, and a commit of one page of one of them, in the "
      "layout tree:\n"
      "a directory with a hard link for each file that does not change. The floor column is the layout "
      "journal.",
      bench_tree },
    { "restore, chain",
      "The layout chain: find a commit by its number, begin a session on it and read every page, in a store opened anew;\n"
      "each commit changed 64 bytes in each of 7 pages. Seed 001 took 1.67 s for 576 KiB in a chain of 200.\n"
      "Floor: map a file, copy on write as many pages as the commits from the nearer image on changed, read the others.",
      bench_restore_chain },
    { "against LMDB",
      "100 000 values of 100 bytes: some changed and committed, durable, and looked up. varve: a hash table "
      "in an image, by\n"
      "plain pointers; every commit a version that can be opened again. The floor column is LMDB.",
      bench_lmdb },
    { "against SQLite",
      "The same against SQLite in WAL mode, every commit synced. The floor column is SQLite.", bench_sqlite },
    { "guarded call, empty",
      "A call that writes nothing, undone as a whole if it fails, in a module of 64 MiB, all of it "
      "resident.\n"
      "Floor: Wasmtime's unchecked call of the same function with fuel set, and one getrusage, the cheapest "
      "question\n"
      "whether anything was written.",
      WITH_VM(bench_empty_call) },
    { "guarded call, writing",
      "A call that writes one word in each of n pages of a 16 MiB memory, other pages than the call before.\n"
      "Floor: the same stores into write-protected pages (one fault each) and a copy of each page, for an "
      "undo needs\n"
      "the bytes from before; which pages they are is known for nothing. 0.35 us per resident MiB more are "
      "allowed for finding them.",
      WITH_VM(bench_writing_call) },
    { "unguarded call",
      "A call within a savepoint of the caller's own. Floor: Wasmtime's unchecked call with fuel set.",
      WITH_VM(bench_unguarded_call) },
    { "session begin",
      "Begin a session, make the first call, drop it, in a state of 1 module and in one of 1000; 16 MiB "
      "memories.\n"
      "Floor: map a file of 16 MiB, a new Wasmtime store and instance on it, the same call, the store freed.",
      WITH_VM(bench_begin) },
    { "computation",
      "Loops that only compute. Floor: the same module in Wasmtime alone with the same settings (fuel, "
      "epochs,\n"
      "canonical NaNs). What is rewritten at deploy must not slow code.",
      WITH_VM(bench_compute) },
};
enum { ROWS = sizeof rows / sizeof *rows };

struct options {
    bool quick, list;
    const char *only, *dir, *json;
};

static char scratch[512];
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static int remove_one(const char *path, const struct stat *facts, int type, struct FTW *ftw)
{
    (void)facts;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- The machine -------------------------------------------------------------------------------- */

static const char *file_system(const char *path, char text[32])
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = { { EXT4_SUPER_MAGIC, "ext4" },         { XFS_MAGIC, "xfs" },
                  { BTRFS_SUPER_MAGIC, "btrfs" },       { TMPFS_MAGIC, "tmpfs" },
                  { OVERLAYFS_SUPER_MAGIC, "overlay" }, { ZFS_MAGIC, "zfs" },
                  { F2FS_SUPER_MAGIC, "f2fs" },         { NFS_SUPER_MAGIC, "nfs" },
                  { BCACHEFS_MAGIC, "bcachefs" } };
    struct statfs facts;

    if (statfs(path, &facts) != 0)
        bench_die("%s: %s", path, strerror(errno));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((unsigned long)facts.f_type == known[i].magic)
            return known[i].name;
    snprintf(text, 32, "type 0x%lx", (unsigned long)facts.f_type);
    return text;
}

static void processor(char text[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");

    snprintf(text, 128, "unknown processor");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(text, 128, "%s", strchr(line, ':') + 2);
            break;
        }
    if (file != NULL)
        fclose(file);
}

static void print_flush(struct bench *b, double (*flush)(struct disk *, size_t), struct disk *disk,
                        const char *what)
{
    static double samples[BENCH_SAMPLES];
    const unsigned wanted = bench_of(b, 1000, 200);
    const double until = bench_now() + (b->quick ? 0.5e9 : 5e9);
    unsigned count = 0;

    while (count < wanted && (count < 10 || bench_now() < until))
        samples[count++] = flush(disk, BENCH_PAGE);
    const double middle = bench_median(samples, count), low = bench_quantile(samples, count, 0.1);
    printf("  %-44s %8.1f us   p10 %.1f  p90 %.1f%s\n", what, middle, low,
           bench_quantile(samples, count, 0.9),
           middle > 2 * low ? "   NOISY: the median is above twice the p10" : "");
}

static void print_machine(struct bench *b)
{
    struct utsname kernel;
    char model[128], fs[32];
    double load[1] = { 0 };
    struct disk disk;

    uname(&kernel);
    processor(model);
    (void)getloadavg(load, 1);
    printf("varve %s on %s, %ld processors, Linux %s, load %.1f\n", varve_version(NULL), model,
           sysconf(_SC_NPROCESSORS_ONLN), kernel.release, load[0]);
    printf("scratch on %s\n", file_system(scratch, fs));
    if (strcmp(file_system(scratch, fs), "tmpfs") == 0)
        printf("  tmpfs has no disk below it: a flush costs nothing and durable rows say nothing. Choose "
               "with --dir.\n");
    printf("flush of 4 KiB written before, overwritten:\n");
    disk_open(&disk, b, 16 * MIB);
    print_flush(b, disk_flush, &disk, "pwrite, fdatasync");
    if (disk.direct >= 0)
        print_flush(b, disk_flush_direct, &disk, "pwrite with O_DIRECT|O_DSYNC");
    disk_close(&disk);
    printf(
        "Medians of runs in turn; ratio = varve / floor; last columns: p10-p90 of the floor | of varve.\n");
    fflush(stdout);
}

/* ---- Rows --------------------------------------------------------------------------------------- */

static void print_head(const struct bench_row *row)
{
    printf("\n%s\n", row->name);
    for (const char *line = row->words; *line != '\0';) {
        const size_t size = strcspn(line, "\n");
        printf("    %.*s\n", (int)size, line);
        line += size + (line[size] == '\n');
    }
    printf("  %-46s %-5s %9s %9s %8s  %-14s %-6s %5s\n", "", "unit", "floor", "varve", "ratio", "goal", "",
           "runs");
    fflush(stdout);
}

/* Returns whether the row was measured to its end. */
static bool run_row(struct bench *b, const struct bench_row *row)
{
    int status = 0;

    print_head(row);
    if (row->run == NULL) {
        bench_note("left out: this build has no engine");
        return true;
    }
    b->row = row->name;
    snprintf(b->dir, sizeof b->dir, "%.480s/row", scratch);
    if (mkdir(b->dir, 0700) != 0)
        bench_die("make %s: %s", b->dir, strerror(errno));
    const pid_t child = fork();
    if (child < 0)
        bench_die("fork: %s", strerror(errno));
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        row->run(b);
        fflush(stdout);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        if (interrupted)
            kill(child, SIGKILL);
    remove_tree(b->dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (!interrupted && WIFSIGNALED(status))
        bench_note("FAILED: killed by signal %d", WTERMSIG(status));
    else if (!interrupted)
        bench_note("FAILED");
    return false;
}

/* ---- The end ------------------------------------------------------------------------------------ */

static void put_number(FILE *out, const char *key, double value)
{
    fprintf(out, ", \"%s\": %.6g", key, value);
}

static void write_json(const struct bench *b, const char *path)
{
    FILE *out = fopen(path, "we");

    if (out == NULL)
        bench_die("write %s: %s", path, strerror(errno));
    fputs("[", out);
    for (unsigned i = 0; i < *b->count; i++) {
        const struct bench_result *r = &b->results[i];
        fprintf(out, "%s\n  {\"name\": \"%s\", \"unit\": \"%s\"", i > 0 ? "," : "", r->full, r->unit);
        put_number(out, "floor", r->floor);
        put_number(out, "value", r->value);
        put_number(out, "ratio", r->value / r->floor);
        if (r->allowed > 0)
            put_number(out, "goal", r->allowed / r->floor); /* the largest ratio that meets it, in this run */
        else
            fputs(", \"goal\": null", out);
        fprintf(out, ", \"runs\": %u}", r->runs);
    }
    fputs("\n]\n", out);
    if (fclose(out) != 0)
        bench_die("write %s: %s", path, strerror(errno));
}

static bool missed(const struct bench_result *r)
{
    return r->allowed > 0 && !r->noisy && r->value > r->allowed;
}

static void print_end(const struct bench *b, const char *json, double seconds)
{
    unsigned goals = 0, not_met = 0, noisy = 0;

    for (unsigned i = 0; i < *b->count; i++) {
        const struct bench_result *r = &b->results[i];
        goals += r->allowed > 0;
        not_met += missed(r);
        noisy += r->allowed > 0 && r->noisy;
    }
    printf("\n%u of %u goals met, %u missed, %u too noisy to say; %.0f s; %s\n", goals - not_met - noisy,
           goals, not_met, noisy, seconds, json);
    for (unsigned i = 0; i < *b->count; i++) {
        const struct bench_result *r = &b->results[i];
        if (missed(r))
            printf("  missed  %-76s %.2fx, goal %s\n", r->full, r->value / r->floor, r->goal);
    }
}

static void usage(FILE *out)
{
    fputs("usage: varve-bench [--quick] [--only SUBSTRING] [--dir DIR] [--json FILE] [--list]\n"
          "  --quick   under a minute, with fewer runs and smaller histories\n"
          "  --only    rows whose name contains SUBSTRING\n"
          "  --dir     where the scratch directory is made; default: beside this program\n"
          "  --json    where the results go; default: bench.json beside this program\n"
          "  --list    the names of the rows\n",
          out);
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option known[] = { { "quick", no_argument, NULL, 'q' },
                                           { "only", required_argument, NULL, 'o' },
                                           { "dir", required_argument, NULL, 'd' },
                                           { "json", required_argument, NULL, 'j' },
                                           { "list", no_argument, NULL, 'l' },
                                           { "help", no_argument, NULL, 'h' },
                                           { NULL, 0, NULL, 0 } };
    int found;

    while ((found = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (found) {
        case 'q':
            o->quick = true;
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'd':
            o->dir = optarg;
            break;
        case 'j':
            o->json = optarg;
            break;
        case 'l':
            o->list = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    if (optind < argc) {
        usage(stderr);
        exit(2);
    }
}

static bool wanted(const struct options *o, const struct bench_row *row)
{
    return o->only == NULL || strstr(row->name, o->only) != NULL;
}

int main(int argc, char **argv)
{
    struct options o = { .only = NULL };
    struct bench b = { .row = "" };
    char here[400] = "", json[512];
    bool all_ran = true;
    const double start = bench_now();

    parse(&o, argc, argv);
    for (unsigned i = 0; i < ROWS && o.list; i++)
        puts(rows[i].name);
    if (o.list)
        return 0;
    if (readlink("/proc/self/exe", here, sizeof here - 1) <= 0)
        bench_die("where am I: %s", strerror(errno));
    (void)dirname(here);
    snprintf(json, sizeof json, "%s/bench.json", here);
    snprintf(scratch, sizeof scratch, "%s/bench.XXXXXX", o.dir != NULL ? o.dir : here);
    if (mkdtemp(scratch) == NULL)
        bench_die("make a scratch directory %s: %s (choose with --dir)", scratch, strerror(errno));
    b.quick = o.quick;
    b.results = mmap(NULL, BENCH_RESULTS * sizeof *b.results + sizeof *b.count, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b.results == MAP_FAILED)
        bench_die("map: %s", strerror(errno));
    b.count = (unsigned *)(b.results + BENCH_RESULTS);
    snprintf(b.dir, sizeof b.dir, "%s", scratch);
    struct sigaction act = { .sa_handler = on_signal }; /* without SA_RESTART: waitpid must see it */
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);

    print_machine(&b);
    for (unsigned i = 0; i < ROWS && !interrupted; i++)
        if (wanted(&o, &rows[i]))
            all_ran = run_row(&b, &rows[i]) && all_ran;
    remove_tree(scratch);
    if (interrupted)
        return 130;
    write_json(&b, o.json != NULL ? o.json : json);
    print_end(&b, o.json != NULL ? o.json : json, (bench_now() - start) / 1e9);
    return all_ran ? 0 : 1;
}
