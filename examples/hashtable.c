/* hashtable.c - a hash table with pointers inside, in memory that survives. No file format, no serialisation.
 *
 *   hashtable DIR put KEY VALUE   one durable commit
 *   hashtable DIR fill COUNT      COUNT entries in one commit
 *   hashtable DIR get KEY
 *   hashtable DIR count
 *   hashtable DIR crash           changes every entry, then dies by SIGKILL before the commit
 *
 * The image is mapped at the same address in every process, so entries point at entries. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <varve.h>

#define ADDRESS ((void *)UINT64_C(0x200000000000))
enum { BUCKETS = 4096, SIZE = 16 << 20 };

struct entry {
    struct entry *next;
    char key[32], value[32];
};
struct table { /* at the start of the image */
    struct entry *buckets[BUCKETS];
    uint64_t count;
    char *free; /* where the next entry goes */
};

static struct entry **bucket_of(struct table *table, const char *key)
{
    uint32_t hash = 2166136261u;

    for (const char *c = key; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    return &table->buckets[hash % BUCKETS];
}

static struct entry *find(struct table *table, const char *key)
{
    struct entry *entry = *bucket_of(table, key);

    while (entry != NULL && strcmp(entry->key, key) != 0)
        entry = entry->next;
    return entry;
}

static int put(struct table *table, const char *key, const char *value)
{
    struct entry *entry = find(table, key);

    if (entry == NULL) {
        if (table->free + sizeof *entry > (char *)table + SIZE)
            return -1;
        entry = (struct entry *)table->free;
        table->free += sizeof *entry;
        (void)snprintf(entry->key, sizeof entry->key, "%s", key);
        entry->next = *bucket_of(table, key);
        *bucket_of(table, key) = entry;
        table->count++;
    }
    (void)snprintf(entry->value, sizeof entry->value, "%s", value);
    return 0;
}

static void fill(struct table *table, long count)
{
    for (long i = 0; i < count; i++) {
        char key[32], value[32];
        (void)snprintf(key, sizeof key, "key%ld", i);
        (void)snprintf(value, sizeof value, "value%ld", i);
        if (put(table, key, value) != 0)
            break;
    }
}

/* Half of a change is in memory when the process dies. */
static void crash(struct table *table)
{
    for (int b = 0; b < BUCKETS; b++)
        for (struct entry *e = table->buckets[b]; e != NULL; e = e->next)
            (void)snprintf(e->value, sizeof e->value, "half-changed");
    (void)raise(SIGKILL);
}

/* What the words ask for; 1: something changed, 0: not, -1: failed. */
static int work(struct table *table, int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[2] : "count";

    if (table->free == NULL)
        table->free = (char *)(table + 1);
    if (strcmp(verb, "fill") == 0 && argc == 4) {
        fill(table, atol(argv[3]));
        return 1;
    }
    if (strcmp(verb, "put") == 0 && argc == 5)
        return put(table, argv[3], argv[4]) == 0 ? 1 : -1;
    if (strcmp(verb, "get") == 0 && argc == 4) {
        const struct entry *entry = find(table, argv[3]);
        printf("%s\n", entry == NULL ? "(none)" : entry->value);
        return 0;
    }
    if (strcmp(verb, "crash") == 0)
        crash(table);
    printf("%" PRIu64 "\n", table->count);
    return 0;
}

int main(int argc, char **argv)
{
    varve_store_options options = VARVE_INIT(varve_store_options);
    varve_image_options place = VARVE_INIT(varve_image_options);
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_commit *commit = NULL;
    varve_module_id id;
    varve_error error = { .message = "the image's name" };
    int changed = -1;

    options.flags = VARVE_STORE_CREATE;
    place.name = "table";
    place.create_size = SIZE;
    place.reserve = SIZE;
    place.address = ADDRESS;
    if (varve_store_open(argc > 1 ? argv[1] : ".", &options, &store, &error) == VARVE_OK &&
        varve_session_begin(store, NULL, &session, &error) == VARVE_OK &&
        varve_module_id_of("table", &id) == VARVE_OK &&
        varve_image_open(session, &id, &place, &image, &error) == VARVE_OK)
        changed = work(varve_image_bytes(image), argc, argv);
    if (changed == 1 && varve_session_commit(session, NULL, &commit, &error) == VARVE_OK) {
        session = NULL; /* it ended with its commit */
        printf("commit r%" PRIu64 ": %" PRIu64 " pages, %" PRIu64 " bytes written\n",
               varve_commit_get(commit)->number, varve_commit_get(commit)->pages_changed,
               varve_commit_get(commit)->bytes_written);
    } else if (changed != 0) {
        (void)fprintf(stderr, "hashtable: %s\n", error.message);
    }
    const int code = changed == 0 || commit != NULL ? 0 : 1;
    varve_commit_close(commit);
    varve_session_abort(session);
    varve_store_close(store);
    return code;
}
