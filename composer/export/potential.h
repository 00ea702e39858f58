/* An interatomic potential as C source: @formula@
   species @symbols@; cutoff @cutoff@ Å; @count@ numbers, embedded in potential.c. Units: eV, Å, eV/Å.
   Build: cc -O3 -march=native -ffast-math -c potential.c; link with -lm. Nothing else is needed; without -ffast-math it is exact C11, slower.
@checks@*/
#ifndef POTENTIAL_H
#define POTENTIAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sites are atoms followed by their periodic images (ghosts). The neighbours of a site, on both sides of each pair, are given as CSR
   (first, index), or, if rows is not NULL, as one pointer and one count for each site. A list may hold more than lies within the cutoff. */
typedef struct {
  int64_t atoms, sites;     /* atoms to visit; atoms and images together */
  const double *x;          /* [sites][3] Å */
  const int32_t *species;   /* [sites] 0 .. potential_species() - 1 */
  const int64_t *first;     /* [atoms + 1] */
  const int32_t *index;     /* [first[atoms]] sites */
  const int32_t *const *rows;
  const int32_t *counts;
  const int32_t *list;      /* [atoms] which sites to visit, or NULL for 0 .. atoms - 1 */
  int32_t mask;             /* the bits of an entry that are the number of the site, 0 for all */
  double *const *site;      /* [potential_arrays()] arrays [sites], zero before stage 0 */
  double *forces;           /* [sites][3], added to */
  double *virials;          /* [sites][6] xx yy zz xy xz yz, added to, eV, -dE/dstrain; or NULL */
  double *scratch;          /* [potential_scratch(row)] */
  int64_t row;              /* potential_row(length of the longest list) */
} potential_system;

enum { POTENTIAL_SCHEMA = 1 };

int potential_schema(void);
int potential_species(void);
const char *potential_symbol(int species);
double potential_cutoff(void);

/* Energy of an atom alone (eV), which site energies contain. */
double potential_alone(int species);

/* All at once. owner [sites - atoms]: the atom of which each further site is an image. Written: energy, eV; energies [atoms] eV (or
   NULL); forces [atoms][3] eV/Å; virial [3][3] eV (or NULL). Returns 0, or 1 when there is no memory. */
int potential_compute(int64_t atoms, int64_t sites, const double *x, const int32_t *species, const int32_t *owner, const int64_t *first,
                      const int32_t *index, double *energy, double *energies, double *forces, double *virial);

/* Stage by stage, for codes that exchange images themselves: call stages 0 .. potential_stages() - 1. After stage n, images take the
   value of their owner in the arrays of potential_forward(n, ...), and owners collect what stands on their images (which go back to zero) in
   those of potential_backward(n, ...). Both return how many arrays there are. Forces on images belong to their owners. */
int potential_stages(void);
int potential_arrays(void);
int potential_energy_array(void);
int potential_forward(int stage, const int **arrays);
int potential_backward(int stage, const int **arrays);
int64_t potential_row(int64_t longest);
int64_t potential_scratch(int64_t row);
void potential_stage(int stage, const potential_system *system);

#ifdef __cplusplus
}
#endif
#endif
