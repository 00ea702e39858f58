// Shared by all generated kernels: arguments, the neighbourhood of one site, blocks of sites over threads.
#include <cmath>
#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512F__
#include <immintrin.h>
#endif
typedef double real;
// Vectors of 8, 4 and 2 numbers at any address, and their sums.
typedef double lanes8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef double lanes4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef double lanes2 __attribute__((vector_size(16), aligned(8), may_alias));
static inline real whole(real x) { return x; }
static inline real whole(lanes2 x) { return x[0] + x[1]; }
static inline real whole(lanes4 x) { return whole((lanes2)(__builtin_shufflevector(x, x, 0, 1) + __builtin_shufflevector(x, x, 2, 3))); }
static inline auto below(long n) -> decltype(lanes8{} < lanes8{}) {  // lanes 0 .. n - 1
  typedef long whole8 __attribute__((vector_size(64)));
  return whole8{0, 1, 2, 3, 4, 5, 6, 7} < (whole8{} + n);
}
static inline real whole(lanes8 x) {
  return whole((lanes4)(__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7)));
}
// The first n of eight numbers, zeros for the rest; what lies behind is not read.
static inline lanes8 some(const real* p, int n) {
#ifdef __AVX512F__
  return (lanes8)_mm512_maskz_loadu_pd(n < 8 ? (__mmask8)((1 << n) - 1) : (__mmask8)0xff, p);
#else
  lanes8 x = {};
  for (int u = 0; u < n && u < 8; ++u) x[u] = p[u];
  return x;
#endif
}
// Eight rows of eight numbers, turned into eight columns.
static inline void turn(lanes8* to, lanes8 a, lanes8 b, lanes8 c, lanes8 d, lanes8 e, lanes8 f, lanes8 g, lanes8 h) {
#define LOW(x, y) __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH(x, y) __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15)
#define QUARTERS(x, y) __builtin_shufflevector(x, y, 0, 1, 8, 9, 4, 5, 12, 13)
#define OTHERS(x, y) __builtin_shufflevector(x, y, 2, 3, 10, 11, 6, 7, 14, 15)
  const auto e0 = LOW(a, b), o0 = HIGH(a, b), e1 = LOW(c, d), o1 = HIGH(c, d), e2 = LOW(e, f), o2 = HIGH(e, f), e3 = LOW(g, h), o3 = HIGH(g, h);
  const auto p0 = QUARTERS(e0, e1), p1 = QUARTERS(o0, o1), p2 = OTHERS(e0, e1), p3 = OTHERS(o0, o1);
  const auto q0 = QUARTERS(e2, e3), q1 = QUARTERS(o2, o3), q2 = OTHERS(e2, e3), q3 = OTHERS(o2, o3);
#define FIRST(x, y) __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11)
#define SECOND(x, y) __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15)
  to[0] = FIRST(p0, q0), to[1] = FIRST(p1, q1), to[2] = FIRST(p2, q2), to[3] = FIRST(p3, q3);
  to[4] = SECOND(p0, q0), to[5] = SECOND(p1, q1), to[6] = SECOND(p2, q2), to[7] = SECOND(p3, q3);
}
// The sums of eight vectors.
static inline lanes8 totals(lanes8 a, lanes8 b, lanes8 c, lanes8 d, lanes8 e, lanes8 f, lanes8 g, lanes8 h) {
#define PAIRS(x, y) (LOW(x, y) + HIGH(x, y))
#define FOURS(x, y) (QUARTERS(x, y) + OTHERS(x, y))
  const auto ab = PAIRS(a, b), cd = PAIRS(c, d), ef = PAIRS(e, f), gh = PAIRS(g, h);
  const auto left = FOURS(ab, cd), right = FOURS(ef, gh);
  return FIRST(left, right) + SECOND(left, right);
}
// Distance of two rows of neighbours: known when compiled (LD) or given by the caller.
#ifdef LD
#define ROW_LENGTH(A) constexpr int64_t ld = LD
#define LANE_LENGTH(A, ranges) constexpr int64_t ld = LD * ranges | 8
#else
#define ROW_LENGTH(A) const int64_t ld = (A).ld
#define LANE_LENGTH(A, ranges) const int64_t ld = (A).ld * ranges | 8
#endif
#define ROW(n) (rows + (n)*ld)
#define IVDEP _Pragma("GCC ivdep")
#define ROLLED _Pragma("GCC unroll 1")

// erfc of any x, without a loop: loops over it become vector code.
static inline double complementary_error(double x) {
  const double y = std::fabs(x), value = scaled_erfc(y) * std::exp(-(y * y));
  return x < 0 ? 2 - value : value;
}

static inline real where(real a, real b, real c, real d) { return a < b ? c : d; }

struct Args {
  const double* x;         // [sites, 3], atoms then ghosts
  const int32_t* species;  // [sites]
  const int32_t* owner;    // [sites] the atom a site is an image of
  const int32_t* home;     // [atoms] structure
  const int64_t* first;    // [atoms + 1]
  const int32_t* index;    // [entries]
  const double* P;         // parameters
  const double* PT;        // tangents of the parameters
  const double* w;         // tangents of the sites [sites, 3]
  double** site;           // named site arrays [sites]
  double* F;               // forces [sites, 3], one copy for each thread if force_stride > 0
  double* G;               // gradient of the parameters, one copy for each block
  const int64_t* block;    // [blocks + 1] ranges of atoms
  double* scratch;
  int64_t blocks, force_stride, gradient_stride, scratch_stride, ld, threads, atoms, structures;
};

typedef void (*Range)(const Args&, int64_t, int64_t, double*, double*, double*);

static void over_blocks(const Args& A, Range range) {
#pragma omp parallel num_threads(A.threads) if (A.threads > 1)
  {
    int thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    double* scratch = A.scratch + thread * A.scratch_stride;
    double* F = A.F + thread * A.force_stride;
    if (A.force_stride) {  // one large system: each thread has forces of its own, and always the same blocks
#pragma omp for schedule(static)
      for (int64_t b = 0; b < A.blocks; ++b) range(A, A.block[b], A.block[b + 1], F, A.G + b * A.gradient_stride, scratch);
    } else {  // whole structures: nothing is shared
#pragma omp for schedule(dynamic, 1)
      for (int64_t b = 0; b < A.blocks; ++b) range(A, A.block[b], A.block[b + 1], F, A.G + b * A.gradient_stride, scratch);
    }
  }
}

// Rows of numbers of neighbours, ordered by species and then by the smallest cutoff that holds them: the neighbours of one species within
// one cutoff are a contiguous range. Rows 14 to 16 are left to whole numbers.
template <typename Real, int S, int K>
struct Ranges {
  Real *d0, *d1, *d2, *len, *inv, *dt0, *dt1, *dt2, *g0, *g1, *g2, *t0, *t1, *t2, *end;
  int count;
  int bound[S * K + 1];

  Ranges(Real* s, int64_t ld)
      : d0(s), d1(s + ld), d2(s + 2 * ld), len(s + 3 * ld), inv(s + 4 * ld), dt0(s + 5 * ld), dt1(s + 6 * ld), dt2(s + 7 * ld),
        g0(s + 8 * ld), g1(s + 9 * ld), g2(s + 10 * ld), t0(s + 11 * ld), t1(s + 12 * ld), t2(s + 13 * ld), end(s + 17 * ld), count(0) {}

  int begin(int s) const { return s == 0 ? 0 : bound[s * K]; }
  int stop(int c, int s) const { return bound[s * K + c + 1]; }
  void zero(Real* row, int) const {
    for (int j = 0; j < count; ++j) row[j] = 0;
  }
  void zero_forces() {
    zero(g0, 0);
    zero(g1, 0);
    zero(g2, 0);
  }
};
#define RANGES(Base) \
  using Base::d0, Base::d1, Base::d2, Base::len, Base::inv, Base::dt0, Base::dt1, Base::dt2, Base::g0, Base::g1, Base::g2, Base::t0, Base::t1, \
      Base::t2, Base::end, Base::count, Base::bound, Base::zero

// Neighbours of one site within the largest cutoff.
template <int S, int K>
struct Neighbourhood : Ranges<real, S, K> {
  using Rows = Ranges<real, S, K>;
  RANGES(Rows);
  int32_t *jj, *tj, *key;

  Neighbourhood(double* s, int64_t ld)
      : Rows(s, ld), jj((int32_t*)(s + 14 * ld)), tj((int32_t*)(s + 15 * ld)), key((int32_t*)(s + 16 * ld)) {}

  static int compact(const Args& A, int64_t i, double cut2, real* __restrict a0, real* __restrict a1, real* __restrict a2, int32_t* __restrict aj) {
    const double* x = A.x;
    const double xi = x[3 * i], yi = x[3 * i + 1], zi = x[3 * i + 2];
    const int32_t* idx = A.index + A.first[i];
    const int m = (int)(A.first[i + 1] - A.first[i]);
    int n = 0, e = 0;
#if defined(__AVX512F__) && defined(__AVX512VL__)
    const __m512d X = _mm512_set1_pd(xi), Y = _mm512_set1_pd(yi), Z = _mm512_set1_pd(zi), C = _mm512_set1_pd(cut2);
    for (; e < m; e += 8) {
      const __mmask8 k = (m - e >= 8) ? 0xff : (__mmask8)((1 << (m - e)) - 1);
      const __m256i a = _mm256_maskz_loadu_epi32(k, idx + e), a3 = _mm256_add_epi32(a, _mm256_slli_epi32(a, 1));
      const __m512d dx = _mm512_sub_pd(_mm512_i32gather_pd(a3, x, 8), X), dy = _mm512_sub_pd(_mm512_i32gather_pd(a3, x + 1, 8), Y),
                    dz = _mm512_sub_pd(_mm512_i32gather_pd(a3, x + 2, 8), Z);
      const __m512d r2 = _mm512_fmadd_pd(dx, dx, _mm512_fmadd_pd(dy, dy, _mm512_mul_pd(dz, dz)));
      const __mmask8 in = _mm512_mask_cmp_pd_mask(k, r2, C, _CMP_LT_OQ);
      _mm512_storeu_pd(a0 + n, _mm512_maskz_compress_pd(in, dx));
      _mm512_storeu_pd(a1 + n, _mm512_maskz_compress_pd(in, dy));
      _mm512_storeu_pd(a2 + n, _mm512_maskz_compress_pd(in, dz));
      _mm256_storeu_si256((__m256i*)(aj + n), _mm256_maskz_compress_epi32(in, a));
      n += __builtin_popcount(in);
    }
#else
    for (; e < m; ++e) {
      const int32_t a = idx[e];
      const double dx = x[3 * (int64_t)a] - xi, dy = x[3 * (int64_t)a + 1] - yi, dz = x[3 * (int64_t)a + 2] - zi;
      a0[n] = dx;
      a1[n] = dy;
      a2[n] = dz;
      aj[n] = a;
      n += dx * dx + dy * dy + dz * dz < cut2;
    }
#endif
    return n;
  }

  void partition(const Args& A, const double* cut) {
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
    if constexpr (S * K <= 8) {
      keys(A, cut);
      int n = 0;
      for (int b = 0; b < S * K; ++b) {
        bound[b] = n;
        for (int j = 0; j < count; j += 8) {
          const __mmask8 in = _mm256_cmpeq_epi32_mask(_mm256_loadu_si256((const __m256i*)(key + j)), _mm256_set1_epi32(b));
          if (!in) continue;
          _mm512_storeu_pd(d0 + n, _mm512_maskz_compress_pd(in, _mm512_loadu_pd(t0 + j)));
          _mm512_storeu_pd(d1 + n, _mm512_maskz_compress_pd(in, _mm512_loadu_pd(t1 + j)));
          _mm512_storeu_pd(d2 + n, _mm512_maskz_compress_pd(in, _mm512_loadu_pd(t2 + j)));
          _mm256_storeu_si256((__m256i*)(jj + n), _mm256_maskz_compress_epi32(in, _mm256_loadu_si256((const __m256i*)(tj + j))));
          n += __builtin_popcount(in);
        }
      }
      bound[S * K] = n;
      return;
    }
#endif
    int fill[S * K + 1] = {0};
    for (int j = 0; j < count; ++j) ++fill[place(A, cut, j) + 1];
    for (int b = 0; b < S * K; ++b) fill[b + 1] += fill[b];
    for (int b = 0; b <= S * K; ++b) bound[b] = fill[b];
    for (int j = 0; j < count; ++j) {
      const int p = fill[place(A, cut, j)]++;
      d0[p] = t0[j];
      d1[p] = t1[j];
      d2[p] = t2[j];
      jj[p] = tj[j];
    }
  }

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
  // The place of each neighbour, -1 beyond the last.
  void keys(const Args& A, const double* cut) {
    for (int j = 0; j < count; j += 8) {
      const __mmask8 k = (count - j >= 8) ? 0xff : (__mmask8)((1 << (count - j)) - 1);
      __m256i found = _mm256_setzero_si256();
      if constexpr (S > 1) {
        const __m256i none = _mm256_setzero_si256();
        found = _mm256_mmask_i32gather_epi32(none, k, _mm256_maskz_loadu_epi32(k, tj + j), A.species, 4);
        found = _mm256_mullo_epi32(found, _mm256_set1_epi32(K));
      }
      if constexpr (K > 1) {
        const __m512d x = _mm512_loadu_pd(t0 + j), y = _mm512_loadu_pd(t1 + j), z = _mm512_loadu_pd(t2 + j);
        const __m512d r2 = _mm512_fmadd_pd(x, x, _mm512_fmadd_pd(y, y, _mm512_mul_pd(z, z)));
        for (int c = 0; c < K - 1; ++c) {
          const __mmask8 beyond = _mm512_cmp_pd_mask(r2, _mm512_set1_pd(cut[c]), _CMP_GE_OQ);
          found = _mm256_mask_add_epi32(found, beyond, found, _mm256_set1_epi32(1));
        }
      }
      _mm256_storeu_si256((__m256i*)(key + j), _mm256_mask_mov_epi32(_mm256_set1_epi32(-1), k, found));
    }
  }
#endif

  int place(const Args& A, const double* cut, int j) const {
    const double r2 = t0[j] * t0[j] + t1[j] * t1[j] + t2[j] * t2[j];
    int ring = 0;
    for (int c = 0; c < K - 1; ++c) ring += r2 >= cut[c];
    return (S > 1 ? A.species[tj[j]] * K : 0) + ring;
  }

  template <int Length, int Inverse, int Tangent>
  void gather(const Args& A, int64_t i, const double* cut) {
    if constexpr (S * K == 1) {
      count = compact(A, i, cut[0], d0, d1, d2, jj);
      bound[0] = 0;
      bound[1] = count;
    } else {
      count = compact(A, i, cut[K - 1], t0, t1, t2, tj);
      partition(A, cut);
    }
    for (int j = count; j < count + 8; ++j) {  // what loops in whole vectors meet beyond the end does no harm
      d0[j] = 1;
      d1[j] = d2[j] = 0;
    }
    if constexpr (Length || Inverse) {
      real *__restrict l = len, *__restrict v = inv;
      const real *__restrict a = d0, *__restrict b = d1, *__restrict c = d2;
      const int whole_count = (count + 7) & ~7;
      for (int j = 0; j < whole_count; ++j) {
        const real r = std::sqrt(a[j] * a[j] + b[j] * b[j] + c[j] * c[j] + real(1e-40));  // two atoms at one place: finite
        l[j] = r;
        if constexpr (Inverse) v[j] = real(1) / r;
      }
    }
    if constexpr (Tangent) {
      const double* w = A.w;
      for (int j = 0; j < count; ++j) {
        const int64_t n = 3 * (int64_t)jj[j];
        dt0[j] = w[n] - w[3 * i];
        dt1[j] = w[n + 1] - w[3 * i + 1];
        dt2[j] = w[n + 2] - w[3 * i + 2];
      }
    }
  }

  // Columns of a Jacobian: for each slot the force sum_e weight[e] * row(col[e]) on the neighbours, written to F[slot][atom][3], and the
  // virial -d (outer) g, in Voigt order xx yy zz yz xz xy, to G[slot][structure][6].
  void columns(const Args& A, int64_t i, int slots, const int* first, const int* col, const real* weight, const int64_t* slot,
               const real* kept, int64_t ld, double* F, double* G) const {
    typedef double lanes __attribute__((vector_size(64), aligned(8), may_alias));
    for (int q = 0; q < slots; ++q) {
      double* f = F + slot[q] * 3 * A.atoms;
      double* v = G + (slot[q] * A.structures + A.home[i]) * 6;
      double sx = 0, sy = 0, sz = 0;
      lanes w[6] = {};
      for (int s = 0; s < S; ++s) {
        const int e0 = first[q * S + s], e1 = first[q * S + s + 1], stop = bound[(s + 1) * K];
        if (e0 == e1) continue;
        for (int j = bound[s * K]; j < stop; j += 8) {
          lanes ax = {}, ay = {}, az = {};
          for (int e = e0; e < e1; ++e) {
            const double* r = kept + 3 * (int64_t)col[e] * ld + j;
            ax += weight[e] * *(const lanes*)r;
            ay += weight[e] * *(const lanes*)(r + ld);
            az += weight[e] * *(const lanes*)(r + 2 * ld);
          }
          const int m = stop - j < 8 ? stop - j : 8;
          if (m < 8)
            for (int u = m; u < 8; ++u) ax[u] = ay[u] = az[u] = 0;
          lanes x = *(const lanes*)(d0 + j), y = *(const lanes*)(d1 + j), z = *(const lanes*)(d2 + j);
          if (m < 8)
            for (int u = m; u < 8; ++u) x[u] = y[u] = z[u] = 0;
          w[0] -= x * ax;
          w[1] -= y * ay;
          w[2] -= z * az;
          w[3] -= y * az;
          w[4] -= x * az;
          w[5] -= x * ay;
          for (int u = 0; u < m; ++u) {
            const int64_t o = 3 * (int64_t)A.owner[jj[j + u]];
            f[o] -= ax[u];
            f[o + 1] -= ay[u];
            f[o + 2] -= az[u];
            sx += ax[u];
            sy += ay[u];
            sz += az[u];
          }
        }
      }
      f[3 * i] += sx;
      f[3 * i + 1] += sy;
      f[3 * i + 2] += sz;
      for (int c = 0; c < 6; ++c) {
        double total = 0;
        for (int u = 0; u < 8; ++u) total += w[c][u];
        v[c] += total;
      }
    }
  }

  // g = dE/d(x_j - x_i): the site feels +g, the neighbour -g.
  void scatter(double* __restrict F, int64_t i) const {
    real fx = 0, fy = 0, fz = 0;
    for (int j = 0; j < count; ++j) {
      fx += g0[j];
      fy += g1[j];
      fz += g2[j];
    }
    F[3 * i] += fx;
    F[3 * i + 1] += fy;
    F[3 * i + 2] += fz;
    for (int j = 0; j < count; ++j) {
      const int64_t n = 3 * (int64_t)jj[j];
      F[n] -= g0[j];
      F[n + 1] -= g1[j];
      F[n + 2] -= g2[j];
    }
  }
};
