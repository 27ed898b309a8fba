/* row_peers.c - the same durable updates of small values, and look-ups, against LMDB and SQLite.
 *
 * One hundred thousand keys of 8 bytes with values of 100. varve keeps them in a hash table in an image, which is what
 * a C program would do with memory that survives; the peers keep their own trees, ordered. All of it fits in memory
 * on every side. What each commit promises is the same: it is on the disk when the call returns.
 *
 *   LMDB    as it comes: a commit is written and flushed by fdatasync. One transaction for each commit; look-ups in one
 *           read transaction
 *   SQLite  journal_mode=WAL, synchronous=FULL, locking_mode=EXCLUSIVE (no shared memory), a page cache that holds
 *           everything, prepared statements, checkpoints when it likes */
#include "product.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifdef BENCH_WITH_LMDB
#include <lmdb.h>
#endif
#ifdef BENCH_WITH_SQLITE
#include <sqlite3.h>
#endif

enum { KEYS = 100000, VALUE = 100, SLOTS = 1 << 18, LOOKUPS = 1000 };

struct peers {
    struct product p;
    struct slot *slots;
    unsigned batch; /* keys for each commit */
#ifdef BENCH_WITH_LMDB
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader;
#endif
#ifdef BENCH_WITH_SQLITE
    sqlite3 *db;
    sqlite3_stmt *put, *get, *begin, *commit;
#endif
};

static uint64_t random_key(void)
{
    return bench_random() % KEYS + 1;
}

static void random_value(uint8_t value[VALUE])
{
    const uint64_t word = bench_random();

    memset(value, 'v', VALUE);
    memcpy(value, &word, sizeof word);
}

/* ---- varve -------------------------------------------------------------------------------------- */

struct slot {
    uint64_t key; /* 0: free */
    uint8_t value[VALUE];
};

static struct slot *slot_of(struct slot *slots, uint64_t key)
{
    uint64_t at = key * UINT64_C(0x9E3779B97F4A7C15) >> 46;

    while (slots[at].key != 0 && slots[at].key != key)
        at = (at + 1) % SLOTS;
    return &slots[at];
}

static void varve_open(struct peers *c, const struct bench *b)
{
    product_create(&c->p, b, "store");
    product_begin(&c->p, NULL);
    c->slots =
        (struct slot *)product_image(&c->p, "table", (sizeof(struct slot) * SLOTS + 4095) / 4096 * 4096);
    for (uint64_t key = 1; key <= KEYS; key++) {
        struct slot *slot = slot_of(c->slots, key);
        slot->key = key;
        random_value(slot->value);
    }
    product_commit(&c->p, VARVE_DURABLE, NULL);
}

static double varve_update(void *context)
{
    struct peers *c = context;
    const double start = bench_now();

    for (unsigned i = 0; i < c->batch; i++)
        random_value(slot_of(c->slots, random_key())->value);
    product_commit(&c->p, VARVE_DURABLE, NULL);
    return (bench_now() - start) / 1e3;
}

static double varve_lookup(void *context)
{
    struct peers *c = context;
    uint64_t sum = 0;
    const double start = bench_now();

    for (unsigned i = 0; i < LOOKUPS; i++)
        sum += slot_of(c->slots, random_key())->value[0];
    bench_use(sum);
    return (bench_now() - start) / LOOKUPS;
}

/* ---- What every peer is asked --------------------------------------------------------------------- */

#if defined BENCH_WITH_LMDB || defined BENCH_WITH_SQLITE
static void compare(struct bench *b, struct peers *c, bench_fn update, bench_fn lookup)
{
    struct bench_case pair = { .name = "1 key in each commit",
                               .unit = "us",
                               .runs = 600,
                               .floor = update,
                               .product = varve_update,
                               .context = c,
                               .flushes = true };

    c->batch = 1;
    bench_measure(b, &pair);
    pair.name = "100 keys in each commit";
    pair.runs = 300;
    c->batch = 100;
    bench_measure(b, &pair);
    pair = (struct bench_case){ .name = "one look-up of many",
                                .unit = "ns",
                                .runs = 300,
                                .floor = lookup,
                                .product = varve_lookup,
                                .context = c };
    bench_measure(b, &pair);
}
#endif

/* ---- LMDB --------------------------------------------------------------------------------------- */

#ifdef BENCH_WITH_LMDB
static void lmdb_must(int rc, const char *what)
{
    if (rc != 0)
        bench_die("LMDB: %s: %s", what, mdb_strerror(rc));
}

static void lmdb_put(struct peers *c, MDB_txn *txn, uint64_t key)
{
    uint8_t value[VALUE];
    MDB_val k = { sizeof key, &key }, v = { sizeof value, value };

    random_value(value);
    lmdb_must(mdb_put(txn, c->dbi, &k, &v, 0), "put");
}

static double lmdb_update(void *context)
{
    struct peers *c = context;
    MDB_txn *txn = NULL;
    const double start = bench_now();

    lmdb_must(mdb_txn_begin(c->env, NULL, 0, &txn), "begin");
    for (unsigned i = 0; i < c->batch; i++)
        lmdb_put(c, txn, random_key());
    lmdb_must(mdb_txn_commit(txn), "commit");
    return (bench_now() - start) / 1e3;
}

static double lmdb_lookup(void *context)
{
    struct peers *c = context;
    uint64_t sum = 0;
    const double start = bench_now();

    lmdb_must(mdb_txn_renew(c->reader), "renew");
    for (unsigned i = 0; i < LOOKUPS; i++) {
        uint64_t key = random_key();
        MDB_val k = { sizeof key, &key }, v;
        lmdb_must(mdb_get(c->reader, c->dbi, &k, &v), "get");
        sum += *(const uint8_t *)v.mv_data;
    }
    mdb_txn_reset(c->reader);
    bench_use(sum);
    return (bench_now() - start) / LOOKUPS;
}

void bench_lmdb(struct bench *b)
{
    struct peers c = { .batch = 1 };
    MDB_txn *txn = NULL;
    char path[600];

    snprintf(path, sizeof path, "%s/lmdb", b->dir);
    if (mkdir(path, 0700) != 0)
        bench_die("LMDB: no directory");
    bench_note("%s: default flags, which flush every commit; integer keys", mdb_version(NULL, NULL, NULL));
    lmdb_must(mdb_env_create(&c.env), "create");
    lmdb_must(mdb_env_set_mapsize(c.env, (size_t)1 << 30), "map size");
    lmdb_must(mdb_env_open(c.env, path, 0, 0600), "open");
    lmdb_must(mdb_txn_begin(c.env, NULL, 0, &txn), "begin");
    lmdb_must(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &c.dbi), "open");
    for (uint64_t key = 1; key <= KEYS; key++)
        lmdb_put(&c, txn, key);
    lmdb_must(mdb_txn_commit(txn), "commit");
    lmdb_must(mdb_txn_begin(c.env, NULL, MDB_RDONLY, &c.reader), "begin");
    mdb_txn_reset(c.reader);
    varve_open(&c, b);
    compare(b, &c, lmdb_update, lmdb_lookup);
    product_close(&c.p);
    mdb_txn_abort(c.reader);
    mdb_env_close(c.env);
}
#else
void bench_lmdb(struct bench *b)
{
    (void)b;
    bench_note("left out: built without LMDB (tools/setup.sh bench brings liblmdb-dev)");
}
#endif

/* ---- SQLite ------------------------------------------------------------------------------------- */

#ifdef BENCH_WITH_SQLITE
static void sqlite_must(struct peers *c, int rc, int wanted, const char *what)
{
    if (rc != wanted)
        bench_die("SQLite: %s: %s", what, sqlite3_errmsg(c->db));
}

static void sqlite_step(struct peers *c, sqlite3_stmt *statement)
{
    sqlite_must(c, sqlite3_step(statement), SQLITE_DONE, "step");
    (void)sqlite3_reset(statement);
}

static void sqlite_put(struct peers *c, uint64_t key)
{
    uint8_t value[VALUE];

    random_value(value);
    sqlite_must(c, sqlite3_bind_int64(c->put, 1, (sqlite3_int64)key), SQLITE_OK, "bind");
    sqlite_must(c, sqlite3_bind_blob(c->put, 2, value, sizeof value, SQLITE_STATIC), SQLITE_OK, "bind");
    sqlite_step(c, c->put);
}

static double sqlite_update(void *context)
{
    struct peers *c = context;
    const double start = bench_now();

    sqlite_step(c, c->begin);
    for (unsigned i = 0; i < c->batch; i++)
        sqlite_put(c, random_key());
    sqlite_step(c, c->commit);
    return (bench_now() - start) / 1e3;
}

static double sqlite_lookup(void *context)
{
    struct peers *c = context;
    uint64_t sum = 0;
    const double start = bench_now();

    sqlite_step(c, c->begin);
    for (unsigned i = 0; i < LOOKUPS; i++) {
        sqlite_must(c, sqlite3_bind_int64(c->get, 1, (sqlite3_int64)random_key()), SQLITE_OK, "bind");
        sqlite_must(c, sqlite3_step(c->get), SQLITE_ROW, "get");
        sum += *(const uint8_t *)sqlite3_column_blob(c->get, 0);
        (void)sqlite3_reset(c->get);
    }
    sqlite_step(c, c->commit);
    bench_use(sum);
    return (bench_now() - start) / LOOKUPS;
}

static sqlite3_stmt *sqlite_prepare(struct peers *c, const char *text)
{
    sqlite3_stmt *statement = NULL;

    sqlite_must(c, sqlite3_prepare_v3(c->db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL),
                SQLITE_OK, text);
    return statement;
}

void bench_sqlite(struct bench *b)
{
    struct peers c = { .batch = 1 };
    char path[600];

    snprintf(path, sizeof path, "%s/peer.db", b->dir);
    bench_note("SQLite %s: WAL, synchronous=FULL, locking_mode=EXCLUSIVE, prepared statements",
               sqlite3_libversion());
    sqlite_must(&c, sqlite3_open(path, &c.db), SQLITE_OK, "open");
    sqlite_must(
        &c,
        sqlite3_exec(c.db,
                     "pragma locking_mode=exclusive; pragma journal_mode=wal; pragma synchronous=full;"
                     "pragma cache_size=-262144; pragma temp_store=memory;"
                     "create table t(k integer primary key, v blob)",
                     NULL, NULL, NULL),
        SQLITE_OK, "settings");
    c.put = sqlite_prepare(&c, "insert into t values(?1, ?2) on conflict(k) do update set v = ?2");
    c.get = sqlite_prepare(&c, "select v from t where k = ?1");
    c.begin = sqlite_prepare(&c, "begin");
    c.commit = sqlite_prepare(&c, "commit");
    sqlite_step(&c, c.begin);
    for (uint64_t key = 1; key <= KEYS; key++)
        sqlite_put(&c, key);
    sqlite_step(&c, c.commit);
    varve_open(&c, b);
    compare(b, &c, sqlite_update, sqlite_lookup);
    product_close(&c.p);
    (void)sqlite3_finalize(c.put);
    (void)sqlite3_finalize(c.get);
    (void)sqlite3_finalize(c.begin);
    (void)sqlite3_finalize(c.commit);
    (void)sqlite3_close(c.db);
}
#else
void bench_sqlite(struct bench *b)
{
    (void)b;
    bench_note("left out: built without SQLite (tools/setup.sh bench brings libsqlite3-dev)");
}
#endif
