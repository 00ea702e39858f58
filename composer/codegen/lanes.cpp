// Several sites at once, on processors with vectors of eight or four numbers: `real` is one number for each site, and a slot of a row holds
// one neighbour of each. A lane without a neighbour in a slot, or without a site, computes on harmless numbers and is left out of every sum.
#ifdef __AVX__
#define LANES static inline __attribute__((always_inline))
namespace lanes {
#ifdef __AVX512F__
constexpr int W = 8;  // lanes
typedef lanes8 vector;
#else
constexpr int W = 4;
typedef lanes4 vector;
#endif
typedef long truth __attribute__((vector_size(8 * W), aligned(8), may_alias));

struct real {
  vector v;
  real() = default;
  real(double x) : v(vector{} + x) {}
  real(vector x) : v(x) {}
  void operator+=(real b) { v += b.v; }
};
LANES real operator+(real a, real b) { return a.v + b.v; }
LANES real operator-(real a, real b) { return a.v - b.v; }
LANES real operator*(real a, real b) { return a.v * b.v; }
LANES real operator/(real a, real b) { return a.v / b.v; }
LANES real operator-(real a) { return -a.v; }
LANES real where(truth chosen, real c, real d) { return chosen ? c.v : d.v; }
LANES real where(real a, real b, real c, real d) { return where(a.v < b.v, c, d); }
LANES real only(truth alive, real x) { return where(alive, x, 0); }

#define EACH(name)                                              \
  using ::name;                                                 \
  LANES real name(real x) {                                     \
    alignas(64) double y[W];                                    \
    *(vector*)y = x.v;                                          \
    for (int u = 0; u < W; ++u) y[u] = ::name(y[u]);            \
    return *(vector*)y;                                         \
  }
EACH(exp) EACH(log) EACH(sqrt) EACH(sin) EACH(cos) EACH(tanh) EACH(expm1) EACH(log1p) EACH(complementary_error)
#undef EACH

// A site for each lane, and which of them are there.
struct Sites {
  int32_t at[W];
  truth alive;
};

// What sites have of a named array.
struct Field {
  double* p;
  struct Place {
    double* p;
    const Sites& sites;
    operator real() const {
      real x;
      for (int u = 0; u < W; ++u) x.v[u] = p[sites.at[u]];
      return x;
    }
    void operator=(real x) const {
      for (int u = 0; u < W; ++u)
        if (sites.alive[u]) p[sites.at[u]] = x.v[u];
    }
    void operator+=(real x) const {
      for (int u = 0; u < W; ++u)
        if (sites.alive[u]) p[sites.at[u]] += x.v[u];
    }
  };
  Place operator[](const Sites& sites) const { return {p, sites}; }
};

LANES double total(const Sites& i, real x) { return whole(only(i.alive, x).v); }

// The sites of a range, W of one species at a time.
template <int S>
struct Groups {
  const int32_t* species;
  const int64_t begin, end;
  int64_t next;
  int kind = 0;

  Groups(const Args& A, int64_t begin, int64_t end) : species(A.species), begin(begin), end(end), next(begin) {}
  bool take(Sites& i) {
    for (;; next = begin, ++kind) {
      int n = 0;
      for (; next < end && n < W; ++next)
        if (S == 1 || species[next] == kind) i.at[n++] = (int32_t)next;
      if (n) {
        for (int u = n; u < W; ++u) i.at[u] = i.at[0];
        for (int u = 0; u < W; ++u) i.alive[u] = u < n ? -1 : 0;
        return true;
      }
      if (kind == S - 1) return false;
    }
  }
};

// The neighbours of W sites of one species. Each range has as many slots as the site with most of them needs, so that the loops and the
// species in them are the same for all lanes.
template <int S, int K>
struct Neighbourhood : Ranges<real, S, K> {
  using Rows = Ranges<real, S, K>;
  RANGES(Rows);
  Sites* jj;
  int32_t* tj;
  int64_t ld;
  int found[W];

  Neighbourhood(double* scratch, int64_t ld)
      : Rows((real*)scratch, ld), jj((Sites*)((real*)scratch + 15 * ld)), tj((int32_t*)((real*)scratch + 14 * ld)), ld(ld) {}

  // The range of each neighbour found, and room for all lanes.
  void measure(const Args& A, const Sites& i, const double* cut) {
    int most[S * K] = {0};
    for (int u = 0; u < W; ++u) {
      double *x = (double*)t0 + u * ld, *y = (double*)t1 + u * ld, *z = (double*)t2 + u * ld;
      int32_t* who = tj + 2 * u * ld;
      found[u] = i.alive[u] ? ::Neighbourhood<1, 1>::compact(A, i.at[u], cut[K - 1], x, y, z, who) : 0;
      int own[S * K] = {0};
      if constexpr (S * K == 1) own[0] = found[u];
      else for (int n = 0; n < found[u]; ++n) {
        const double r2 = x[n] * x[n] + y[n] * y[n] + z[n] * z[n];
        int ring = 0;
        for (int c = 0; c < K - 1; ++c) ring += r2 >= cut[c];
        who[ld + n] = (S > 1 ? A.species[who[n]] * K : 0) + ring;
        ++own[who[ld + n]];
      }
      for (int b = 0; b < S * K; ++b) most[b] = own[b] > most[b] ? own[b] : most[b];
    }
    bound[0] = 0;
    for (int b = 0; b < S * K; ++b) bound[b + 1] = bound[b] + most[b];
    count = bound[S * K];
  }

  void place(const Sites& i) {
    for (int j = 0; j < count; ++j) {
      d0[j] = 1;
      d1[j] = d2[j] = 0;
      jj[j] = i;
      jj[j].alive = truth{};
    }
    for (int u = 0; u < W; ++u) {
      const double *x = (double*)t0 + u * ld, *y = (double*)t1 + u * ld, *z = (double*)t2 + u * ld;
      const int32_t* who = tj + 2 * u * ld;
      int fill[S * K];
      for (int b = 0; b < S * K; ++b) fill[b] = bound[b];
      for (int n = 0; n < found[u]; ++n) {
        const int j = S * K == 1 ? n : fill[who[ld + n]]++;
        ((double*)(d0 + j))[u] = x[n];
        ((double*)(d1 + j))[u] = y[n];
        ((double*)(d2 + j))[u] = z[n];
        jj[j].at[u] = who[n];
        ((long*)&jj[j].alive)[u] = -1;
      }
    }
  }

  template <int Length, int Inverse, int Tangent>
  void gather(const Args& A, const Sites& i, const double* cut) {
    measure(A, i, cut);
    place(i);
    for (int j = 0; j < count; ++j) {
      if constexpr (Length || Inverse) len[j] = sqrt(d0[j] * d0[j] + d1[j] * d1[j] + d2[j] * d2[j] + 1e-40);  // two atoms at one place: finite
      if constexpr (Inverse) inv[j] = 1.0 / len[j];
      if constexpr (Tangent)
        for (int u = 0; u < W; ++u) {
          const double *there = A.w + 3 * (int64_t)jj[j].at[u], *here = A.w + 3 * (int64_t)i.at[u];
          dt0[j].v[u] = there[0] - here[0];
          dt1[j].v[u] = there[1] - here[1];
          dt2[j].v[u] = there[2] - here[2];
        }
    }
  }

  // Columns of a Jacobian, as those of one site in prelude.cpp.
  void columns(const Args& A, const Sites& i, int slots, const int* first, const int* col, const real* weight, const int64_t* slot,
               const real* kept, int64_t ld, double* F, double* G) const {
    for (int q = 0; q < slots; ++q) {
      double* f = F + slot[q] * 3 * A.atoms;
      real sum[3] = {0, 0, 0}, v[6] = {0, 0, 0, 0, 0, 0};
      for (int s = 0; s < S; ++s) {
        const int e0 = first[q * S + s], e1 = first[q * S + s + 1];
        if (e0 == e1) continue;
        for (int j = bound[s * K]; j < bound[(s + 1) * K]; ++j) {
          real g[3] = {0, 0, 0};
          for (int e = e0; e < e1; ++e)
            for (int c = 0; c < 3; ++c) g[c] += weight[e] * kept[(3 * (int64_t)col[e] + c) * ld + j];
          const real d[3] = {d0[j], d1[j], d2[j]};
          for (int c = 0; c < 3; ++c) {
            g[c] = only(jj[j].alive, g[c]);
            sum[c] += g[c];
            v[c] += -(d[c] * g[c]);
          }
          v[3] += -(d[1] * g[2]);
          v[4] += -(d[0] * g[2]);
          v[5] += -(d[0] * g[1]);
          push(f, jj[j], g[0], g[1], g[2], A.owner);
        }
      }
      push(f, i, -sum[0], -sum[1], -sum[2], A.owner);
      for (int u = 0; u < W; ++u)
        for (int c = 0; c < 6 && i.alive[u]; ++c) G[(slot[q] * A.structures + A.home[i.at[u]]) * 6 + c] += v[c].v[u];
    }
  }

  // g = dE/d(x_j - x_i): the site feels +g, the neighbour -g.
  void scatter(double* F, const Sites& i) const {
    real f[3] = {0, 0, 0};
    for (int j = 0; j < count; ++j) {
      f[0] += only(jj[j].alive, g0[j]);
      f[1] += only(jj[j].alive, g1[j]);
      f[2] += only(jj[j].alive, g2[j]);
    }
    push(F, i, -f[0], -f[1], -f[2]);
    for (int j = 0; j < count; ++j) push(F, jj[j], g0[j], g1[j], g2[j]);
  }
  static void push(double* F, const Sites& sites, real x, real y, real z, const int32_t* owner = nullptr) {
    for (int u = 0; u < W; ++u) {
      if (!sites.alive[u]) continue;
      double* f = F + 3 * (int64_t)(owner ? owner[sites.at[u]] : sites.at[u]);
      f[0] -= x.v[u];
      f[1] -= y.v[u];
      f[2] -= z.v[u];
    }
  }
};
}  // namespace lanes
#undef LANES
#endif
