/* check.c - read everything, believe nothing, report. Every version is made again from the first image and the deltas,
 * and every page of it is held against its hash; every name in the directory is accounted for. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/chain/place.h"
#include "store/codepool.h"
#include "store/plain/memfile.h"

struct checker {
    struct vv_place *place;
    const struct vv_layout_options *options;
    uint32_t flags;
    uint64_t damage;
    const struct vv_line *line;
    const struct vv_version *version;
    const char *name;
    uint64_t bad_pages;
};

static void tell(struct checker *checker, varve_severity severity, const char *file,
                 const varve_module_id *module, const char *text)
{
    const varve_finding finding = { .severity = severity, .file = file, .module = module, .text = text };

    checker->damage += severity == VARVE_DAMAGE;
    if (checker->options->finding != NULL)
        checker->options->finding(checker->options->context, &finding);
}

/* ---- Images ------------------------------------------------------------------------------------- */

static void count_bad(void *context, uint64_t index)
{
    struct checker *checker = context;

    (void)index;
    checker->bad_pages++;
}

static varve_status check_image(struct checker *checker, const struct vv_version *version, bool first)
{
    struct vv_file file = VV_FILE_NONE;
    char name[VV_CHAIN_NAME], text[200];
    varve_status rc = VARVE_OK;

    vv_chain_image_name(checker->line, version, name);
    rc = vv_chain_open_image(checker->place, checker->line, version, false, &file);
    if (rc == VARVE_CORRUPT) {
        tell(checker, first ? VARVE_DAMAGE : VARVE_NOTE, name, &checker->line->id,
             first ? "the file is missing, and with it all versions of this module"
                   : "the image of the newest version is missing: the next writer makes it anew");
        return VARVE_OK;
    }
    TRY(rc);
    checker->bad_pages = 0;
    TRY(vv_memfile_check(&file, &version->module->memory, count_bad, checker));
    if (checker->bad_pages == 0)
        goto out;
    (void)snprintf(text, sizeof text, "%llu pages are not what was committed%s",
                   (unsigned long long)checker->bad_pages,
                   first ? "" : "; the file is a cache: a writer that finds one of them makes it anew");
    tell(checker, first ? VARVE_DAMAGE : VARVE_WARNING, name, &checker->line->id, text);
out:
    vv_file_close(&file);
    return rc;
}

/* ---- Deltas ------------------------------------------------------------------------------------- */

static varve_status look_at_page(void *context, uint64_t index, const uint8_t *page)
{
    (void)context;
    (void)index;
    (void)page;
    return VARVE_OK;
}

struct comparing {
    const struct vv_deltafile *delta;
    size_t next;
    uint64_t page_count;
    bool well;
};

static varve_status compare_entry(void *context, uint64_t index, const struct vv_leaf *from,
                                  const struct vv_leaf *to)
{
    struct comparing *comparing = context;

    (void)from;
    if (index >= comparing->page_count)
        return VARVE_OK;
    if (comparing->next == comparing->delta->count)
        comparing->well = false;
    else {
        const struct vv_deltafile_entry *entry = &comparing->delta->entries[comparing->next++];
        comparing->well =
            comparing->well && entry->index == index && (entry->place == UINT32_MAX) == (to == NULL);
    }
    return VARVE_OK;
}

static varve_status check_delta(struct checker *checker, const struct vv_version *before,
                                struct vv_version *version)
{
    const struct vv_pagetree *memory = &version->module->memory;
    struct comparing comparing = { .well = true, .page_count = memory->page_count };
    char name[VV_CHAIN_NAME];
    varve_status rc = VARVE_OK;

    vv_chain_delta_name(checker->line, version, version == vv_chain_newest(checker->line), name);
    rc = vv_chain_directory(checker->place, checker->line, version, NULL, &comparing.delta);
    if (rc == VARVE_OK)
        rc = vv_pagetree_diff(&before->module->memory, memory, compare_entry, &comparing);
    if (rc == VARVE_OK && (!comparing.well || comparing.next != comparing.delta->count))
        rc = vv_fail(VARVE_CORRUPT, "%s: it has other pages than differ from the version before", name);
    if (rc == VARVE_OK && (checker->flags & VARVE_CHECK_QUICK) == 0)
        rc = vv_chain_fetch(checker->place, VV_CHAIN_TRUTH, &before->module->memory, memory, look_at_page,
                            NULL);
    if (rc != VARVE_CORRUPT)
        return rc;
    tell(checker, VARVE_DAMAGE, name, &checker->line->id, vv_words());
    return VARVE_OK;
}

static varve_status check_line(struct checker *checker, const struct vv_line *line)
{
    varve_status rc = VARVE_OK;

    checker->line = line;
    if ((checker->flags & VARVE_CHECK_QUICK) == 0 && line->count > 0)
        TRY(check_image(checker, line->versions[0], true));
    for (size_t i = 1; i < line->count; i++)
        TRY(check_delta(checker, line->versions[i - 1], line->versions[i]));
    if ((checker->flags & VARVE_CHECK_QUICK) == 0 && line->count > 1 && !vv_chain_shares_first(line))
        TRY(check_image(checker, vv_chain_newest(line), false));
out:
    return rc;
}

/* ---- All of it ---------------------------------------------------------------------------------- */

static varve_status check_name(void *context, const struct vv_chain_file *file)
{
    struct checker *checker = context;

    if (file->kind == VV_CHAIN_OTHER)
        tell(checker, VARVE_WARNING, file->name, NULL, "no file of this store has such a name");
    if (file->kind == VV_CHAIN_DEBRIS)
        tell(checker, VARVE_NOTE, file->name, NULL, "nobody needs it: `varve gc` removes it");
    return VARVE_OK;
}

static void check_code(void *context, const char *name, varve_status status)
{
    struct checker *checker = context;
    char path[300];

    (void)snprintf(path, sizeof path, ".varve/code/%.200s", name);
    if (status != VARVE_OK)
        tell(checker, status == VARVE_INVALID ? VARVE_WARNING : VARVE_DAMAGE, path, NULL, vv_words());
}

static varve_status check_nodes(struct checker *checker)
{
    const varve_status rc = vv_nodefile_check(&checker->place->nodes);

    if (rc != VARVE_CORRUPT)
        return rc;
    tell(checker, VARVE_DAMAGE, ".varve/nodes", NULL, vv_words());
    return VARVE_OK;
}

/* Every commit's bytecode is there. */
static varve_status check_commits(struct checker *checker)
{
    struct vv_place *place = checker->place;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < place->line_count; i++) {
        for (size_t k = 0; k < place->lines[i]->count; k++) {
            const struct vv_module *module = place->lines[i]->versions[k]->module;
            uint8_t *code = NULL;
            size_t size = 0;
            if (vv_hash_is_zero(module->code) ||
                (k > 0 && vv_hash_equal(place->lines[i]->versions[k - 1]->module->code, module->code)))
                continue;
            rc = vv_codepool_get(&place->dir, module->code, &code, &size);
            vv_free(code);
            if (rc == VARVE_NOT_FOUND || rc == VARVE_CORRUPT) {
                tell(checker, VARVE_DAMAGE, NULL, &module->id, vv_words());
                rc = VARVE_OK;
            }
            TRY(rc);
        }
    }
out:
    return rc;
}

varve_status vv_chain_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                            uint64_t *damage)
{
    struct checker checker = { .options = options, .flags = flags };
    struct vv_layout_options silent = *options;
    varve_status rc = VARVE_OK;

    *damage = 0;
    if (flags & VARVE_CHECK_REPAIR)
        return vv_fail(VARVE_UNSUPPORTED,
                       "the layout chain is not repaired in place: newest images are made anew by "
                       "whoever opens the store to write; `varve clone --salvage` saves the commits that "
                       "can still be read");
    silent.read_only = true;
    silent.finding = NULL; /* all of it is told here, and more */
    rc = vv_chain_open(dir, &silent, &checker.place);
    if (rc == VARVE_CORRUPT) {
        tell(&checker, VARVE_DAMAGE, NULL, NULL, vv_words());
        rc = VARVE_OK;
        goto out;
    }
    TRY(rc);
    TRY(vv_chain_each_file(checker.place, check_name, &checker));
    TRY(vv_codepool_check(dir, check_code, &checker));
    TRY(check_nodes(&checker));
    TRY(check_commits(&checker));
    for (size_t i = 0; i < checker.place->line_count; i++)
        TRY(check_line(&checker, checker.place->lines[i]));
out:
    vv_chain_close(checker.place);
    *damage = checker.damage;
    return rc;
}
