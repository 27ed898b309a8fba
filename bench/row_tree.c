/* row_tree.c - the layout tree beside the journal: what a directory for each commit costs. */
#include "product.h"

#include <stdio.h>

enum { SIZE = 64 << 10 };

struct beside {
    struct product journal, tree;
};

static void store_of_images(struct product *p, const struct bench *b, const char *name, varve_layout layout,
                            unsigned count)
{
    char image[16];

    p->layout = layout;
    product_create(p, b, name);
    product_begin(p, NULL);
    for (unsigned i = 0; i < count; i++) {
        snprintf(image, sizeof image, "i%u", i);
        uint8_t *bytes = product_image(p, image, SIZE);
        for (unsigned at = 0; at < SIZE; at += BENCH_PAGE)
            *(volatile uint64_t *)(bytes + at) = bench_random();
    }
    product_commit(p, VARVE_DURABLE, NULL);
    varve_session_abort(p->session);
    p->session = NULL;
}

/* A session on the head, one image of it open, and its end. */
static double begin(struct product *p)
{
    const double start = bench_now();

    product_begin(p, NULL);
    bench_use(*product_image(p, "i0", SIZE));
    const double spent = (bench_now() - start) / 1e3;
    varve_session_abort(p->session);
    p->session = NULL;
    return spent;
}

/* The same with a word changed and committed. */
static double commit(struct product *p)
{
    product_begin(p, NULL);
    *(volatile uint64_t *)(product_image(p, "i0", SIZE) + bench_random() % 4 * BENCH_PAGE) = bench_random();
    const double start = bench_now();
    product_commit(p, VARVE_DURABLE, NULL);
    const double spent = (bench_now() - start) / 1e3;
    varve_session_abort(p->session);
    p->session = NULL;
    return spent;
}

static double begin_journal(void *context)
{
    return begin(&((struct beside *)context)->journal);
}

static double begin_tree(void *context)
{
    return begin(&((struct beside *)context)->tree);
}

static double commit_journal(void *context)
{
    return commit(&((struct beside *)context)->journal);
}

static double commit_tree(void *context)
{
    return commit(&((struct beside *)context)->tree);
}

void bench_tree(struct bench *b)
{
    static const unsigned counts[] = { 1, 100, 1000 };

    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct beside beside = { .journal = { .session = NULL } };
        char name[64], journal[32], tree[32];
        snprintf(journal, sizeof journal, "journal%u", counts[i]);
        snprintf(tree, sizeof tree, "tree%u", counts[i]);
        store_of_images(&beside.journal, b, journal, VARVE_LAYOUT_JOURNAL, counts[i]);
        store_of_images(&beside.tree, b, tree, VARVE_LAYOUT_TREE, counts[i]);
        snprintf(name, sizeof name, "session begin, 1 of %u images opened", counts[i]);
        bench_measure(b, &(struct bench_case){ .name = name,
                                               .unit = "us",
                                               .runs = 300,
                                               .floor = begin_journal,
                                               .product = begin_tree,
                                               .context = &beside });
        snprintf(name, sizeof name, "commit, 1 page of %u images changed", counts[i]);
        bench_measure(b, &(struct bench_case){ .name = name,
                                               .unit = "us",
                                               .runs = 100,
                                               .floor = commit_journal,
                                               .product = commit_tree,
                                               .context = &beside });
        product_close(&beside.journal);
        product_close(&beside.tree);
    }
}
