// SPDX-License-Identifier: GPL-2.0-or-later   (includes LAMMPS headers)
// What `plugin load` calls.
#include "pair_composer.h"

using namespace LAMMPS_NS;

extern "C" {
typedef void *(plugin_factory1)(void *);
typedef void *(plugin_factory2)(void *, int, char **);
typedef struct {
  const char *version, *style, *name, *info, *author;
  union { plugin_factory1 *v1; plugin_factory2 *v2; } creator;
  void *handle;
} plugin_t;
typedef void (*plugin_register)(plugin_t *, void *);
}

static void *create(void *lmp) { return new PairComposer(static_cast<LAMMPS *>(lmp)); }

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *registration) {
  plugin_t plugin{};
  plugin.version = COMPOSER_LAMMPS_VERSION;
  plugin.style = "pair";
  plugin.name = "composer";
  plugin.info = "models exported by composer";
  plugin.author = "The composer authors";
  plugin.creator.v1 = create;
  plugin.handle = handle;
  reinterpret_cast<plugin_register>(registration)(&plugin, lmp);
}
