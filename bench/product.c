/* product.c - see product.h. */
#include "product.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void must(varve_status status, const varve_error *error, const char *what)
{
    if (status != VARVE_OK)
        bench_die("%s: %s: %s", what, varve_status_name(status), error->message);
}

void product_create(struct product *p, const struct bench *b, const char *name)
{
    varve_store_options options = VARVE_INIT(varve_store_options);
    varve_error error = { 0 };

    p->session = NULL;
    snprintf(p->path, sizeof p->path, "%s/%s", b->dir, name);
    options.flags = VARVE_STORE_CREATE;
    options.layout = p->layout;
    if (access(p->path, F_OK) == 0)
        bench_die("%s is there already", name);
    must(varve_store_open(p->path, &options, &p->store, &error), &error, "make a store");
}

void product_open(struct product *p)
{
    varve_error error = { 0 };

    p->session = NULL;
    must(varve_store_open(p->path, NULL, &p->store, &error), &error, "open the store");
}

void product_close(struct product *p)
{
    varve_session_abort(p->session);
    p->session = NULL;
    varve_store_close(p->store);
    p->store = NULL;
}

void product_begin(struct product *p, const varve_commit *base)
{
    varve_session_options options = VARVE_INIT(varve_session_options);
    varve_error error = { 0 };

    options.vm = p->vm;
    options.base = base;
    options.branch = base != NULL ? "" : NULL;
    must(varve_session_begin(p->store, &options, &p->session, &error), &error, "begin a session");
}

void product_commit(struct product *p, varve_durability durability, varve_commit_info *info)
{
    varve_commit_options options = VARVE_INIT(varve_commit_options);
    varve_commit *commit = NULL;
    varve_error error = { 0 };

    options.flags = VARVE_COMMIT_CHAIN;
    options.durability = durability;
    must(varve_session_commit(p->session, &options, info != NULL ? &commit : NULL, &error), &error, "commit");
    if (info != NULL) {
        *info = *varve_commit_get(commit);
        info->message = info->branch = info->engine = info->move = ""; /* they end with the commit */
        varve_commit_close(commit);
    }
}

varve_module_id product_id(const char *name)
{
    varve_module_id id;
    varve_error error = { 0 };

    must(varve_module_id_of(name, &id), &error, "an id");
    return id;
}

uint8_t *product_image(struct product *p, const char *name, uint64_t size)
{
    varve_image_options options = VARVE_INIT(varve_image_options);
    const varve_module_id id = product_id(name);
    varve_image *image = NULL;
    varve_error error = { 0 };

    options.name = name;
    options.create_size = size;
    must(varve_image_open(p->session, &id, &options, &image, &error), &error, "open an image");
    return varve_image_bytes(image);
}

void product_fill(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += 8) {
        const uint64_t word = bench_random();
        memcpy(bytes + at, &word, 8);
    }
}
