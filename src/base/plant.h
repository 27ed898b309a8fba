/* plant.h - known bugs, compiled in by -Dplant=true alone, to see that the crash harnesses find them.
 *
 * VV_PLANT("name") is the constant false in every other build, so a product has none of them. In that build it is
 * true when the environment says VARVE_PLANT=name. `make crash-plant` sets each in turn (tools/plant.py has the list)
 * and fails when no harness complains. */
#ifndef VV_PLANT_H
#define VV_PLANT_H

#include <stdbool.h>

#ifdef VV_PLANTED
#include <stdlib.h>
#include <string.h>

static inline bool vv_planted(const char *name)
{
    const char *wanted = getenv("VARVE_PLANT");

    return wanted != NULL && strcmp(wanted, name) == 0;
}
#define VV_PLANT(name) vv_planted(name)
#else
#define VV_PLANT(name) false
#endif

#endif
