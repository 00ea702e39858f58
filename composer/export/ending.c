int potential_schema(void) { return POTENTIAL_SCHEMA; }
int potential_species(void) { return SPECIES; }
const char *potential_symbol(int s) { return s < 0 || s >= SPECIES ? "" : SYMBOLS[s]; }
double potential_cutoff(void) { return CUTOFF; }
double potential_alone(int s) { return P[s]; }
int potential_stages(void) { return STAGES; }
int potential_arrays(void) { return ARRAYS; }
int potential_energy_array(void) { return ENERGY; }

int potential_forward(int stage, const int **arrays) {
  *arrays = FORWARD + FORWARD_FIRST[stage];
  return FORWARD_FIRST[stage + 1] - FORWARD_FIRST[stage];
}

int potential_backward(int stage, const int **arrays) {
  *arrays = BACKWARD + BACKWARD_FIRST[stage];
  return BACKWARD_FIRST[stage + 1] - BACKWARD_FIRST[stage];
}

/* rows of 136 and 264 numbers have their own code; there is room for whole vectors */
int64_t potential_row(int64_t longest) {
  int64_t length = 128;
  while (length < longest) length *= 2;
  return length + 8;
}

int64_t potential_scratch(int64_t row) { return row * SCRATCH_ROWS; }

void potential_stage(int stage, const potential_system *system) { STAGE[stage](system); }

static void exchange(const potential_system *A, const int32_t *owner, int stage) {
  const int *arrays;
  const int forward = potential_forward(stage, &arrays);
  for (int f = 0; f < forward; ++f)
    for (int64_t g = A->atoms; g < A->sites; ++g) A->site[arrays[f]][g] = A->site[arrays[f]][owner[g - A->atoms]];
  const int backward = potential_backward(stage, &arrays);
  for (int b = 0; b < backward; ++b)
    for (int64_t g = A->atoms; g < A->sites; ++g) {
      A->site[arrays[b]][owner[g - A->atoms]] += A->site[arrays[b]][g];
      A->site[arrays[b]][g] = 0;
    }
}

int potential_compute(int64_t atoms, int64_t sites, const double *x, const int32_t *species, const int32_t *owner, const int64_t *first,
                         const int32_t *index, double *energy, double *energies, double *forces, double *virial) {
  int64_t longest = 0;
  for (int64_t i = 0; i < atoms; ++i)
    if (first[i + 1] - first[i] > longest) longest = first[i + 1] - first[i];
  const int64_t row = potential_row(longest);
  double *memory = calloc((size_t)(sites * (ARRAYS + 3) + potential_scratch(row) + 1), sizeof(double));
  if (!memory) return 1;
  double *site[ARRAYS];
  for (int a = 0; a < ARRAYS; ++a) site[a] = memory + a * sites;
  double *all = memory + ARRAYS * sites;
  potential_system A = {.atoms = atoms, .sites = sites, .x = x, .species = species, .first = first, .index = index, .site = site,
                        .forces = all, .scratch = all + 3 * sites, .row = row};
  for (int stage = 0; stage < STAGES; ++stage) {
    potential_stage(stage, &A);
    exchange(&A, owner, stage);
  }
  *energy = 0;
  for (int64_t i = 0; i < atoms; ++i) *energy += site[ENERGY][i];
  if (energies) memcpy(energies, site[ENERGY], (size_t)atoms * sizeof(double));
  if (virial) {
    for (int c = 0; c < 9; ++c) virial[c] = 0;
    for (int64_t i = 0; i < sites; ++i)
      for (int c = 0; c < 9; ++c) virial[c] += x[3 * i + c / 3] * all[3 * i + c % 3];
  }
  memcpy(forces, all, (size_t)(3 * atoms) * sizeof(double));
  for (int64_t g = atoms; g < sites; ++g)
    for (int c = 0; c < 3; ++c) forces[3 * owner[g - atoms] + c] += all[3 * g + c];
  free(memory);
  return 0;
}
