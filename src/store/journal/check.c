/* check.c - read every byte of a journal, believe nothing, report; nothing is opened for writing, unless a repair is
 * asked for, which comes first (repair.c).
 *
 * Damage is what somebody was promised and is not there any more. What no commit needs is told with less: a
 * hint that is unreadable, padding or unused space that is not zero, files that nobody asked for. Where what no
 * commit needs was given back there are holes: of a record with holes its header and facts are checked, and all of it
 * that is needed, piece by piece. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/codepool.h"
#include "store/journal/journal.h"
#include "store/journal/repair.h"
#include "store/journal/mark.h"
#include "store/journal/snapshot.h"

struct checker {
    const struct vv_dir *dir;
    const struct vv_layout_options *options;
    uint32_t flags;
    uint64_t damage;
    struct vv_place *place;
    struct vv_declared declared;    /* what repairs have dealt with */
    struct vv_mark mark;            /* what is needed, as far as can be followed */
    const struct vv_record *record; /* that is being looked at */
    uint64_t told;                  /* address of a record whose damage was told */
    uint64_t records, commits;
    uint64_t end; /* of the last record, or of what is told to be damaged behind it */
};

static void tell_finding(struct checker *checker, const varve_finding *finding)
{
    checker->damage += finding->severity == VARVE_DAMAGE && !finding->repaired;
    if (checker->options->finding != NULL)
        checker->options->finding(checker->options->context, finding);
}

static void tell(struct checker *checker, varve_severity severity, const char *file, const uint8_t *commit,
                 const uint8_t *module, const char *text)
{
    varve_commit_id commit_id;
    varve_module_id module_id;
    const varve_finding finding = { .severity = severity,
                                    .file = file,
                                    .commit = commit == NULL ? NULL : &commit_id,
                                    .module = module == NULL ? NULL : &module_id,
                                    .text = text };

    if (commit != NULL)
        memcpy(commit_id.bytes, commit, sizeof commit_id.bytes);
    if (module != NULL)
        memcpy(module_id.bytes, module, sizeof module_id.bytes);
    tell_finding(checker, &finding);
}

/* A file that a repair has put right, or away. */
static void tell_repaired(struct checker *checker, varve_severity severity, const char *file,
                          const char *text)
{
    tell_finding(checker,
                 &(varve_finding){ .severity = severity, .file = file, .text = text, .repaired = true });
}

static const uint8_t *commit_of(const struct vv_record *record)
{
    return record != NULL && (record->kind == VV_RECORD_COMMIT || record->kind == VV_RECORD_CHECKPOINT)
               ? record->id
               : NULL;
}

/* A failure that is damage is told and passed over; any other one ends the check. */
static varve_status pass_damage(struct checker *checker, varve_status rc, const uint8_t *module)
{
    char name[VV_SEGMENT_NAME];

    if (rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND)
        return rc;
    vv_log_file_name(&checker->place->log, checker->record->address, name);
    tell(checker, VARVE_DAMAGE, name, commit_of(checker->record), module, vv_words());
    return VARVE_OK;
}

/* ---- Records ---------------------------------------------------------------------------------- */

static varve_status check_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct checker *checker = context;
    uint8_t page[VV_PAGE_SIZE];

    (void)index;
    if (leaf == NULL)
        return VARVE_OK;
    return pass_damage(checker, vv_pages_read(&checker->place->pages, leaf, page), NULL);
}

static varve_status check_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                                 uint64_t bytes)
{
    varve_status rc = VARVE_OK;
    struct checker *checker = context;
    struct vv_module *module = NULL;
    struct vv_reader reader = vv_reader_of(entry.data, entry.size);
    uint8_t *code = NULL;
    size_t size = 0;
    uint64_t top = 0;

    (void)fresh;
    (void)pages;
    (void)bytes;
    rc = vv_module_decode(&reader, &checker->place->views.nodes, &module, &top);
    if (rc == VARVE_OK && !vv_hash_is_zero(module->code)) {
        rc = vv_codepool_get(checker->dir, module->code, &code, &size);
        rc = pass_damage(checker, rc, module->id.bytes);
    }
    vv_free(code);
    vv_module_drop(module);
    return rc;
}

static varve_status check_commit(struct checker *checker, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t *directory = NULL;
    struct vv_state state = { .fresh = NULL };
    const struct vv_directory_visitor visitor = { .module = check_module,
                                                  .page = check_page,
                                                  .context = checker };

    checker->commits++;
    TRY(vv_log_directory(&checker->place->log, record, &directory));
    TRY(vv_directory_walk(record, directory, &visitor));
    TRY(vv_views_get(&checker->place->views, record->address, &state)); /* its root is computed */
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    vv_free(directory);
    return rc;
}

/* Is there a hole in what nothing needs of these bytes? */
static varve_status has_hole(struct checker *checker, uint64_t address, uint64_t size, bool *hole)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_ALIGN];
    uint8_t block[VV_RECORD_ALIGN];

    *hole = false;
    for (uint64_t at = (address + VV_RECORD_ALIGN - 1) / VV_RECORD_ALIGN * VV_RECORD_ALIGN;
         !*hole && at < address + size; at += VV_RECORD_ALIGN) {
        size_t got = 0;
        if (vv_mark_needs(&checker->mark, at))
            continue;
        TRY(vv_log_read_some(&checker->place->log, at, block, sizeof block, &got));
        *hole = got == sizeof block && memcmp(block, zeros, sizeof block) == 0;
    }
out:
    return rc;
}

/* The sections have their sums, or holes. */
static varve_status check_sections(struct checker *checker, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    bool hole = false;

    TRY(has_hole(checker, vv_record_directory_at(record), record->directory_size + record->pages_size,
                 &hole));
    if (!hole)
        TRY(pass_damage(checker, vv_log_verify(&checker->place->log, record), NULL));
out:
    return rc;
}

static bool is_retained(struct checker *checker, const struct vv_record *record)
{
    uint64_t address = 0;
    const varve_status rc = vv_index_find(&checker->place->index, record->id, &address);

    return rc != VARVE_OK || address == record->address;
}

/* A commit that was kept anew: its state comes out; pages and nodes are checked with all that are needed. */
static varve_status check_kept(struct checker *checker, const struct vv_record *record)
{
    struct vv_state state = { .fresh = NULL };
    const varve_status rc = vv_views_get(&checker->place->views, record->address, &state);

    checker->commits++;
    if (rc == VARVE_OK)
        vv_state_release(&state);
    return rc;
}

static varve_status check_padding(struct checker *checker, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_ALIGN];
    uint8_t padding[VV_RECORD_ALIGN];
    char name[VV_SEGMENT_NAME];
    const size_t size = (size_t)(record->size - vv_record_used(record));
    size_t got = 0;

    /* A record that nobody was told of yet may have lost the end of it: that is as good as zeros. */
    TRY(vv_log_read_some(&checker->place->log, record->address + vv_record_used(record), padding, size,
                         &got));
    if (memcmp(padding, zeros, got) != 0) {
        vv_log_file_name(&checker->place->log, record->address, name);
        tell(checker, VARVE_WARNING, name, commit_of(record), NULL,
             "the padding behind a record is not zero; nothing is lost by that");
    }
out:
    return rc;
}

/* Space that no record takes up: behind the log's end, and at the end of a segment where one did not fit. */
static varve_status check_unused(struct checker *checker, uint64_t from, uint64_t to)
{
    enum { PIECE = 1 << 16 };
    varve_status rc = VARVE_OK;
    uint8_t *piece = NULL;
    char name[VV_SEGMENT_NAME];
    size_t got = 0;
    bool closed = false;

    TRY(vv_alloc(&piece, PIECE, 1));
    TRY(vv_log_closed_at(&checker->place->log, from, &closed));
    for (uint64_t at = from + (closed ? VV_RECORD_ALIGN : 0); at < to;) {
        const size_t size = to - at < PIECE ? (size_t)(to - at) : PIECE;
        TRY(vv_log_read_some(&checker->place->log, at, piece, size, &got));
        for (size_t i = 0; i < got; i++) {
            if (piece[i] == 0)
                continue;
            vv_log_file_name(&checker->place->log, at, name);
            tell(checker, VARVE_WARNING, name, NULL, NULL,
                 "space that no record takes up is not zero: debris of an append, or changed from outside");
            goto out;
        }
        at += got;
        if (got == 0 && !vv_log_segment_after(&checker->place->log, at, &at))
            break;
    }
out:
    vv_free(piece);
    return rc;
}

static varve_status check_record(void *context, const struct vv_record *record, const uint8_t *facts)
{
    varve_status rc = VARVE_OK;
    struct checker *checker = context;
    struct vv_record_facts decoded = { .moves = NULL };
    varve_progress progress = { .what = "reading the log", .unit = "records" };

    checker->record = record;
    TRY(check_unused(checker, checker->end, record->address));
    checker->end = record->address + record->size;
    progress.done = ++checker->records;
    if (checker->options->progress != NULL &&
        checker->options->progress(checker->options->context, &progress) != 0)
        TRY(vv_fail(VARVE_CANCELLED, "the check was stopped"));
    if (facts == NULL || checker->told == record->address ||
        vv_declared_dead(&checker->declared, record->address))
        goto out; /* told already */
    if (record->kind == VV_RECORD_COMMIT &&
        vv_declared_dropped(&checker->declared, record->id, record->address))
        goto out; /* a repair has given it up */
    if (record->kind == VV_RECORD_COMMIT || record->kind == VV_RECORD_REFS ||
        record->kind == VV_RECORD_KEPT) {
        rc = vv_record_facts_decode(record, facts, &decoded);
        vv_record_facts_release(&decoded);
        TRY(pass_damage(checker, rc, NULL));
    }
    TRY(check_sections(checker, record));
    TRY(pass_damage(checker, check_padding(checker, record), NULL));
    if (checker->flags & VARVE_CHECK_QUICK)
        goto out;
    if (record->kind == VV_RECORD_COMMIT && is_retained(checker, record))
        TRY(pass_damage(checker, check_commit(checker, record), NULL));
    else if (record->kind == VV_RECORD_KEPT && is_retained(checker, record))
        TRY(pass_damage(checker, check_kept(checker, record), NULL));
    else if (record->kind == VV_RECORD_CHECKPOINT && vv_mark_knows(&checker->mark, record->address))
        TRY(pass_damage(checker, vv_views_verify(&checker->place->views, record), NULL));
out:
    return rc;
}

static varve_status check_damage(void *context, uint64_t address, const struct vv_record *record,
                                 const char *words)
{
    struct checker *checker = context;
    char name[VV_SEGMENT_NAME];
    char text[400];

    vv_log_file_name(&checker->place->log, address, name);
    if (vv_declared_dead(&checker->declared, address)) {
        snprintf(text, sizeof text, "damage at address %llu, which a repair has dealt with",
                 (unsigned long long)address);
        tell(checker, VARVE_NOTE, name, commit_of(record), NULL, text);
    } else {
        snprintf(text, sizeof text, "damage at address %llu: %s", (unsigned long long)address, words);
        tell(checker, VARVE_DAMAGE, name, commit_of(record), NULL, text);
    }
    checker->told = record == NULL ? 0 : record->address;
    if (record == NULL)
        checker->end = UINT64_MAX; /* how far it reaches shows with the next record */
    return VARVE_OK;
}

static void check_debris(void *context, uint64_t address)
{
    struct checker *checker = context;
    char name[VV_SEGMENT_NAME];
    char text[200];

    vv_log_file_name(&checker->place->log, address, name);
    snprintf(text, sizeof text,
             "what follows address %llu, where the log ends, is not zero: an append that ended unfinished",
             (unsigned long long)address);
    tell(checker, VARVE_NOTE, name, NULL, NULL, text);
}

/* Follow what is needed. What cannot be followed is told when its record is looked at. */
static varve_status mark_needed(struct checker *checker)
{
    varve_status rc = VARVE_OK;
    bool done = false;

    TRY(vv_mark_begin(&checker->mark, checker->place, NULL));
    checker->mark.headers = true; /* the scan checks them all */
    while (!done) {
        const uint64_t number = checker->mark.number;
        rc = vv_mark_step(&checker->mark, 256, &done);
        if (rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND)
            TRY(rc);
        if (rc == VARVE_OK)
            continue;
        done = checker->mark.number == number; /* the newest checkpoint comes last */
        if (vv_place_generation(checker->place) >
            0) /* else all sections must have their sums, which tells it */
            tell(checker, VARVE_DAMAGE, NULL, NULL, NULL, vv_words());
    }
    rc = VARVE_OK;
out:
    return rc;
}

static varve_status check_frame(void *context, uint64_t address)
{
    struct checker *checker = context;
    struct vv_record record = { .kind = VV_RECORD_OPEN, .address = address };

    checker->record = &record;
    const varve_status rc = pass_damage(checker, vv_mark_check_frame(&checker->mark, address), NULL);
    checker->record = NULL;
    return rc;
}

static varve_status check_log(struct checker *checker)
{
    varve_status rc = VARVE_OK;
    struct vv_chain chain;
    const struct vv_log_scan scan = { .acknowledged = checker->place->acknowledged,
                                      .thorough = true,
                                      .record = check_record,
                                      .damage = check_damage,
                                      .debris = check_debris,
                                      .context = checker };

    TRY(vv_repairs_declared(&checker->place->log, &checker->declared));
    vv_log_begin(&checker->place->log, &chain);
    checker->end = chain.end;
    if (chain.end > (checker->place->start == 0 ? VV_LOG_START : checker->place->start))
        tell(checker, VARVE_DAMAGE, NULL, NULL, NULL,
             "segments of the log are missing before its first file");
    TRY(vv_log_scan(&checker->place->log, &chain, &scan));
    TRY(check_unused(checker, chain.end, UINT64_MAX));
    if ((checker->flags & VARVE_CHECK_QUICK) == 0)
        TRY(vv_mark_each_frame(&checker->mark, check_frame, checker));
out:
    return rc;
}

/* ---- The other files -------------------------------------------------------------------------- */

static void check_code(void *context, const char *name, varve_status status)
{
    struct checker *checker = context;
    char path[300];

    snprintf(path, sizeof path, ".varve/code/%.200s", name);
    if (status == VARVE_CORRUPT && (checker->flags & VARVE_CHECK_REPAIR) != 0 &&
        vv_codepool_remove(checker->dir, name) == VARVE_OK)
        tell_repaired(checker, VARVE_DAMAGE, path,
                      "its bytes have another hash: it is removed; deploying the same bytecode puts it back");
    else if (status != VARVE_OK)
        tell(checker, status == VARVE_INVALID ? VARVE_WARNING : VARVE_DAMAGE, path, NULL, NULL, vv_words());
}

static varve_status check_head(struct checker *checker)
{
    varve_status rc = VARVE_OK;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct vv_head head;
    bool odd = false;

    rc = vv_dir_read(checker->dir, "head", 2 * VV_HEAD_SLOT, &bytes, &size);
    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK; /* a new store, or one that was never closed */
    if (rc == VARVE_CORRUPT) {
        tell(checker, VARVE_WARNING, "head", NULL, NULL, vv_words());
        return VARVE_OK;
    }
    TRY(rc);
    for (size_t slot = 0; slot < 2 && slot * VV_HEAD_SLOT < size; slot++) {
        const uint8_t *begin = bytes + slot * VV_HEAD_SLOT;
        const size_t left = size - slot * VV_HEAD_SLOT;
        const size_t length = left < VV_HEAD_SLOT ? left : VV_HEAD_SLOT;
        bool used = false;
        for (size_t i = 0; i < length; i++) {
            used = used || begin[i] != 0;
            odd = odd || (i >= VV_HEAD_USED && begin[i] != 0);
        }
        odd = odd || (used && !vv_head_decode(begin, length, &head));
    }
    if (odd && (checker->flags & VARVE_CHECK_REPAIR) != 0 && vv_dir_unlink(checker->dir, "head") == VARVE_OK)
        tell_repaired(
            checker, VARVE_WARNING, "head",
            "a slot fails its checksum: it is removed; it is a hint, and the next commits write it anew");
    else if (odd)
        tell(checker, VARVE_WARNING, "head", NULL, NULL,
             "a slot fails its checksum; it is a hint, and the next one that is written heals it");
out:
    vv_free(bytes);
    return rc;
}

/* ---- Image files ------------------------------------------------------------------------------ */

static void tell_image(struct checker *checker, varve_severity severity, const char *name,
                       const varve_module_id *module, const char *words)
{
    char path[300];
    char text[400];

    (void)snprintf(path, sizeof path, VV_IMAGE_DIR "/%.200s", name);
    (void)snprintf(text, sizeof text, "%.300s; it is a cache, made anew when it is next written", words);
    tell(checker, severity, path, NULL, module == NULL ? NULL : module->bytes, text);
}

/* Every page against the tree that the stamp names. */
static void check_image_pages(struct checker *checker, const char *name, const varve_module_id *module,
                              unsigned slot)
{
    struct vv_image_file *file = vv_images_use(&checker->place->images, module, slot);
    char words[100];
    uint64_t bad = UINT64_MAX;

    if (file == NULL) {
        tell_image(checker, VARVE_WARNING, name, module, "it cannot be used");
        return;
    }
    if (vv_image_file_verify(file, 0, file->tree.page_count, &bad) != VARVE_OK) {
        tell_image(checker, VARVE_NOTE, name, module, "what it should hold is not in the log any more");
    } else if (bad != UINT64_MAX) {
        (void)snprintf(words, sizeof words, "page %llu has another hash than its tree says",
                       (unsigned long long)bad);
        tell_image(checker, VARVE_WARNING, name, module, words);
    }
    vv_images_leave(&checker->place->images, file);
}

static int check_image(void *context, const char *name)
{
    struct checker *checker = context;
    varve_module_id module;
    unsigned slot = 0;
    struct vv_stamp stamp;
    const size_t length = strlen(name);

    if (!vv_image_file_parse(name, &module, &slot)) {
        const bool copy = length > 4 && strcmp(name + length - 4, ".tmp") == 0;
        tell_image(checker, copy ? VARVE_NOTE : VARVE_WARNING, name, NULL,
                   copy ? "an image file that was not finished" : "no image file has such a name");
        return 0;
    }
    const varve_status rc = vv_images_look(&checker->place->images, &module, slot, &stamp);
    if (rc != VARVE_OK)
        tell_image(checker, VARVE_WARNING, name, &module, vv_words());
    else if (stamp.state != VV_STAMP_WHOLE)
        tell_image(checker, VARVE_NOTE, name, &module, "its rewriting was not finished");
    else if ((checker->flags & VARVE_CHECK_QUICK) == 0)
        check_image_pages(checker, name, &module, slot);
    return 0;
}

static varve_status check_images(struct checker *checker)
{
    const varve_status rc = vv_images_each(&checker->place->images, check_image, checker);

    if (rc != VARVE_CORRUPT)
        return rc;
    tell(checker, VARVE_WARNING, VV_IMAGE_DIR, NULL, NULL, vv_words()); /* no directory */
    return VARVE_OK;
}

/* ---- All of it -------------------------------------------------------------------------------- */

static int check_name(void *context, const char *name)
{
    struct checker *checker = context;
    uint64_t start = 0;

    if (!vv_segment_parse(name, &start) && strcmp(name, "head") != 0 && strcmp(name, ".varve") != 0 &&
        strcmp(name, VV_IMAGE_DIR) != 0)
        tell(checker, VARVE_WARNING, name, NULL, NULL, "no file of this store has such a name");
    return 0;
}

/* What cannot even be opened is left as it is, for the check to tell. */
static varve_status repair_log(struct checker *checker)
{
    bool done = false;
    const varve_status rc =
        vv_journal_repair(checker->dir, checker->options, &vv_journal_limits, checker->flags, &done);

    return rc == VARVE_CORRUPT ? VARVE_OK : rc;
}

varve_status vv_journal_check(const struct vv_dir *dir, const struct vv_layout_options *options,
                              uint32_t flags, uint64_t *damage)
{
    varve_status rc = VARVE_OK;
    struct checker checker = { .dir = dir, .options = options, .flags = flags };
    struct vv_layout_options silent = *options;

    silent.read_only = true;
    silent.finding = NULL; /* the deep scan tells it all again, and more */
    if (flags & VARVE_CHECK_REPAIR) {
        TRY(repair_log(&checker));
        TRY(vv_codepool_settle(dir)); /* what a repair that was killed removed is gone for good */
    }
    TRY(vv_dir_each(dir, check_name, &checker));
    TRY(check_head(&checker));
    TRY(vv_codepool_check(dir, check_code, &checker));
    rc = vv_journal_open(dir, &silent, &vv_journal_limits, &checker.place);
    if (rc == VARVE_CORRUPT) {
        tell(&checker, VARVE_DAMAGE, NULL, NULL, NULL, vv_words());
        rc = VARVE_OK;
        goto out;
    }
    TRY(rc);
    TRY(mark_needed(&checker));
    TRY(check_log(&checker));
    TRY(check_images(&checker));
out:
    vv_mark_release(&checker.mark);
    vv_journal_close(checker.place);
    vv_declared_release(&checker.declared);
    *damage = checker.damage;
    return rc;
}
