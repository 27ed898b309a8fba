/* revision.c - see revision.h. The parser looks at text alone; what a name turns out to be is asked of the store.
 *
 *   REV  = BASE { "~" [N] | "^" }
 *   BASE = "HEAD" | REF [ "@{" WHEN "}" ] | "r" DIGITS | HEX{4,64} | "root:" HEX{4,64} */
#include "store/revision.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { HEX_MIN = 4, HEX_MAX = 64, NEAR_LIMIT = 64, NEAR_REFS = 1000 };

/* ---- Small words ------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many of the `length` characters at `text` are hex, when all are; else 0. */
static unsigned all_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (vv_hex_digit(text[i]) < 0)
            return 0;
    return (unsigned)length;
}

static void put_hex(struct vv_revision *revision, const char *text, unsigned digits)
{
    memset(revision->hex, 0, sizeof revision->hex);
    for (unsigned i = 0; i < digits; i++)
        revision->hex[i / 2] |= (uint8_t)(vv_hex_digit(text[i]) << (i % 2 == 0 ? 4 : 0));
    revision->digits = digits;
}

/* The decimal number at `*text`, which moves behind it. False: there is none, or it is over `limit`. */
static bool take_number(const char **text, uint64_t limit, uint64_t *number)
{
    const char *at = *text;
    uint64_t value = 0;

    if (!is_digit(*at))
        return false;
    for (; is_digit(*at); at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        if (value > (limit - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *text = at;
    *number = value;
    return true;
}

/* ---- Names ------------------------------------------------------------------------------------ */

static bool is_number_name(const char *name)
{
    const char *at = name + 1;

    if (name[0] != 'r' || !is_digit(*at))
        return false;
    while (is_digit(*at))
        at++;
    return *at == '\0';
}

/* In a revision "v1" is as good as "tags/v1", so a tag may not read as something else without its prefix either. */
static const char *ref_name_fault(const char *name)
{
    const size_t length = strlen(name);
    const char *said = strncmp(name, "tags/", 5) == 0 ? name + 5 : name;

    if (length == 0)
        return "it is empty";
    if (length >= sizeof((struct vv_ref_facts *)0)->name)
        return "it is longer than 255 bytes";
    if (strcmp(said, "HEAD") == 0)
        return "HEAD stands for the branch that is worked on";
    if (is_number_name(said))
        return "r and digits stand for a commit's number";
    if (strlen(said) == HEX_MAX && all_hex(said, HEX_MAX) != 0)
        return "64 hex digits stand for a commit's id";
    if (strcmp(said, "@") == 0)
        return "it is a lone @";
    if (said[0] == '-')
        return "it begins with -";
    for (const char *at = name; *at != '\0'; at++) {
        const unsigned char c = (unsigned char)*at;
        const bool begins = at == name || at[-1] == '/';
        if (c <= ' ' || c == 0x7f || strchr("~^:?*[\\", c) != NULL)
            return "it has a blank, a control character or one of ~ ^ : ? * [ \\";
        if (c == '/' && begins)
            return "a part of it between slashes is empty";
        if (c == '.' && (begins || at[1] == '.'))
            return "a part of it begins with a dot, or it has two dots in a row";
        if (c == '@' && at[1] == '{')
            return "it has @{";
        if (strncmp(at, ".lock", 5) == 0 && (at[5] == '\0' || at[5] == '/'))
            return "a part of it ends with .lock";
    }
    if (name[length - 1] == '/' || name[length - 1] == '.')
        return "it ends with a slash or a dot";
    return NULL;
}

varve_status vv_ref_name_check(const char *name)
{
    const char *fault = ref_name_fault(name);

    if (fault == NULL)
        return VARVE_OK;
    return vv_fail(VARVE_INVALID, "\"%.80s\" cannot be the name of a branch or tag: %s", name, fault);
}

varve_status vv_module_name_check(const char *name)
{
    const size_t length = strlen(name);
    const char *fault = NULL;

    if (length == 0)
        fault = "it is empty";
    else if (length > VV_NAME_MAX)
        fault = "it is longer than 127 bytes";
    else if (length == HEX_MAX && all_hex(name, length) != 0)
        fault = "64 hex digits stand for an id";
    for (size_t i = 0; fault == NULL && i < length; i++) {
        const char c = name[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || !(is_digit(c) || c == '.' || c == '-')))
            fault =
                i == 0 ? "it must begin with a letter or _" : "it has more than letters, digits, _ . and -";
    }
    if (fault == NULL)
        return VARVE_OK;
    return vv_fail(VARVE_INVALID, "\"%.140s\" cannot be the name of a module or image: %s", name, fault);
}

/* ---- Parsing ---------------------------------------------------------------------------------- */

static varve_status malformed(const char *text, const char *at, const char *what)
{
    return vv_fail(VARVE_INVALID, "revision \"%.120s\": at \"%.40s\": %s", text, at, what);
}

/* "10m", after the "@{-". */
static bool parse_ago(const char *text, int64_t *ago)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    uint64_t count = 0;

    if (!take_number(&text, 100000000, &count) || text[0] == '\0' || text[1] != '\0')
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i].unit == text[0])
            return !__builtin_mul_overflow(count * units[i].seconds, UINT64_C(1000000000), ago);
    return false;
}

/* What stands between "@{" and "}". */
static bool parse_when(const char *when, struct vv_revision *revision)
{
    const char *at = when;
    uint64_t moves = 0;

    if (take_number(&at, INT64_MAX, &moves) && *at == '\0') {
        revision->when_kind = VV_WHEN_MOVES;
        revision->when = (int64_t)moves;
        return true;
    }
    if (when[0] == '-') {
        revision->when_kind = VV_WHEN_AGO;
        return parse_ago(when + 1, &revision->when);
    }
    revision->when_kind = VV_WHEN_TIME;
    return vv_time_parse(when, &revision->when) == VARVE_OK;
}

/* The `length` characters in front of the first sign. */
static varve_status parse_base(const char *text, size_t length, struct vv_revision *revision)
{
    static const char root[] = "root:";
    const size_t root_size = sizeof root - 1;

    if (length >= root_size && memcmp(text, root, root_size) == 0) {
        const char *hex = text + root_size;
        const size_t digits = length - root_size;
        if (digits < HEX_MIN || digits > HEX_MAX || all_hex(hex, digits) == 0)
            return malformed(text, hex, "root: takes 4 to 64 hex digits");
        revision->kind = VV_BASE_ROOT;
        put_hex(revision, hex, (unsigned)digits);
        return VARVE_OK;
    }
    if (length == 0)
        return malformed(text, text, "a name, r and a number, or hex digits are expected");
    if (length >= sizeof revision->name)
        return malformed(text, text, "the name is longer than 255 bytes");
    memcpy(revision->name, text, length);
    revision->name[length] = '\0';
    if (strcmp(revision->name, "HEAD") == 0) {
        revision->kind = VV_BASE_HEAD;
        return VARVE_OK;
    }
    if (is_number_name(revision->name)) {
        const char *at = revision->name + 1;
        revision->kind = VV_BASE_NUMBER;
        return take_number(&at, UINT64_MAX, &revision->number)
                   ? VARVE_OK
                   : malformed(text, text, "the number is too large");
    }
    revision->kind = VV_BASE_NAME;
    if (length >= HEX_MIN && length <= HEX_MAX && all_hex(text, length) != 0)
        put_hex(revision, text, (unsigned)length);
    if (length == HEX_MAX && revision->digits != 0)
        return VARVE_OK; /* an id, which no ref can be */
    const char *fault = ref_name_fault(revision->name);
    return fault == NULL ? VARVE_OK : malformed(text, text, fault);
}

static varve_status parse_at(const char *text, const char **at, struct vv_revision *revision)
{
    char when[64];
    const char *end = strchr(*at, '}');

    if (revision->kind != VV_BASE_NAME && revision->kind != VV_BASE_HEAD)
        return malformed(text, *at, "only a branch or tag has a past");
    if (end == NULL || (size_t)(end - *at) - 2 >= sizeof when)
        return malformed(text, *at, "@{ is followed by a number of moves, a time or -10m, and }");
    memcpy(when, *at + 2, (size_t)(end - *at) - 2);
    when[end - *at - 2] = '\0';
    if (!parse_when(when, revision))
        return malformed(text, *at,
                         "@{ } takes a number of moves, a time as 2026-11-20T23:00:00Z, or -10m, -2h, -3d");
    revision->digits = 0; /* only refs have a past */
    *at = end + 1;
    return VARVE_OK;
}

varve_status vv_revision_parse(const char *text, struct vv_revision *revision)
{
    const char *at = text;
    varve_status rc = VARVE_OK;

    *revision = (struct vv_revision){ .kind = VV_BASE_HEAD };
    while (*at != '\0' && *at != '~' && *at != '^' && !(at[0] == '@' && at[1] == '{'))
        at++;
    TRY(parse_base(text, (size_t)(at - text), revision));
    if (*at == '@')
        TRY(parse_at(text, &at, revision));
    while (*at != '\0') {
        uint64_t steps = 1;
        const char *sign = at++;
        if (*sign != '~' && *sign != '^') {
            rc = malformed(text, sign, "~, ~N or ^ is expected");
            goto out;
        }
        if (*sign == '~' && is_digit(*at) && !take_number(&at, UINT64_MAX, &steps)) {
            rc = malformed(text, sign, "the number is too large");
            goto out;
        }
        if (__builtin_add_overflow(revision->parents, steps, &revision->parents)) {
            rc = malformed(text, sign, "there are more generations than can be counted");
            goto out;
        }
    }
out:
    return rc;
}

/* ---- Near misses ------------------------------------------------------------------------------ */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters have to be put in, left out or changed to make one of the other. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NEAR_LIMIT + 1];
    const size_t width = strlen(b);

    if (strlen(a) > NEAR_LIMIT || width > NEAR_LIMIT)
        return SIZE_MAX;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            const size_t change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(change, least(row[j], row[j + 1]) + 1);
        }
    }
    return row[width];
}

/* " (did you mean NAME?)", or nothing. */
static void near_miss(varve_store *store, const char *name, char *words, size_t size)
{
    struct vv_ref_facts ref = { .moves = 0 };
    char after[sizeof ref.name] = "";
    size_t best = 3;

    words[0] = '\0';
    for (int i = 0; i < NEAR_REFS; i++) {
        if (store->layout->ref_next(store->place, i == 0 ? NULL : after, &ref) != VARVE_OK)
            break;
        memcpy(after, ref.name, sizeof after);
        const char *shown = strncmp(ref.name, "tags/", 5) == 0 ? ref.name + 5 : ref.name;
        const size_t far = distance(name, shown);
        if (far < best && far < strlen(name)) {
            best = far;
            (void)snprintf(words, size, " (did you mean %.200s?)", shown);
        }
    }
}

/* ---- Resolution ------------------------------------------------------------------------------- */

/* The ref that `name` stands for: itself, else the tag of this name. Deleted refs count when `past`. NOT_FOUND:
 * `ref` is as it was. */
static varve_status find_ref(varve_store *store, const char *name, bool past, struct vv_ref_facts *ref)
{
    struct vv_ref_facts found = { .moves = 0 };
    struct vv_move_facts move;
    static const char *const prefixes[] = { "", "tags/" };

    for (size_t i = 0; i < 2; i++) {
        char full[sizeof found.name];
        if ((size_t)snprintf(full, sizeof full, "%s%s", prefixes[i], name) >= sizeof full)
            continue;
        varve_status rc = store->layout->ref_get(store->place, full, &found);
        const bool gone = rc == VARVE_OK && vv_id_is_zero(&found.commit);
        if (past && (gone || rc == VARVE_NOT_FOUND)) {
            rc = store->layout->ref_move(store->place, full, 0, &move);
            memcpy(found.name, full, sizeof found.name);
            found.commit = (varve_commit_id){ { 0 } };
        } else if (gone) {
            rc = VARVE_NOT_FOUND;
        }
        if (rc == VARVE_OK) {
            *ref = found;
            return VARVE_OK;
        }
        if (rc != VARVE_NOT_FOUND && rc != VARVE_END)
            return rc;
    }
    return VARVE_NOT_FOUND;
}

/* Where a ref stood: back along its own log. */
static varve_status past_of(varve_store *store, const char *name, const struct vv_revision *revision,
                            int64_t now_ns, varve_commit_id *id)
{
    const bool by_time = revision->when_kind != VV_WHEN_MOVES;
    int64_t limit = revision->when;
    struct vv_move_facts move;
    varve_status rc = VARVE_OK;

    if (revision->when_kind == VV_WHEN_AGO && __builtin_sub_overflow(now_ns, revision->when, &limit))
        limit = INT64_MIN;
    *id = (varve_commit_id){ { 0 } };
    rc = store->layout->ref_move(store->place, name, 0, &move);
    if (rc == VARVE_OK && !by_time && revision->when == 0)
        *id = move.to;
    for (int64_t back = 1; rc == VARVE_OK; back++) {
        if (by_time && move.time_ns <= limit) {
            *id = move.to;
            break;
        }
        if (!by_time && back > revision->when)
            break;
        if (!by_time && back == revision->when) {
            *id = move.from;
            break;
        }
        rc = move.previous == 0 ? VARVE_END
                                : store->layout->ref_move(store->place, name, move.previous, &move);
    }
    if (rc != VARVE_OK && rc != VARVE_END)
        return rc;
    if (vv_id_is_zero(id))
        return vv_fail(VARVE_NOT_FOUND, by_time ? "%s did not exist then" : "%s has not moved that often",
                       name);
    return VARVE_OK;
}

typedef varve_status (*find_fn)(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                varve_commit_id found[2], size_t *count);

/* The one commit whose id or root begins so. */
static varve_status find_hex(varve_store *store, find_fn find, const char *what,
                             const struct vv_revision *revision, varve_commit_id *id)
{
    varve_commit_id found[2];
    char first[65], second[65];
    size_t count = 0;
    const varve_status rc = find(store->place, revision->hex, revision->digits, found, &count);

    if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
        return rc;
    if (rc == VARVE_NOT_FOUND || count == 0)
        return VARVE_NOT_FOUND;
    if (count == 1) {
        *id = found[0];
        return VARVE_OK;
    }
    vv_hex_format(found[0].bytes, first);
    vv_hex_format(found[1].bytes, second);
    return vv_fail(VARVE_AMBIGUOUS,
                   "several commits have %s that begins so, %.12s and %.12s among them: give more digits",
                   what, first, second);
}

static varve_status resolve_name(varve_store *store, const struct vv_revision *revision, const char *name,
                                 int64_t now_ns, varve_commit_id *id)
{
    const bool past = revision->when_kind != VV_WHEN_NONE;
    struct vv_ref_facts ref = { .moves = 0 };
    char words[256];
    varve_status rc = find_ref(store, name, past, &ref);

    if (rc == VARVE_OK && past)
        return past_of(store, ref.name, revision, now_ns, id);
    if (rc == VARVE_OK) {
        *id = ref.commit;
        return VARVE_OK;
    }
    if (rc != VARVE_NOT_FOUND)
        return rc;
    if (revision->digits != 0) {
        rc = find_hex(store, store->layout->find_id, "an id", revision, id);
        if (rc != VARVE_NOT_FOUND)
            return rc;
    }
    if (store->layout->last_number(store->place) == 0)
        return vv_fail(VARVE_NOT_FOUND, "%s: the store has no commits yet", name);
    near_miss(store, name, words, sizeof words);
    return vv_fail(VARVE_NOT_FOUND, "%s: no such branch, tag or commit%s", name, words);
}

static varve_status resolve_base(varve_store *store, const struct vv_revision *revision, const char *head,
                                 int64_t now_ns, varve_commit_id *id)
{
    varve_status rc = VARVE_OK;

    switch (revision->kind) {
    case VV_BASE_HEAD:
        return resolve_name(store, revision, head, now_ns, id);
    case VV_BASE_NAME:
        return resolve_name(store, revision, revision->name, now_ns, id);
    case VV_BASE_NUMBER:
        rc = store->layout->find_number(store->place, revision->number, id);
        if (rc == VARVE_NOT_FOUND)
            return vv_fail(rc, "r%llu: no such commit: the newest is r%llu",
                           (unsigned long long)revision->number,
                           (unsigned long long)store->layout->last_number(store->place));
        return rc;
    case VV_BASE_ROOT:
        rc = find_hex(store, store->layout->find_root, "a root", revision, id);
        if (rc == VARVE_NOT_FOUND)
            return vv_fail(rc, "no commit has a root that begins so");
        return rc;
    }
    VV_ASSERT(!"a kind of base that the parser does not make");
}

varve_status vv_revision_resolve(varve_store *store, const struct vv_revision *revision, const char *head,
                                 int64_t now_ns, varve_commit_id *id)
{
    varve_commit_id at = { { 0 } };
    varve_status rc = resolve_base(store, revision, head, now_ns, &at);

    /* Each step costs a look-up and ends at the genesis, so a huge ~N is refused after as many steps as there are. */
    for (uint64_t i = 0; rc == VARVE_OK && i < revision->parents; i++) {
        struct vv_commit_facts facts = { .locator = 0 };
        rc = store->layout->facts(store->place, &at, &facts);
        if (rc == VARVE_OK && vv_id_is_zero(&facts.parent))
            rc = vv_fail(VARVE_NOT_FOUND, "there are only %llu commits before it", (unsigned long long)i);
        else if (rc == VARVE_OK)
            rc = store->layout->ancestor(store->place, &facts.parent, &at);
        if (rc == VARVE_OK && vv_id_is_zero(&at))
            rc = vv_fail(VARVE_NOT_FOUND, "there are only %llu commits before it that were not deleted",
                         (unsigned long long)i);
        vv_commit_facts_release(&facts);
    }
    if (rc == VARVE_OK)
        *id = at;
    return rc;
}

varve_status vv_revision_ref(varve_store *store, const char *text, char name[256])
{
    struct vv_ref_facts ref = { .moves = 0 };
    const char *wanted = text == NULL || strcmp(text, "HEAD") == 0 ? "main" : text;
    char words[256];
    const varve_status rc = find_ref(store, wanted, true, &ref);

    if (rc == VARVE_NOT_FOUND) {
        near_miss(store, wanted, words, sizeof words);
        return vv_fail(rc, "%.200s: no such branch or tag%s", wanted, words);
    }
    if (rc == VARVE_OK)
        memcpy(name, ref.name, sizeof ref.name);
    return rc;
}

varve_status vv_revision_id(varve_store *store, const char *text, varve_commit_id *id)
{
    struct vv_revision revision;
    varve_status rc = VARVE_OK;

    TRY(vv_revision_parse(text == NULL ? "HEAD" : text, &revision));
    rc = vv_revision_resolve(store, &revision, "main", vv_clock_now_ns(), id);
    if (rc != VARVE_OK && text != NULL)
        rc = vv_fail_within(rc, "revision \"%.100s\"", text);
out:
    return rc;
}
