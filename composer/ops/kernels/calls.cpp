// ---- what is called from outside ------------------------------------------------------------------------------------------------

struct Call {
  Split split;
  int64_t structures, order, slopes, threads;
  const int64_t* offsets;  // [structures + 1]
  double *x, *xd, *h, *hd, *u, *ud;            // positions [N, 3], cells [S, 3, 3], charges [N] and their slopes or null
  double *phi, *phid, *gx, *gxd, *gh, *ghd;    // outputs, zeroed
  double constant, own;
  const int64_t* size;     // mesh [3]
  double *mesh, *meshd;
  double *strain, *straind;  // [3, 3]
  const int64_t *ghost_offsets, *first;
  const int32_t *index, *owner, *shift;
  const int64_t* open;     // the open axis of each slab
  const double* length;    // the height of its tall cell
  const double *nodes, *weights;  // of all slabs one after the other
  const int64_t* lines;    // [structures + 1]
};

template <class T> struct Views {
  Array<T> x, h, u, phi, gx, gh, mesh, strain;
  explicit Views(const Call& c)
      : x(c.x, c.xd), h(c.h, c.hd), u(c.u, c.ud), phi(c.phi, c.phid), gx(c.gx, c.gxd), gh(c.gh, c.ghd), mesh(c.mesh, c.meshd), strain(c.strain, c.straind) {}
};

template <class T> void run_ewald(const Call& c) {
  const Views<T> v(c);
#pragma omp parallel for schedule(dynamic, 1) num_threads(c.threads) if (c.threads > 1 && c.structures > 1)
  for (int64_t s = 0; s < c.structures; ++s)
    ewald_one<T>(c.split, (int)(c.offsets[s + 1] - c.offsets[s]), c.offsets[s], s, v.x, v.h, v.u, v.phi, v.gx, v.gh, c.slopes, c.constant, c.own);
}

template <class T> void run_direct(const Call& c) {
  const Views<T> v(c);
#pragma omp parallel for schedule(dynamic, 1) num_threads(c.threads) if (c.threads > 1 && c.structures > 1)
  for (int64_t s = 0; s < c.structures; ++s)
    all_pairs<T>(c.split, (int)(c.offsets[s + 1] - c.offsets[s]), c.offsets[s], v.x, v.u, v.phi, v.gx, c.slopes);
}

template <class T> void run_pairs(const Call& c) {
  const Views<T> v(c);
  const Pairs P = {c.offsets[c.structures], c.first, c.index, c.owner, c.shift};
#pragma omp parallel for schedule(dynamic, 1) num_threads(c.threads) if (c.threads > 1 && c.structures > 1)
  for (int64_t s = 0; s < c.structures; ++s)
    pairs_one(c.split, P, c.offsets[s], c.offsets[s + 1], c.ghost_offsets[s], c.ghost_offsets[s + 1], s, v.x, v.h, v.u, v.phi, v.gx, v.gh, c.slopes,
              c.structures > 1 ? 1 : c.threads);
}

template <class T> void run_slab_cell(const Call& c) {  // h, tall in place
  const Views<T> v(c);
  for (int64_t s = 0; s < c.structures; ++s) {
    const Plane<T> plane(v.h, s, (int)c.open[s]);
    for (int a = 0; a < 3; ++a) v.h.set(9 * s + 3 * c.open[s] + a, T(c.length[s]) * plane.n[a]);
  }
}

template <class T> void run_slab(const Call& c) {
  const Views<T> v(c);
  for (int64_t s = 0; s < c.structures; ++s)
    slab_one<T>(c.offsets[s], c.offsets[s + 1], s, (int)c.open[s], c.length[s],
                Line{c.nodes + c.lines[s], c.weights + c.lines[s], c.lines[s + 1] - c.lines[s]}, v.x, v.h, v.u, v.phi, v.gx, v.gh, c.slopes);
}

template <class T, int P> void run_spread(const Call& c) {
  const Views<T> v(c);
  spread<T, P>(c.offsets[1], Cell<T>(v.h, 0), v.x, v.u, c.size, v.mesh, c.threads);
}

template <class T, int P> void run_gather(const Call& c) {
  const Views<T> v(c);
  T Y[3][3];
  for (int i = 0; i < 9; ++i) Y[i / 3][i % 3] = v.strain.get(i);
  gather<T, P>(c.offsets[1], Cell<T>(v.h, 0), v.x, v.u, c.size, v.mesh, v.phi, v.gx, v.gh, Y, c.slopes, c.constant, c.own, c.threads);
}

template <class T> void run_influence(const Call& c) {
  const Views<T> v(c);
  T Y[3][3];
  influence(c.split, (int)c.order, Cell<T>(v.h, 0), c.size, v.mesh, Y, c.slopes, c.threads);
  for (int i = 0; i < 9; ++i) v.strain.set(i, Y[i / 3][i % 3]);
}

}  // namespace

#define BY_ORDER(run, T)                   \
  switch (c->order) {                      \
    case 4: run<T, 4>(*c); break;          \
    case 5: run<T, 5>(*c); break;          \
    case 6: run<T, 6>(*c); break;          \
    case 7: run<T, 7>(*c); break;          \
    case 8: run<T, 8>(*c); break;          \
  }

extern "C" {
void ewald(const Call* c) { c->xd ? run_ewald<Dual>(*c) : run_ewald<double>(*c); }
void direct(const Call* c) { c->xd ? run_direct<Dual>(*c) : run_direct<double>(*c); }
void slab_cell(const Call* c) { c->xd ? run_slab_cell<Dual>(*c) : run_slab_cell<double>(*c); }
void slab(const Call* c) { c->xd ? run_slab<Dual>(*c) : run_slab<double>(*c); }
void short_range(const Call* c) { c->xd ? run_pairs<Dual>(*c) : run_pairs<double>(*c); }
void mesh_influence(const Call* c) { c->xd ? run_influence<Dual>(*c) : run_influence<double>(*c); }
void mesh_spread(const Call* c) {
  if (c->xd) { BY_ORDER(run_spread, Dual) } else { BY_ORDER(run_spread, double) }
}
void mesh_gather(const Call* c) {
  if (c->xd) { BY_ORDER(run_gather, Dual) } else { BY_ORDER(run_gather, double) }
}
// Values of the split at arguments [n]: kind 0 V_LR(r), 1 V_SR(r), 2 vhat_LR(k), 3 to 5 their slopes by r^2 or k^2. For tests and reports.
void split_values(const Split* S, int64_t kind, int64_t n, const double* at, double* out) {
  for (int64_t i = 0; i < n; ++i) {
    double f[3];
    (kind % 3 == 0 ? smooth_pair : kind % 3 == 1 ? short_pair : spectrum)(*S, at[i] * at[i], f);
    out[i] = f[kind / 3];
  }
}
// Values [P] and slopes [P] of the spline at a fraction.
void spline_values(int64_t order, double w, double* M, double* D) {
  switch (order) {
    case 4: spline<double, 4>(w, M, D); break;
    case 5: spline<double, 5>(w, M, D); break;
    case 6: spline<double, 6>(w, M, D); break;
    case 7: spline<double, 7>(w, M, D); break;
    case 8: spline<double, 8>(w, M, D); break;
  }
}
}
