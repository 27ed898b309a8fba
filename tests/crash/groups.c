/* groups.c - see groups.h. */
#include "groups.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/journal/journal.h"

static const struct vv_layout *const journal = &vv_layout_journal;

static const struct vv_journal_limits small = {
    .log = { .segment = 32 << 10, .ahead = 16 << 10, .files = 2 },
    .spare = 8 << 10,
    .checkpoint_records = 100,
    .checkpoint_bytes = 1 << 20,
    .views = 4,
    .frames = 4,
};

varve_status groups_create(const struct vv_vfs *vfs, const char *path)
{
    return opened_create(vfs, path, &small);
}

varve_status groups_open(struct opened *store, const struct vv_vfs *vfs, const char *path, bool read_only)
{
    return opened_begin(store, vfs, path, read_only, &small);
}

static void branch_of(unsigned step, char branch[16])
{
    (void)snprintf(branch, 16, "b%u", (step - 1) % GROUPS_CROWD);
}

varve_status groups_make(struct vv_place *place, void (*begin)(struct crowd_member *member),
                         void (*end)(struct crowd_member *member), void *context)
{
    struct crowd_member members[2][GROUPS_CROWD];
    varve_status rc = VARVE_OK;

    for (unsigned group = 0; group < 2; group++) {
        for (unsigned i = 0; i < GROUPS_CROWD; i++) {
            const struct crowd_member *parent = group == 0 ? NULL : &members[0][i];
            const bool on_top = parent != NULL && parent->status == VARVE_OK;
            members[group][i] = (struct crowd_member){ .number = group * GROUPS_CROWD + i + 1,
                                                       .before = on_top ? parent->number : 0,
                                                       .parent = on_top ? &parent->facts : NULL,
                                                       .durability = i == 1 ? VARVE_BUFFERED : VARVE_DURABLE,
                                                       .big = 2,
                                                       .begin = begin,
                                                       .end = end,
                                                       .context = context };
            branch_of(members[group][i].number, members[group][i].branch);
        }
        crowd_commit(journal, place, members[group], GROUPS_CROWD);
        for (unsigned i = 0; i < GROUPS_CROWD; i++)
            rc = rc == VARVE_OK ? members[group][i].status : rc;
    }
    for (unsigned i = 0; i < GROUPS_CROWD; i++) {
        vv_commit_facts_release(&members[0][i].facts);
        vv_commit_facts_release(&members[1][i].facts);
    }
    return rc;
}

static bool see_commit(struct vv_place *place, const varve_commit_id *id, bool seen[GROUPS_STEPS + 1],
                       varve_commit_id ids[GROUPS_STEPS + 1], varve_commit_id tops[GROUPS_CROWD],
                       char denial[512])
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct model_state state;

    if (journal->facts(place, id, &facts) != VARVE_OK)
        return (void)snprintf(denial, 512, "facts: %.400s", vv_words()), false;
    const unsigned step = (unsigned)strtoul(facts.message, NULL, 10);
    vv_commit_facts_release(&facts);
    if (step == 0 || step > GROUPS_STEPS || seen[step])
        return (void)snprintf(denial, 512, "step %u is there, and should not be", step), false;
    seen[step] = true;
    if (ids != NULL)
        ids[step] = *id;
    tops[(step - 1) % GROUPS_CROWD] = *id;
    crowd_state(step, 2, &state);
    if (model_compare(journal, place, id, &state) != VARVE_OK)
        return (void)snprintf(denial, 512, "step %u: %.400s", step, vv_words()), false;
    return true;
}

bool groups_see(struct vv_place *place, bool seen[GROUPS_STEPS + 1], varve_commit_id ids[GROUPS_STEPS + 1],
                char denial[512])
{
    varve_commit_id tops[GROUPS_CROWD] = { { { 0 } } };
    const uint64_t last = journal->last_number(place);

    for (uint64_t number = 1; number <= last; number++) {
        varve_commit_id id;
        const varve_status rc = journal->find_number(place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK)
            return (void)snprintf(denial, 512, "number %u: %.400s", (unsigned)number, vv_words()), false;
        if (!see_commit(place, &id, seen, ids, tops, denial))
            return false;
    }
    for (unsigned i = 0; i < GROUPS_CROWD; i++) { /* a commit and its ref are one record */
        struct vv_ref_facts ref = { .moves = 0 };
        char branch[16];
        branch_of(i + 1, branch);
        const varve_status rc = journal->ref_get(place, branch, &ref);
        if ((rc != VARVE_OK && rc != VARVE_NOT_FOUND) || memcmp(&ref.commit, &tops[i], 32) != 0)
            return (void)snprintf(denial, 512, "%s does not name its newest commit", branch), false;
    }
    return true;
}
