// Lists of neighbours on a device: images of atoms, bins of sites, rows. One thread serves an atom or a site, and nothing depends on their
// order. Atoms are wrapped into their cell when a list is built; a site stands at positions[atom] + shift @ cell.
#ifdef __CUDACC_RTC__
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
#endif

struct __align__(32) Site {
  double x, y, z;
  int32_t atom, species;
};

struct ListArgs {
  const double* positions;  // [atoms, 3]
  const double* cells;      // [structures, 3, 3], rows are vectors
  const double* dual;       // [structures, 3, 3]: fractional coordinates are x @ dual; zero where the cell is not periodic
  const uint8_t* pbc;       // [structures, 3]
  const int32_t* home;      // [atoms]
  const int32_t* species;   // [atoms]
  int32_t* owner;           // [sites]
  int32_t* shift;           // [sites, 3]
  Site* x;                  // [sites]
  int64_t* images;          // [atoms] how many, then where they begin
  const double* low;        // [structures, 3] corner of the bins
  const double* width;      // [structures, 3] of a bin
  const int64_t* bins;      // [structures, 4] along x, y, z; number of the first
  int64_t* bin;             // [sites]
  const int64_t* order;     // [sites] sites by bin
  const int64_t* start;     // [bins + 1] in `order`
  int64_t* first;           // [atoms]
  int32_t* count;           // [atoms]
  int32_t* index;
  const double* built;      // [atoms, 3] positions of which the list is
  const double* built_cells; // [structures, 3, 3]
  int32_t* stale;           // [1]
  int64_t atoms, sites, stride;
  double cutoff, reach;     // reach = cutoff + skin
};

#define EACH(n, total) \
  for (int64_t n = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; n < (total); n += gridDim.x * (int64_t)blockDim.x)

// Shifts along one vector that bring an atom at fraction f within h of the cell.
__device__ inline void shifts(double f, double h, bool periodic, int* low, int* high) {
  *low = periodic ? (int)ceil(-h - f - 1e-9) : 0;
  *high = periodic ? (int)floor(1 + h - f + 1e-9) : 0;
}

struct Images {
  int low[3], high[3], wrap[3];
  __device__ Images(const ListArgs& A, int64_t i) {
    const int s = A.home[i];
    const double* b = A.dual + 9 * s;
    for (int a = 0; a < 3; ++a) {
      const double f = A.positions[3 * i] * b[a] + A.positions[3 * i + 1] * b[3 + a] + A.positions[3 * i + 2] * b[6 + a];
      const double h = A.reach * sqrt(b[a] * b[a] + b[3 + a] * b[3 + a] + b[6 + a] * b[6 + a]);
      wrap[a] = A.pbc[3 * s + a] ? (int)floor(f) : 0;
      shifts(f - wrap[a], h, A.pbc[3 * s + a], low + a, high + a);
    }
  }
  __device__ int64_t size() const {
    return (int64_t)(high[0] - low[0] + 1) * (high[1] - low[1] + 1) * (high[2] - low[2] + 1) - 1;
  }
};

extern "C" __global__ void count_images(const __grid_constant__ ListArgs A) {
  EACH(i, A.atoms) {
    A.images[i] = Images(A, i).size();
  }
}

extern "C" __global__ void write_images(const __grid_constant__ ListArgs A) {
  EACH(i, A.atoms) {
    const Images m(A, i);
    int64_t g = A.atoms + A.images[i];
    for (int a = m.low[0]; a <= m.high[0]; ++a)
      for (int b = m.low[1]; b <= m.high[1]; ++b)
        for (int c = m.low[2]; c <= m.high[2]; ++c) {
          const bool itself = a == 0 && b == 0 && c == 0;
          const int64_t s = itself ? i : g;
          A.owner[s] = (int32_t)i;
          A.shift[3 * s] = a - m.wrap[0];
          A.shift[3 * s + 1] = b - m.wrap[1];
          A.shift[3 * s + 2] = c - m.wrap[2];
          g += !itself;
        }
  }
}

extern "C" __global__ void place_sites(const __grid_constant__ ListArgs A) {
  EACH(s, A.sites) {
    const int64_t o = A.owner[s];
    const double* h = A.cells + 9 * (int64_t)A.home[o];
    const double a = A.shift[3 * s], b = A.shift[3 * s + 1], c = A.shift[3 * s + 2];
    Site site;
    site.x = A.positions[3 * o] + a * h[0] + b * h[3] + c * h[6];
    site.y = A.positions[3 * o + 1] + a * h[1] + b * h[4] + c * h[7];
    site.z = A.positions[3 * o + 2] + a * h[2] + b * h[5] + c * h[8];
    site.atom = (int32_t)o;
    site.species = A.species[o];
    A.x[s] = site;
  }
}

__device__ inline int bin_along(double x, double low, double width, int64_t bins) {
  const double n = floor((x - low) / width);
  return n < 0 ? 0 : n >= bins ? (int)(bins - 1) : (int)n;
}

extern "C" __global__ void find_bins(const __grid_constant__ ListArgs A) {
  EACH(s, A.sites) {
    const int64_t h = A.home[A.owner[s]], *n = A.bins + 4 * h;
    const double *low = A.low + 3 * h, *width = A.width + 3 * h;
    const Site p = A.x[s];
    const int64_t a = bin_along(p.x, low[0], width[0], n[0]), b = bin_along(p.y, low[1], width[1], n[1]);
    A.bin[s] = n[3] + (bin_along(p.z, low[2], width[2], n[2]) * n[1] + b) * n[0] + a;
  }
}

// Visits the sites within reach of atom i; bins that follow each other along x are one run.
template <class Found>
__device__ inline void visit(const ListArgs& A, int64_t i, Found found) {
  const int64_t h = A.home[i], *n = A.bins + 4 * h;
  const double *low = A.low + 3 * h, *width = A.width + 3 * h, reach2 = A.reach * A.reach;
  const Site p = A.x[i];
  const int64_t a = bin_along(p.x, low[0], width[0], n[0]), b = bin_along(p.y, low[1], width[1], n[1]);
  const int64_t c = bin_along(p.z, low[2], width[2], n[2]);
  const int64_t from = a > 0 ? a - 1 : 0, to = a + 1 < n[0] ? a + 1 : n[0] - 1;
  for (int64_t w = c > 0 ? c - 1 : 0; w <= c + 1 && w < n[2]; ++w)
    for (int64_t v = b > 0 ? b - 1 : 0; v <= b + 1 && v < n[1]; ++v) {
      const int64_t line = n[3] + (w * n[1] + v) * n[0];
      for (int64_t e = A.start[line + from]; e < A.start[line + to + 1]; ++e) {
        const int64_t s = A.order[e];
        const Site q = A.x[s];
        const double x = q.x - p.x, y = q.y - p.y, z = q.z - p.z;
        if (x * x + y * y + z * z < reach2 && s != i) found(s);
      }
    }
}

struct Counting {
  int32_t* total;
  __device__ void operator()(int64_t) const { ++*total; }
};

struct Writing {
  int32_t* index;
  int64_t* place;
  int64_t stride;
  __device__ void operator()(int64_t s) const {
    index[*place] = (int32_t)s;
    *place += stride;
  }
};

extern "C" __global__ void count_neighbors(const __grid_constant__ ListArgs A) {
  EACH(i, A.atoms) {
    int32_t total = 0;
    visit(A, i, Counting{&total});
    A.count[i] = total;
  }
}

extern "C" __global__ void write_neighbors(const __grid_constant__ ListArgs A) {
  EACH(i, A.atoms) {
    int64_t place = A.first[i];
    visit(A, i, Writing{A.index, &place, A.stride});
  }
}

// Whether a pair that is not listed could have come within the cutoff. With F = dual @ cell the deformation since the list was built and u what
// an atom has moved beyond it, |d F + u_j - u_i| >= s reach - 2 max |u|, where s = 1 - |F - 1| is below the smallest singular value of F.
extern "C" __global__ void find_moves(const __grid_constant__ ListArgs A) {
  EACH(i, A.atoms) {
    const int64_t s = A.home[i];
    double u[3], norm = 0;
    for (int c = 0; c < 3; ++c) u[c] = A.positions[3 * i + c] - A.built[3 * i + c];
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 3; ++c) {
        double change = 0;  // (F - 1)[r][c]: new less old vectors of the periodic directions, in the frame of the old ones
        for (int k = 0; k < 3; ++k)
          if (A.pbc[3 * s + k]) change += A.dual[9 * s + 3 * r + k] * (A.cells[9 * s + 3 * k + c] - A.built_cells[9 * s + 3 * k + c]);
        norm += change * change;
        u[c] -= A.built[3 * i + r] * change;
      }
    const double margin = ((1 - sqrt(norm)) * A.reach - A.cutoff) / 2;
    if (!(margin >= 0 && u[0] * u[0] + u[1] * u[1] + u[2] * u[2] <= margin * margin)) *A.stale = 1;
  }
}
