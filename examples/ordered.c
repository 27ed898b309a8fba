/* ordered.c - an ordered map with its own allocator, in memory that survives: pointers inside, branches, undo.
 *
 *   ordered DIR put KEY VALUE | del KEY | fill COUNT     one durable commit each
 *   ordered DIR get KEY | list | count
 *   ordered DIR branch NAME      a branch where this one stands; NAME in ORDERED_BRANCH works on it
 *   ordered DIR undo             the branch goes back by one commit
 *   ordered DIR try              changes everything within a savepoint and takes it back
 *   ordered DIR crash            changes everything, then dies by SIGKILL before the commit
 *
 * The heap is mapped at the same address in every process, so nodes point at nodes. It grows where it is. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <varve.h>

#define ADDRESS ((void *)UINT64_C(0x200000000000))
enum { PAGE = 4096, FIRST = 16 * PAGE, MOST = 1 << 30, CLASSES = 8 };

struct
    node { /* of a treap: ordered by key, a heap by the key's hash, so its shape depends on the keys alone */
    struct node *left, *right;
    char *value;
    char key[];
};
struct block { /* a free one */
    struct block *next;
};
struct heap { /* at the start of the image */
    struct node *root;
    uint64_t count;
    char *end;                   /* all above was never handed out */
    struct block *free[CLASSES]; /* of 32, 64, 128... bytes */
};
struct map {
    varve_image *image;
    struct heap *heap;
    varve_error *error;
    bool full; /* no memory was left: the change is not to be committed */
};

/* ---- The allocator ------------------------------------------------------------------------------ */

static unsigned class_of(size_t size)
{
    unsigned class = 0;

    while (class < CLASSES && ((size_t)32 << class) < size)
        class ++;
    return class;
}

static void *allocate(struct map *map, size_t size)
{
    struct heap *heap = map->heap;
    const unsigned class = class_of(size);

    if (class == CLASSES) {
        (void)snprintf(map->error->message, sizeof map->error->message, "%zu bytes are too many", size);
        map->full = true;
        return NULL;
    }
    struct block *block = heap->free[class];
    if (block != NULL) {
        heap->free[class] = block->next;
        return block;
    }
    const size_t used = (size_t)(heap->end - (char *)heap) + ((size_t)32 << class);
    const uint64_t has = varve_image_size(map->image);
    if (used > has && varve_image_grow(map->image, 2 * has, map->error) != VARVE_OK) {
        map->full = true;
        return NULL;
    }
    heap->end += (size_t)32 << class;
    return heap->end - ((size_t)32 << class);
}

static void give_back(struct map *map, void *memory, size_t size)
{
    struct block *block = memory;
    struct block **list = &map->heap->free[class_of(size)];

    block->next = *list;
    *list = block;
}

static char *copy_text(struct map *map, const char *text)
{
    char *copy = allocate(map, strlen(text) + 1);

    if (copy != NULL)
        memcpy(copy, text, strlen(text) + 1);
    return copy;
}

/* ---- The map ------------------------------------------------------------------------------------ */

static uint32_t priority(const char *key)
{
    uint32_t hash = 2166136261u;

    for (const char *c = key; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    return hash ^ hash >> 15;
}

static struct node *rotate_right(struct node *node)
{
    struct node *up = node->left;

    node->left = up->right;
    up->right = node;
    return up;
}

static struct node *rotate_left(struct node *node)
{
    struct node *up = node->right;

    node->right = up->left;
    up->left = node;
    return up;
}

/* A treap of n keys is some 2 log n deep. */
static struct node *insert(struct map *map, struct node *node, const char *key, const char *value)
{
    if (node == NULL) {
        node = allocate(map, sizeof *node + strlen(key) + 1);
        if (node == NULL)
            return NULL;
        node->left = node->right = NULL;
        memcpy(node->key, key, strlen(key) + 1);
        node->value = copy_text(map, value);
        map->heap->count++;
        return node;
    }
    const int order = strcmp(key, node->key);
    if (order == 0) {
        give_back(map, node->value, strlen(node->value) + 1);
        node->value = copy_text(map, value);
    } else if (order < 0) {
        node->left = insert(map, node->left, key, value);
        if (node->left != NULL && priority(node->left->key) > priority(node->key))
            node = rotate_right(node);
    } else {
        node->right = insert(map, node->right, key, value);
        if (node->right != NULL && priority(node->right->key) > priority(node->key))
            node = rotate_left(node);
    }
    return node;
}

static struct node *erase(struct map *map, struct node *node, const char *key)
{
    if (node == NULL)
        return NULL;
    const int order = strcmp(key, node->key);
    if (order < 0) {
        node->left = erase(map, node->left, key);
    } else if (order > 0) {
        node->right = erase(map, node->right, key);
    } else if (node->left != NULL &&
               (node->right == NULL || priority(node->left->key) > priority(node->right->key))) {
        node = rotate_right(node);
        node->right = erase(map, node->right, key);
    } else if (node->right != NULL) {
        node = rotate_left(node);
        node->left = erase(map, node->left, key);
    } else {
        give_back(map, node->value, strlen(node->value) + 1);
        give_back(map, node, sizeof *node + strlen(node->key) + 1);
        map->heap->count--;
        return NULL;
    }
    return node;
}

static const struct node *find(const struct node *node, const char *key)
{
    while (node != NULL) {
        const int order = strcmp(key, node->key);
        if (order == 0)
            break;
        node = order < 0 ? node->left : node->right;
    }
    return node;
}

static void list(const struct node *node)
{
    if (node == NULL)
        return;
    list(node->left);
    printf("%s %s\n", node->key, node->value);
    list(node->right);
}

static void fill(struct map *map, long count)
{
    for (long i = 0; i < count && !map->full; i++) {
        char key[32], value[32];
        (void)snprintf(key, sizeof key, "key%06ld", i);
        (void)snprintf(value, sizeof value, "value%ld", i);
        map->heap->root = insert(map, map->heap->root, key, value);
    }
}

/* Half of a change, and then some. */
static void wreck(struct map *map)
{
    for (uint64_t half = map->heap->count / 2; map->heap->count > half;)
        map->heap->root = erase(map, map->heap->root, map->heap->root->key);
    memset(map->heap, 0xee, sizeof *map->heap);
}

/* ---- Commands ----------------------------------------------------------------------------------- */

enum outcome { FAILED, LOOKED, CHANGED };

static enum outcome change(struct map *map, int argc, char **argv)
{
    struct heap *heap = map->heap;
    const char *verb = argv[2];

    if (strcmp(verb, "put") == 0 && argc == 5)
        heap->root = insert(map, heap->root, argv[3], argv[4]);
    else if (strcmp(verb, "del") == 0 && argc == 4)
        heap->root = erase(map, heap->root, argv[3]);
    else if (strcmp(verb, "fill") == 0 && argc == 4)
        fill(map, strtol(argv[3], NULL, 10));
    else
        return FAILED;
    return map->full ? FAILED : CHANGED;
}

static enum outcome look(const struct map *map, int argc, char **argv)
{
    if (strcmp(argv[2], "list") == 0) {
        list(map->heap->root);
    } else if (strcmp(argv[2], "get") == 0 && argc == 4) {
        const struct node *node = find(map->heap->root, argv[3]);
        printf("%s\n", node == NULL ? "(none)" : node->value);
    } else if (strcmp(argv[2], "count") == 0) {
        printf("%" PRIu64 "\n", map->heap->count);
    } else {
        return FAILED;
    }
    return LOOKED;
}

static enum outcome try_and_take_back(varve_session *session, struct map *map)
{
    uint32_t savepoint = 0;

    if (varve_session_savepoint(session, &savepoint, map->error) != VARVE_OK)
        return FAILED;
    wreck(map);
    return varve_session_rollback(session, savepoint, map->error) == VARVE_OK ? CHANGED : FAILED;
}

static enum outcome set_branch(varve_store *store, const varve_session *session, const char *name,
                               varve_error *error)
{
    return varve_ref_set(store, name, varve_session_base(session), NULL, 0, error) == VARVE_OK ? LOOKED
                                                                                               : FAILED;
}

/* Back to the parent of the commit that the branch names: newer commits stay, and so does the way back to them. */
static enum outcome undo(varve_store *store, const varve_session *session, const char *branch,
                         varve_error *error)
{
    const varve_commit *head = varve_session_base(session);
    varve_commit *parent = NULL;
    char revision[300];

    (void)snprintf(revision, sizeof revision, "%s~1", branch);
    varve_status rc = varve_commit_open(store, revision, &parent, error);
    if (rc == VARVE_OK)
        rc = varve_ref_set(store, branch, parent, head, 0, error);
    varve_commit_close(parent);
    return rc == VARVE_OK ? LOOKED : FAILED;
}

static enum outcome work(varve_store *store, varve_session *session, const char *branch, struct map *map,
                         int argc, char **argv)
{
    const char *verb = argv[2];

    if (map->heap->end == NULL)
        map->heap->end = (char *)map->heap + PAGE;
    (void)snprintf(map->error->message, sizeof map->error->message, "see the words at the top of ordered.c");
    if (strcmp(verb, "branch") == 0 && argc == 4)
        return set_branch(store, session, argv[3], map->error);
    if (strcmp(verb, "undo") == 0)
        return undo(store, session, branch, map->error);
    if (strcmp(verb, "try") == 0)
        return try_and_take_back(session, map);
    if (strcmp(verb, "crash") == 0) {
        wreck(map);
        (void)raise(SIGKILL);
    }
    const enum outcome looked = look(map, argc, argv);
    return looked != FAILED ? looked : change(map, argc, argv);
}

int main(int argc, char **argv)
{
    varve_error error = { .message = "ordered DIR VERB ..." };
    varve_store_options options = VARVE_INIT(varve_store_options);
    varve_session_options begin = VARVE_INIT(varve_session_options);
    varve_image_options place = VARVE_INIT(varve_image_options);
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_commit *commit = NULL;
    struct map map = { .error = &error };
    varve_module_id id;
    enum outcome outcome = FAILED;

    const char *branch = getenv("ORDERED_BRANCH");
    begin.branch = branch = branch == NULL ? "main" : branch;
    options.flags = VARVE_STORE_CREATE;
    place.name = "ordered";
    place.create_size = FIRST;
    place.reserve = MOST;
    place.address = ADDRESS;
    if (argc > 2 && varve_store_open(argv[1], &options, &store, &error) == VARVE_OK &&
        varve_session_begin(store, &begin, &session, &error) == VARVE_OK &&
        varve_module_id_of(place.name, &id) == VARVE_OK &&
        varve_image_open(session, &id, &place, &map.image, &error) == VARVE_OK) {
        map.heap = varve_image_bytes(map.image);
        outcome = work(store, session, branch, &map, argc, argv);
    }
    if (outcome == CHANGED) {
        outcome = FAILED;
        if (varve_session_commit(session, NULL, &commit, &error) == VARVE_OK) {
            session = NULL; /* it ended with its commit */
            outcome = LOOKED;
        }
    }
    if (outcome == FAILED)
        (void)fprintf(stderr, "ordered: %s\n", error.message);
    varve_commit_close(commit);
    varve_session_abort(session);
    varve_store_close(store);
    return outcome == FAILED ? 1 : 0;
}
