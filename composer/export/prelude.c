#include "potential.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) && defined(__AVX512VL__)
#include <immintrin.h>
#endif

typedef double real;
#define real(x) ((double)(x))
#define ROW(n) (rows + (n)*ld)
#define complementary_error erfc
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* loops that only -ffast-math lets it vectorise */
#define IVDEP _Pragma("clang loop vectorize(assume_safety)")
#define ROLLED _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__)
#define IVDEP _Pragma("GCC ivdep")
#define ROLLED _Pragma("GCC unroll 1")
#else
#define IVDEP
#define ROLLED
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#else
#define INLINE static inline
#define __restrict
#endif

INLINE real where(real a, real b, real c, real d) { return a < b ? c : d; }

/* Neighbours of one site within the largest cutoff, ordered by species and then by the smallest cutoff that holds them: those of one
   species within one cutoff are a contiguous range. Row r of the scratch memory holds one number for each neighbour. */
typedef struct {
  real *d0, *d1, *d2, *len, *inv, *g0, *g1, *g2, *t0, *t1, *t2, *end;
  int32_t *jj, *tj;
  int count, bound[BOUNDS + 1];
} neighbourhood;

INLINE void open_rows(neighbourhood *n, real *s, int64_t ld) {
  n->d0 = s, n->d1 = s + ld, n->d2 = s + 2 * ld, n->len = s + 3 * ld, n->inv = s + 4 * ld;
  n->g0 = s + 5 * ld, n->g1 = s + 6 * ld, n->g2 = s + 7 * ld;
  n->t0 = s + 8 * ld, n->t1 = s + 9 * ld, n->t2 = s + 10 * ld;
  n->jj = (int32_t *)(void *)(s + 11 * ld), n->tj = (int32_t *)(void *)(s + 12 * ld);
  n->end = s + GATHER_ROWS * ld;
  n->count = 0;
}

INLINE int begin_of(const neighbourhood *n, int rings, int s) { return s == 0 ? 0 : n->bound[s * rings]; }
INLINE int stop_of(const neighbourhood *n, int rings, int c, int s) { return n->bound[s * rings + c + 1]; }

INLINE void zero(const neighbourhood *n, real *row) {
  for (int j = 0; j < n->count; ++j) row[j] = 0;
}

INLINE void zero_forces(const neighbourhood *n) {
  zero(n, n->g0);
  zero(n, n->g1);
  zero(n, n->g2);
}

/* displacements and numbers of the listed sites that are closer than the cutoff */
INLINE int compact(const potential_system *A, int64_t i, double cut2, real *__restrict a0, real *__restrict a1, real *__restrict a2,
                          int32_t *__restrict aj) {
  const double *x = A->x;
  const double xi = x[3 * i], yi = x[3 * i + 1], zi = x[3 * i + 2];
  const int32_t *idx = A->rows ? A->rows[i] : A->index + A->first[i];
  const int m = A->rows ? A->counts[i] : (int)(A->first[i + 1] - A->first[i]);
  const int32_t mask = A->mask ? A->mask : -1;
  int n = 0, e = 0;
#if defined(__AVX512F__) && defined(__AVX512VL__)
  const __m512d X = _mm512_set1_pd(xi), Y = _mm512_set1_pd(yi), Z = _mm512_set1_pd(zi), C = _mm512_set1_pd(cut2);
  const __m256i bits = _mm256_set1_epi32(mask);
  for (; e < m; e += 8) {
    const __mmask8 k = (m - e >= 8) ? 0xff : (__mmask8)((1 << (m - e)) - 1);
    const __m256i a = _mm256_and_si256(_mm256_maskz_loadu_epi32(k, idx + e), bits), a3 = _mm256_add_epi32(a, _mm256_slli_epi32(a, 1));
    const __m512d dx = _mm512_sub_pd(_mm512_i32gather_pd(a3, x, 8), X), dy = _mm512_sub_pd(_mm512_i32gather_pd(a3, x + 1, 8), Y),
                  dz = _mm512_sub_pd(_mm512_i32gather_pd(a3, x + 2, 8), Z);
    const __m512d r2 = _mm512_fmadd_pd(dx, dx, _mm512_fmadd_pd(dy, dy, _mm512_mul_pd(dz, dz)));
    const __mmask8 in = _mm512_mask_cmp_pd_mask(k, r2, C, _CMP_LT_OQ);
    _mm512_storeu_pd(a0 + n, _mm512_maskz_compress_pd(in, dx));
    _mm512_storeu_pd(a1 + n, _mm512_maskz_compress_pd(in, dy));
    _mm512_storeu_pd(a2 + n, _mm512_maskz_compress_pd(in, dz));
    _mm256_storeu_si256((__m256i *)(void *)(aj + n), _mm256_maskz_compress_epi32(in, a));
    n += __builtin_popcount(in);
  }
#else
  for (; e < m; ++e) {
    const int32_t a = idx[e] & mask;
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

INLINE int place(const neighbourhood *n, const potential_system *A, const double *cut, int rings, int j) {
  const double r2 = n->t0[j] * n->t0[j] + n->t1[j] * n->t1[j] + n->t2[j] * n->t2[j];
  int ring = 0;
  for (int c = 0; c < rings - 1; ++c) ring += r2 >= cut[c];
  return (SPECIES > 1 ? A->species[n->tj[j]] * rings : 0) + ring;
}

INLINE void partition(neighbourhood *n, const potential_system *A, const double *cut, int rings) {
  int fill[BOUNDS + 1] = {0};
  for (int j = 0; j < n->count; ++j) ++fill[place(n, A, cut, rings, j) + 1];
  for (int b = 0; b < SPECIES * rings; ++b) fill[b + 1] += fill[b];
  for (int b = 0; b <= SPECIES * rings; ++b) n->bound[b] = fill[b];
  for (int j = 0; j < n->count; ++j) {
    const int p = fill[place(n, A, cut, rings, j)]++;
    n->d0[p] = n->t0[j];
    n->d1[p] = n->t1[j];
    n->d2[p] = n->t2[j];
    n->jj[p] = n->tj[j];
  }
}

INLINE void gather(neighbourhood *n, const potential_system *A, int64_t i, const double *cut, int rings, int lengths, int inverses) {
  if (SPECIES * rings == 1) {
    n->count = compact(A, i, cut[0], n->d0, n->d1, n->d2, n->jj);
    n->bound[0] = 0;
    n->bound[1] = n->count;
  } else {
    n->count = compact(A, i, cut[rings - 1], n->t0, n->t1, n->t2, n->tj);
    partition(n, A, cut, rings);
  }
  if (!lengths && !inverses) return;
  real *__restrict l = n->len, *__restrict v = n->inv;
  const real *__restrict a = n->d0, *__restrict b = n->d1, *__restrict c = n->d2;
  for (int j = 0; j < n->count; ++j) {
    const real r = sqrt(a[j] * a[j] + b[j] * b[j] + c[j] * c[j] + 1e-40); /* two atoms at one place: finite */
    l[j] = r;
    if (inverses) v[j] = 1 / r;
  }
}

/* g = dE/d(x_j - x_i): the site feels +g, the neighbour -g; the virial -d g of a pair goes half to either */
INLINE void scatter(const neighbourhood *n, const potential_system *A, int64_t i) {
  double *__restrict F = A->forces;
  const real *g0 = n->g0, *g1 = n->g1, *g2 = n->g2;
  real fx = 0, fy = 0, fz = 0;
  for (int j = 0; j < n->count; ++j) {
    fx += g0[j];
    fy += g1[j];
    fz += g2[j];
  }
  F[3 * i] += fx;
  F[3 * i + 1] += fy;
  F[3 * i + 2] += fz;
  for (int j = 0; j < n->count; ++j) {
    const int64_t m = 3 * (int64_t)n->jj[j];
    F[m] -= g0[j];
    F[m + 1] -= g1[j];
    F[m + 2] -= g2[j];
  }
  if (!A->virials) return;
  for (int j = 0; j < n->count; ++j) {
    const real x = n->d0[j], y = n->d1[j], z = n->d2[j];
    const real w[6] = {x * g0[j], y * g1[j], z * g2[j], x * g1[j], x * g2[j], y * g2[j]};
    for (int c = 0; c < 6; ++c) {
      A->virials[6 * i + c] -= 0.5 * w[c];
      A->virials[6 * (int64_t)n->jj[j] + c] -= 0.5 * w[c];
    }
  }
}
