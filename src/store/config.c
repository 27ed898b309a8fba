/* config.c - see config.h. Format: docs/format.md, "Store directory". */
#include "store/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum { CONFIG_LIMIT = 4096 };

static bool parse_number(const char *text, uint64_t *number)
{
    uint64_t value = 0;

    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        const uint64_t digit = (uint64_t)(*text - '0');
        if (*text < '0' || *text > '9' || value > (UINT64_MAX - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *number = value;
    return value != 0;
}

static varve_status take_line(char *line, struct vv_config *config)
{
    char *value = strchr(line, ' ');
    bool good = false;

    if (value == NULL)
        return vv_fail(VARVE_CORRUPT, ".varve/config: \"%.40s\" is no setting", line);
    *value++ = '\0';
    if (strcmp(line, "durability") == 0) {
        good = strcmp(value, "durable") == 0 || strcmp(value, "buffered") == 0;
        config->durability = strcmp(value, "buffered") == 0 ? VARVE_BUFFERED : VARVE_DURABLE;
    } else if (strcmp(line, "retain") == 0) {
        good = strcmp(value, "all") == 0 || parse_number(value, &config->retain);
        if (strcmp(value, "all") == 0)
            config->retain = VARVE_RETAIN_ALL;
    } else if (strcmp(line, "snapshot_bytes") == 0) {
        good = parse_number(value, &config->snapshot_bytes);
    } else {
        return vv_fail(VARVE_CORRUPT, ".varve/config: %.40s: no such setting is known", line);
    }
    if (!good)
        return vv_fail(VARVE_CORRUPT, ".varve/config: %s cannot be \"%.40s\"", line, value);
    return VARVE_OK;
}

varve_status vv_config_read(const struct vv_dir *own, struct vv_config *config)
{
    uint8_t *data = NULL;
    size_t size = 0;
    char text[CONFIG_LIMIT + 1];
    varve_status rc = VARVE_OK;

    *config = (struct vv_config){ .retain = 0 };
    rc = vv_dir_read(own, "config", CONFIG_LIMIT, &data, &size);
    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK;
    TRY(rc);
    if (memchr(data, 0, size) != NULL || (size > 0 && data[size - 1] != '\n'))
        TRY(vv_fail(VARVE_CORRUPT, ".varve/config does not end with a line, or is no text"));
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        *end = '\0';
        TRY(take_line(line, config));
        line = end + 1;
    }
out:
    vv_free(data);
    return rc;
}

varve_status vv_config_write(const struct vv_dir *own, const struct vv_config *config)
{
    char text[256];
    size_t size = 0;

    if (config->durability != VARVE_DURABILITY_DEFAULT)
        size += (size_t)snprintf(text + size, sizeof text - size, "durability %s\n",
                                 config->durability == VARVE_BUFFERED ? "buffered" : "durable");
    if (config->retain == VARVE_RETAIN_ALL)
        size += (size_t)snprintf(text + size, sizeof text - size, "retain all\n");
    else if (config->retain != 0)
        size += (size_t)snprintf(text + size, sizeof text - size, "retain %" PRIu64 "\n", config->retain);
    if (config->snapshot_bytes != 0)
        size += (size_t)snprintf(text + size, sizeof text - size, "snapshot_bytes %" PRIu64 "\n",
                                 config->snapshot_bytes);
    return vv_dir_publish(own, "config", text, size);
}

void vv_config_merge(struct vv_config *config, const struct vv_config *newer)
{
    if (newer->durability != VARVE_DURABILITY_DEFAULT)
        config->durability = newer->durability;
    if (newer->retain != 0)
        config->retain = newer->retain;
    if (newer->snapshot_bytes != 0)
        config->snapshot_bytes = newer->snapshot_bytes;
}
