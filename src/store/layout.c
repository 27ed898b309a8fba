/* layout.c - what all layouts tell of a commit: the texts in it are its own. */
#include "store/layout.h"

#include <string.h>

#include "base/alloc.h"

bool vv_id_is_zero(const varve_commit_id *id)
{
    return vv_hash_is_zero(id->bytes);
}

bool vv_id_equal(const varve_commit_id *a, const varve_commit_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void vv_commit_facts_release(struct vv_commit_facts *facts)
{
    vv_free(facts->message);
    vv_free(facts->branch);
    vv_free(facts->engine);
    *facts = (struct vv_commit_facts){ .locator = 0 };
}

static varve_status copy_text(char **copy, const char *text)
{
    return text == NULL ? VARVE_OK : vv_strdup(copy, text);
}

varve_status vv_commit_facts_copy(struct vv_commit_facts *copy, const struct vv_commit_facts *facts)
{
    varve_status rc = VARVE_OK;

    *copy = *facts;
    copy->message = copy->branch = copy->engine = NULL;
    TRY(copy_text(&copy->message, facts->message));
    TRY(copy_text(&copy->branch, facts->branch));
    TRY(copy_text(&copy->engine, facts->engine));
out:
    if (rc != VARVE_OK)
        vv_commit_facts_release(copy);
    return rc;
}

varve_status vv_bury_known(void)
{
    return vv_fail(VARVE_EXISTS, "a commit that the store knows needs no tombstone");
}
