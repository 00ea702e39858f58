// Shared by all generated CUDA kernels: arguments, rows of numbers for neighbours, the neighbourhood of one site.
// One thread visits a site. Rows lie in the caller's scratch, where the numbers of neighbouring threads are neighbours.
#ifdef __CUDACC_RTC__
typedef int int32_t;
typedef long long int64_t;
#endif

// A site: an atom or one of its images, read in two loads.
struct __align__(32) Site {
  double x, y, z;
  int32_t atom, species;  // the atom it is or is an image of
};

__device__ inline Site read(const Site* p) {
  const double2 a = __ldg((const double2*)p), b = __ldg((const double2*)p + 1);
  const int64_t names = __double_as_longlong(b.y);
  return {a.x, a.y, b.x, (int32_t)names, (int32_t)(names >> 32)};
}

#ifdef FIXED  // forces as integers: their sum does not depend on the order
typedef unsigned long long Force;
#define FIXED_ONE 1099511627776.0  // 2^40
#else
typedef real Force;
#endif

// The square below which a neighbour is within a cutoff. Functions that end with exp(1/(r - cutoff)) have a pole there, on which float32 must not
// round: a part of 10^-6 of the cutoff is left out, at which they are zero.
#ifdef SINGLE
#define WITHIN(square) ((square) * (1 - 0x1p-19))
#else
#define WITHIN(square) (square)
#endif

struct Args {
  const Site* x;         // [sites], atoms first
  const int32_t* home;   // [atoms] structure
  const int64_t* first;  // [atoms] place of the first entry of a row in `index`
  const int32_t* count;  // [atoms] entries of a row
  const int32_t* index;  // sites; the next entry of a row is `stride` further
  const real* P;         // parameters
  const double* P64;     // the same
  const real* PT;        // tangents of the parameters
  const double* w;       // tangents of the sites [sites, 3]
  double* site;          // named site arrays [arrays, atoms]
  Force* F;              // forces [atoms, 4]
  real* V;               // virials of the sites xx yy zz yz xz xy [atoms, 6]
  double* G;             // gradient of the parameters [P, threads] or [structures, P], or virials of Jacobian columns [P, structures, 6]
  double* J;             // columns of a Jacobian [P, atoms, 3]
  real* scratch;         // [rows, ld, threads]
  int64_t atoms, structures, stride, ld;
};

// ---- adding where other threads add too

__device__ inline void add_to(double* place, double value) {
#ifdef FIXED
  atomicAdd((unsigned long long*)place, (unsigned long long)(int64_t)rint(value * FIXED_ONE));
#else
  atomicAdd(place, value);
#endif
}

__device__ inline void add_force(Force* F, int64_t n, real x, real y, real z) {
#if defined(FIXED)
  add_to((double*)(F + 4 * n), x);
  add_to((double*)(F + 4 * n + 1), y);
  add_to((double*)(F + 4 * n + 2), z);
#elif defined(SINGLE) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd((float4*)(F + 4 * n), make_float4(x, y, z, 0.f));
#else
  atomicAdd(F + 4 * n, x);
  atomicAdd(F + 4 * n + 1, y);
  atomicAdd(F + 4 * n + 2, z);
#endif
}

// Numbers that many threads add to.
struct Collected {
  double* p;
  struct Place {
    double* p;
    __device__ void operator+=(double value) const { add_to(p, value); }
  };
  __device__ Place operator[](int64_t i) const { return {p + i}; }
};

#ifdef FIXED  // what has been collected
struct Complete {
  const double* p;
  __device__ double operator[](int64_t i) const { return (double)((const int64_t*)p)[i] * (1 / FIXED_ONE); }
};
#else
typedef const double* Complete;
#endif

// Numbers of one thread between those of the others.
template <class T>
struct Strided {
  T* p;
  int64_t step;
  __device__ T& operator[](int64_t n) const { return p[n * step]; }
  __device__ Strided operator+(int64_t n) const { return {p + n * step, step}; }
};

#define OWN_ROWS(A, rows) \
  const int64_t ld = (A).ld; \
  const Strided<real> scratch = {(A).scratch + thread, threads};
typedef Strided<real> Row;
typedef Strided<int32_t> Whole;
__device__ inline Whole whole_numbers(Row row, int64_t thread) { return {(int32_t*)(row.p - thread) + thread, row.step}; }
#define ROW(n) (rows + (n)*ld)
#define IVDEP
#define ROLLED _Pragma("unroll 1")

__device__ inline real where(real a, real b, real c, real d) { return a < b ? c : d; }
__device__ inline real complementary_error(real x) { return erfc(x); }

// The virial of a site and the force on it, while its neighbours are visited.
struct Totals {
  real f0, f1, f2, v[6];
  __device__ void clear() {
    f0 = f1 = f2 = 0;
    for (int c = 0; c < 6; ++c) v[c] = 0;
  }
  __device__ void add(real x, real y, real z, real g0, real g1, real g2) {
    f0 += g0;
    f1 += g1;
    f2 += g2;
    v[0] -= x * g0;
    v[1] -= y * g1;
    v[2] -= z * g2;
    v[3] -= y * g2;
    v[4] -= x * g2;
    v[5] -= x * g1;
  }
  __device__ void write(const Args& A, int64_t i) const {
    for (int c = 0; c < 6; ++c) A.V[6 * i + c] += v[c];
  }
};

// Neighbours of one site, visited in the order of the list: nothing is kept. `Mirrored`: the neighbour's own visit brings its half of the
// force on both, which is the same.
template <bool Length, bool Inverse, bool Tangent, bool Mirrored>
struct Stream {
  real d0[1], d1[1], d2[1], len[1], inv[1], dt0[1], dt1[1], dt2[1], g0[1], g1[1], g2[1];
  int32_t jj[1];
  Site own;
  Totals sum;

  __device__ void open(const Args& A, int64_t i) {
    own = read(A.x + i);
    sum.clear();
  }
  __device__ void zero_forces() {}
  __device__ bool meets(const Args& A, int64_t i, int64_t entry, double cut, int species) {
    const int32_t s = A.index[entry];
    const Site other = read(A.x + s);
    const double x = other.x - own.x, y = other.y - own.y, z = other.z - own.z;
    if (!(x * x + y * y + z * z < cut) || (species >= 0 && other.species != species)) return false;
    d0[0] = x;
    d1[0] = y;
    d2[0] = z;
    jj[0] = other.atom;
    if (Length || Inverse) len[0] = sqrt(d0[0] * d0[0] + d1[0] * d1[0] + d2[0] * d2[0] + real(1e-30));
    if (Inverse) inv[0] = real(1) / len[0];
    if (Tangent) {
      dt0[0] = A.w[3 * (int64_t)s] - A.w[3 * i];
      dt1[0] = A.w[3 * (int64_t)s + 1] - A.w[3 * i + 1];
      dt2[0] = A.w[3 * (int64_t)s + 2] - A.w[3 * i + 2];
    }
    g0[0] = g1[0] = g2[0] = 0;
    return true;
  }
  __device__ void push(const Args& A) {
    sum.add(d0[0], d1[0], d2[0], g0[0], g1[0], g2[0]);
    if (!Mirrored) add_force(A.F, jj[0], -g0[0], -g1[0], -g2[0]);
  }
  __device__ void scatter(const Args& A, int64_t i) const {
    if (Mirrored) {
      A.F[4 * i] = 2 * sum.f0;
      A.F[4 * i + 1] = 2 * sum.f1;
      A.F[4 * i + 2] = 2 * sum.f2;
    } else {
      add_force(A.F, i, sum.f0, sum.f1, sum.f2);
    }
    sum.write(A, i);
  }
};

// Neighbours of one site within the largest cutoff in rows, ordered by species and then by the smallest cutoff that holds them: the
// neighbours of one species within one cutoff are a contiguous range.
template <int S, int K, bool Length, bool Inverse, bool Tangent>
struct Neighbourhood {
  Row d0, d1, d2, g0, g1, g2, len, inv, dt0, dt1, dt2;
  Whole jj;
  int count, bound[S * K + 1];

  static constexpr int rows = 7 + (Length || Inverse) + Inverse + 3 * Tangent;

  __device__ Neighbourhood(Row s, int64_t ld, int64_t thread) : count(0) {
    d0 = s, d1 = s + ld, d2 = s + 2 * ld, g0 = s + 3 * ld, g1 = s + 4 * ld, g2 = s + 5 * ld, jj = whole_numbers(s + 6 * ld, thread);
    len = s + 7 * ld, inv = s + 8 * ld;
    const Row t = s + (7 + (Length || Inverse) + Inverse) * ld;
    dt0 = t, dt1 = t + ld, dt2 = t + 2 * ld;
  }
  __device__ int begin(int s) const { return s == 0 ? 0 : bound[s * K]; }
  __device__ int stop(int c, int s) const { return bound[s * K + c + 1]; }
  __device__ void zero(Row row, int) const {
    for (int j = 0; j < count; ++j) row[j] = 0;
  }
  __device__ void zero_forces() {
    zero(g0, 0);
    zero(g1, 0);
    zero(g2, 0);
  }

  // The place of a site: species and ring of cutoffs, -1 beyond the last.
  __device__ static int place(const Site& own, const Site& other, const double* cut) {
    const double x = other.x - own.x, y = other.y - own.y, z = other.z - own.z, r2 = x * x + y * y + z * z;
    if (!(r2 < cut[K - 1])) return -1;
    int ring = 0;
    for (int c = 0; c < K - 1; ++c) ring += r2 >= cut[c];
    return (S > 1 ? other.species * K : 0) + ring;
  }

  __device__ void gather(const Args& A, int64_t i, const double* cut) {
    const Site own = read(A.x + i);
    const int64_t start = A.first[i], stop = start + A.count[i] * A.stride;
    int fill[S * K + 1];
    for (int b = 0; b <= S * K; ++b) fill[b] = 0;
    if (S * K > 1) {
      for (int64_t e = start; e < stop; e += A.stride) {
        const int b = place(own, read(A.x + A.index[e]), cut);
        if (b >= 0) ++fill[b + 1];
      }
      for (int b = 0; b < S * K; ++b) fill[b + 1] += fill[b];
    }
    for (int b = 0; b <= S * K; ++b) bound[b] = fill[b];
    for (int64_t e = start; e < stop; e += A.stride) {
      const int32_t s = A.index[e];
      const Site other = read(A.x + s);
      const int b = place(own, other, cut);
      if (b >= 0) put(A, i, s, own, other, fill[b]++);
    }
    if (S * K == 1) bound[1] = fill[0];
    count = bound[S * K];
  }

  __device__ void put(const Args& A, int64_t i, int32_t s, const Site& own, const Site& other, int j) {
    const real x = other.x - own.x, y = other.y - own.y, z = other.z - own.z;
    d0[j] = x;
    d1[j] = y;
    d2[j] = z;
    jj[j] = other.atom;
    if (Length || Inverse) {
      const real r = sqrt(x * x + y * y + z * z + real(1e-30));  // two atoms at one place: finite
      len[j] = r;
      if (Inverse) inv[j] = real(1) / r;
    }
    if (Tangent) {
      dt0[j] = A.w[3 * (int64_t)s] - A.w[3 * i];
      dt1[j] = A.w[3 * (int64_t)s + 1] - A.w[3 * i + 1];
      dt2[j] = A.w[3 * (int64_t)s + 2] - A.w[3 * i + 2];
    }
  }

  // g = dE/d(x_j - x_i): the site feels +g, the neighbour -g.
  __device__ void scatter(const Args& A, int64_t i) const {
    Totals sum;
    sum.clear();
    for (int j = 0; j < count; ++j) {
      sum.add(d0[j], d1[j], d2[j], g0[j], g1[j], g2[j]);
      add_force(A.F, jj[j], -g0[j], -g1[j], -g2[j]);
    }
    add_force(A.F, i, sum.f0, sum.f1, sum.f2);
    sum.write(A, i);
  }

  // Columns of a Jacobian: for each slot the force sum_e weight[e] * row(col[e]) on the neighbours, and the virial -d (outer) g.
  __device__ void columns(const Args& A, int64_t i, int slots, const int* first, const int* col, const real* weight, const int64_t* slot,
                          Row kept, int64_t ld) const {
    for (int q = 0; q < slots; ++q) {
      double* f = A.J + slot[q] * 3 * A.atoms;
      Totals sum;
      sum.clear();
      for (int s = 0; s < S; ++s) {
        const int e0 = first[q * S + s], e1 = first[q * S + s + 1];
        if (e0 == e1) continue;
        for (int j = bound[s * K]; j < bound[(s + 1) * K]; ++j) {
          real x = 0, y = 0, z = 0;
          for (int e = e0; e < e1; ++e) {
            const Row r = kept + 3 * (int64_t)col[e] * ld;
            x += weight[e] * r[j];
            y += weight[e] * (r + ld)[j];
            z += weight[e] * (r + 2 * ld)[j];
          }
          sum.add(d0[j], d1[j], d2[j], x, y, z);
          const int64_t o = 3 * (int64_t)jj[j];
          add_to(f + o, -x);
          add_to(f + o + 1, -y);
          add_to(f + o + 2, -z);
        }
      }
      add_to(f + 3 * i, sum.f0);
      add_to(f + 3 * i + 1, sum.f1);
      add_to(f + 3 * i + 2, sum.f2);
      for (int c = 0; c < 6; ++c) add_to(A.G + (slot[q] * A.structures + A.home[i]) * 6 + c, sum.v[c]);
    }
  }
};
