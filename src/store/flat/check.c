/* check.c - read every byte of a store of the layout flat, believe nothing, report. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/codepool.h"
#include "store/flat/place.h"

struct checker {
    const struct vv_dir *dir;
    const struct vv_layout_options *options;
    struct vv_place *place;
    uint64_t damage;
    const struct vv_version *version; /* whose file is read */
    uint64_t bad_pages;
};

static void tell_finding(void *context, const varve_finding *finding)
{
    struct checker *checker = context;

    checker->damage += finding->severity == VARVE_DAMAGE && !finding->repaired;
    if (checker->options->finding != NULL)
        checker->options->finding(checker->options->context, finding);
}

static void tell(struct checker *checker, varve_severity severity, const char *file, const char *text)
{
    const varve_finding finding = { .severity = severity, .file = file, .text = text };

    tell_finding(checker, &finding);
}

/* ---- Files of versions -------------------------------------------------------------------------- */

/* Of damage to a module's file: with the first commit that has it. */
static void tell_version(struct checker *checker, const char *text)
{
    const struct vv_version *version = checker->version;
    const struct vv_plain_commit *commit = vv_plain_numbered(&checker->place->plain, version->first);
    char name[VV_FLAT_NAME];
    const varve_finding finding = { .severity = VARVE_DAMAGE,
                                    .file = name,
                                    .commit = commit == NULL ? NULL : &commit->facts.id,
                                    .module = &version->module,
                                    .text = text };

    vv_version_name(version, name);
    tell_finding(checker, &finding);
}

static void bad_page(void *context, uint64_t index)
{
    struct checker *checker = context;
    char text[96];

    if (++checker->bad_pages > 8)
        return; /* the rest is told as a number */
    (void)snprintf(text, sizeof text, "page %llu is not what was committed", (unsigned long long)index);
    tell_version(checker, text);
}

/* A failure that is damage is told and passed over; any other one ends the check. */
static varve_status pass_damage(struct checker *checker, varve_status rc)
{
    if (rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND && rc != VARVE_IO)
        return rc;
    tell_version(checker, vv_words());
    return VARVE_OK;
}

static varve_status check_code(struct checker *checker)
{
    const struct vv_module *entry = checker->version->entry;
    uint8_t *code = NULL;
    size_t size = 0;

    if (vv_hash_is_zero(entry->code))
        return VARVE_OK;
    const varve_status rc = vv_codepool_get(checker->dir, entry->code, &code, &size);
    vv_free(code);
    return pass_damage(checker, rc);
}

static varve_status check_version(struct checker *checker, struct vv_version *version)
{
    struct vv_version_file *file = NULL;
    char text[96];
    varve_status rc = VARVE_OK;

    checker->version = version;
    checker->bad_pages = 0;
    rc = version->missing ? VARVE_OK : vv_version_open(checker->place, version, &file);
    if (rc == VARVE_OK && file != NULL)
        rc = vv_memfile_check(&file->file, &version->entry->memory, bad_page, checker);
    vv_version_let_go(checker->place, file);
    TRY(pass_damage(checker, rc));
    if (checker->bad_pages > 8) {
        (void)snprintf(text, sizeof text, "and %llu more pages", (unsigned long long)(checker->bad_pages - 8));
        tell_version(checker, text);
    }
    TRY(check_code(checker));
out:
    return rc;
}

static varve_status check_versions(struct checker *checker)
{
    varve_progress progress = { .what = "reading files", .total = checker->place->versions.count, .unit = "files" };
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_flat_number_versions(checker->place));
    while (vv_table_next(&checker->place->versions, &cursor, &key, &value)) {
        if (checker->options->progress != NULL &&
            checker->options->progress(checker->options->context, &progress) != 0)
            TRY(vv_fail(VARVE_CANCELLED, "the check was stopped"));
        TRY(check_version(checker, value->pointer));
        progress.done++;
    }
out:
    return rc;
}

/* ---- The rest ----------------------------------------------------------------------------------- */

static void check_code_file(void *context, const char *name, varve_status status)
{
    char path[96];

    (void)snprintf(path, sizeof path, ".varve/code/%.64s", name);
    if (status != VARVE_OK)
        tell(context, status == VARVE_INVALID ? VARVE_WARNING : VARVE_DAMAGE, path, vv_words());
}

static int check_name(void *context, const char *name)
{
    struct checker *checker = context;
    uint8_t key[64];

    if (!vv_version_is_name(name, key) && !vv_pointer_is_name(name, NULL) && !vv_backing_is_name(name, NULL) &&
        strcmp(name, "commits") != 0 && strcmp(name, ".varve") != 0 && !vv_flat_is_debris(checker->place, name))
        tell(checker, VARVE_WARNING, name, "no file of this store has such a name");
    return 0;
}

/* A pointer that is elsewhere is no damage: it moves when the store is opened by a writer. */
static varve_status check_pointers(struct checker *checker)
{
    struct vv_pointers pointers = { .count = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_pointers_astray(checker->place, &pointers));
    if (pointers.count > 0)
        tell(checker, VARVE_NOTE, NULL,
             "pointers `_last` are not where main stands: they move when the store is next opened for writing");
out:
    vv_pointers_release(checker->place, &pointers);
    return rc;
}

varve_status vv_flat_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                           uint64_t *damage)
{
    struct checker checker = { .dir = dir, .options = options };
    struct vv_layout_options own = *options;
    varve_status rc = VARVE_OK;

    if (flags & VARVE_CHECK_REPAIR)
        return vv_fail(VARVE_UNSUPPORTED, "the layout flat has no repair: `varve clone --salvage` takes what still opens into a "
                                          "new store");
    own.read_only = true;
    own.finding = tell_finding;
    own.context = &checker;
    rc = vv_flat_open(dir, &own, &checker.place);
    if (rc == VARVE_CORRUPT) {
        tell(&checker, VARVE_DAMAGE, NULL, vv_words());
        rc = VARVE_OK;
        goto out;
    }
    TRY(rc);
    TRY(vv_dir_each(dir, check_name, &checker));
    rc = vv_nodefile_check(&checker.place->nodes->file);
    if (rc == VARVE_CORRUPT)
        tell(&checker, VARVE_DAMAGE, NULL, vv_words());
    else
        TRY(rc);
    TRY(check_versions(&checker));
    TRY(check_pointers(&checker));
    TRY(vv_codepool_check(dir, check_code_file, &checker));
out:
    vv_flat_close(checker.place);
    *damage = checker.damage;
    return rc;
}
