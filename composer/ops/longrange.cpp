// Smooth and short-range parts of 1/r^p sums. Every kernel is written once for a number type T: double, or Dual, which carries a
// derivative along one direction of positions, cell and charges. Each gives phi = A u and the slopes of the form u A u by positions
// (at a fixed cell) and by the cell (at fixed positions); all other derivatives follow from these outside.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

struct Dual {
  double v, d;
  Dual() {}
  Dual(double value, double slope = 0.0) : v(value), d(slope) {}
  Dual& operator+=(const Dual& b) { v += b.v; d += b.d; return *this; }
  Dual& operator-=(const Dual& b) { v -= b.v; d -= b.d; return *this; }
};
inline Dual operator+(const Dual& a, const Dual& b) { return {a.v + b.v, a.d + b.d}; }
inline Dual operator-(const Dual& a, const Dual& b) { return {a.v - b.v, a.d - b.d}; }
inline Dual operator-(const Dual& a) { return {-a.v, -a.d}; }
inline Dual operator*(const Dual& a, const Dual& b) { return {a.v * b.v, a.v * b.d + a.d * b.v}; }
inline Dual operator/(const Dual& a, const Dual& b) { return {a.v / b.v, (a.d - a.v * b.d / b.v) / b.v}; }
inline double value(double x) { return x; }
inline double value(const Dual& x) { return x.v; }
inline Dual cosine(const Dual& x) { return {std::cos(x.v), -std::sin(x.v) * x.d}; }
inline Dual sine(const Dual& x) { return {std::sin(x.v), std::cos(x.v) * x.d}; }
inline double cosine(double x) { return std::cos(x); }
inline double sine(double x) { return std::sin(x); }
inline Dual absolute(const Dual& x) { return x.v < 0 ? -x : x; }
inline double absolute(double x) { return std::fabs(x); }

// A value and its slope by the argument, lifted from doubles f, f', f''.
inline void lift(double, double f0, double f1, double, double& f, double& slope) { f = f0; slope = f1; }
inline void lift(const Dual& x, double f0, double f1, double f2, Dual& f, Dual& slope) { f = {f0, f1 * x.d}; slope = {f1, f2 * x.d}; }

// Arrays from outside: values and, for Dual, their slopes.
template <class T> struct Array;
template <> struct Array<double> {
  double* v;
  Array(double* values, double*) : v(values) {}
  double get(int64_t i) const { return v[i]; }
  void set(int64_t i, double x) const { v[i] = x; }
  void add(int64_t i, double x) const { v[i] += x; }
};
template <> struct Array<Dual> {
  double *v, *d;
  Array(double* values, double* slopes) : v(values), d(slopes) {}
  Dual get(int64_t i) const { return {v[i], d[i]}; }
  void set(int64_t i, const Dual& x) const { v[i] = x.v; d[i] = x.d; }
  void add(int64_t i, const Dual& x) const { v[i] += x.v; d[i] += x.d; }
};

// ---- the split of 1/r^p -----------------------------------------------------------------------------------------------------------

const double PI = 3.14159265358979323846;

// Gaussian, or where `near` is given by two polynomials of finite reach: V_LR(r) = near(2 (r/reach)^2 - 1), 1/r from there on, and
// vhat_LR(k) = 4 pi/k^2 far(2 (k/band)^2 - 1), 0 from there on.
struct Split {
  double p, sigma, cutoff, reach, band;
  const double *near, *far;  // [terms], lowest first
  int64_t terms;
};

// A polynomial of w = 2 x/limit - 1 and its first two derivatives by x.
inline void polynomial(const double* c, int64_t terms, double limit, double x, double* f) {
  const double s = 2 / limit, w = s * x - 1;
  double value = c[terms - 1], slope = 0, bend = 0;
  for (int64_t k = terms - 2; k >= 0; --k) {
    bend = bend * w + slope;
    slope = slope * w + value;
    value = value * w + c[k];
  }
  f[0] = value;
  f[1] = s * slope;
  f[2] = 2 * s * s * bend;
}

// The same for many x [m], which are read and written in whole blocks: [m + BLOCK]. Without bends if there is no place for them.
const int BLOCK = 16;
template <bool bends>
inline void polynomials(const double* c, int64_t terms, double limit, int64_t m, const double* x, double* f, double* f1, double* f2) {
  const double s = 2 / limit;
  for (int64_t from = 0; from < m; from += BLOCK) {
    double w[BLOCK], value[BLOCK], slope[BLOCK], bend[BLOCK];
    for (int j = 0; j < BLOCK; ++j) {
      w[j] = s * x[from + j] - 1;
      value[j] = c[terms - 1];
      slope[j] = bend[j] = 0;
    }
    for (int64_t k = terms - 2; k >= 0; --k)
#pragma omp simd
      for (int j = 0; j < BLOCK; ++j) {
        if (bends) bend[j] = bend[j] * w[j] + slope[j];
        slope[j] = slope[j] * w[j] + value[j];
        value[j] = value[j] * w[j] + c[k];
      }
    for (int j = 0; j < BLOCK; ++j) {
      f[from + j] = value[j];
      f1[from + j] = s * slope[j];
      if (bends) f2[from + j] = 2 * s * s * bend[j];
    }
  }
}

// r^-p and its first two derivatives by r^2.
inline void power(double p, double r2, double* f) {
  const double a = p / 2, whole = std::pow(r2, -a);
  f[0] = whole;
  f[1] = -a * whole / r2;
  f[2] = a * (a + 1) * whole / (r2 * r2);
}

// P(a, x)/x^a for a, a + 1, a + 2: all terms are positive.
inline void lower_gamma(double a, double x, double* f) {
  if (x > 60) {
    for (int n = 0; n < 3; ++n) f[n] = std::pow(x, -(a + n));
    return;
  }
  const double e = std::exp(-x);
  double term = 1 / std::tgamma(a + 3), sum = term;
  for (int n = 1; n < 400 && term > 1e-17 * sum; ++n) sum += term *= x / (a + 2 + n);
  f[2] = e * sum;
  f[1] = x * f[2] + e / std::tgamma(a + 2);
  f[0] = x * f[1] + e / std::tgamma(a + 1);
}

// V_LR and its first two derivatives by r^2.
inline void smooth_pair(const Split& S, double r2, double* f) {
  if (S.near) {
    if (r2 < S.reach * S.reach) polynomial(S.near, S.terms, S.reach * S.reach, r2, f);
    else power(S.p, r2, f);
    return;
  }
  const double a = S.p / 2, w = 2 * S.sigma * S.sigma, scale = std::pow(w, -a);
  double g[3];
  lower_gamma(a, r2 / w, g);
  f[0] = scale * g[0];
  f[1] = -scale * a / w * g[1];
  f[2] = scale * a * (a + 1) / (w * w) * g[2];
}

// V_SR and its first two derivatives by r^2; sigma = 0 stands for the whole of 1/r^p.
inline void short_pair(const Split& S, double r2, double* f) {
  if (S.p == 1 && S.sigma > 0) {
    const double alpha = 1 / (std::sqrt(2.0) * S.sigma), r = std::sqrt(r2), y = alpha * r, e = std::exp(-y * y);
    const double g = 2 * alpha / std::sqrt(PI) * e;
    f[0] = scaled_erfc(y) * e / r;
    f[1] = -0.5 * (f[0] + g) / r2;
    f[2] = 0.5 * (f[0] + g) / (r2 * r2) - 0.5 * (f[1] - alpha * alpha * g) / r2;
    return;
  }
  power(S.p, r2, f);
  if (S.sigma > 0 || S.near) {
    double g[3];
    smooth_pair(S, r2, g);
    for (int n = 0; n < 3; ++n) f[n] -= g[n];
  }
}

// E_n(z) = int_1^inf t^-n exp(-z t) dt for any real n and z > 0.
inline double exponential_integral(double n, double z) {
  if (z > 1) {  // continued fraction (Lentz)
    double b = z + n, c = 1e300, d = 1 / b, h = d;
    for (int i = 1; i < 2000; ++i) {
      const double a = -i * (n - 1 + i);
      b += 2;
      d = 1 / (a * d + b);
      c = b + a / c;
      h *= c * d;
      if (std::fabs(c * d - 1) < 1e-16) break;
    }
    return h * std::exp(-z);
  }
  double sum = 0, term = 1;  // series; for a whole n the pole becomes a logarithm
  const bool whole = n == std::floor(n) && n >= 1;
  for (int k = 0; k < 60; ++k) {
    if (!(whole && k == n - 1)) sum -= term / (1 - n + k);
    term *= -z / (k + 1);
  }
  if (!whole) return std::tgamma(1 - n) * std::pow(z, n - 1) + sum;
  double psi = -0.57721566490153286061, factor = 1;
  for (int k = 1; k < n; ++k) { psi += 1.0 / k; factor *= -z / k; }
  return factor * (psi - std::log(z)) + sum;
}

// vhat_LR and its first two derivatives by k^2.
inline void spectrum(const Split& S, double k2, double* f) {
  if (S.near) {
    double g[3] = {0, 0, 0};
    if (k2 < S.band * S.band) polynomial(S.far, S.terms, S.band * S.band, k2, g);
    f[0] = 4 * PI * g[0] / k2;
    f[1] = (4 * PI * g[1] - f[0]) / k2;
    f[2] = (4 * PI * g[2] - 2 * f[1]) / k2;
    return;
  }
  const double w = S.sigma * S.sigma / 2, z = w * k2;
  if (S.p == 1) {
    f[0] = 4 * PI * std::exp(-z) / k2;
    f[1] = -f[0] * (w + 1 / k2);
    f[2] = -f[1] * (w + 1 / k2) + f[0] / (k2 * k2);
    return;
  }
  const double n = (S.p - 1) / 2, e = std::exp(-z);
  const double scale = std::pow(PI, 1.5) / std::tgamma(S.p / 2) * std::pow(2 * S.sigma * S.sigma, (3 - S.p) / 2);
  const double first = exponential_integral(n, z), second = (e - (n - 1) * first) / z, third = (e - (n - 2) * second) / z;
  f[0] = scale * first;
  f[1] = -scale * w * second;
  f[2] = scale * w * w * third;
}

// ---- cells ------------------------------------------------------------------------------------------------------------------------

template <class T> struct Cell {
  T h[3][3], inverse[3][3], volume;  // rows of h are vectors; s = x inverse
  Cell(const Array<T>& a, int64_t s) {
    for (int i = 0; i < 9; ++i) h[i / 3][i % 3] = a.get(9 * s + i);
    T c[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const int a1 = (i + 1) % 3, a2 = (i + 2) % 3, b1 = (j + 1) % 3, b2 = (j + 2) % 3;
        c[i][j] = h[a1][b1] * h[a2][b2] - h[a1][b2] * h[a2][b1];
      }
    const T determinant = h[0][0] * c[0][0] + h[0][1] * c[0][1] + h[0][2] * c[0][2];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) inverse[j][i] = c[i][j] / determinant;
    volume = absolute(determinant);
  }
  void fractional(const Array<T>& x, int64_t atom, T* s) const {
    for (int c = 0; c < 3; ++c) s[c] = x.get(3 * atom) * inverse[0][c] + x.get(3 * atom + 1) * inverse[1][c] + x.get(3 * atom + 2) * inverse[2][c];
  }
  // From slopes by fractional positions g (of atom) to Cartesian ones; the cell's share at fixed positions is taken off G.
  void push(const T* s, const T* g, T* gx, T (*G)[3]) const {
    for (int a = 0; a < 3; ++a) gx[a] = g[0] * inverse[a][0] + g[1] * inverse[a][1] + g[2] * inverse[a][2];
    for (int c = 0; c < 3; ++c)
      for (int b = 0; b < 3; ++b) G[c][b] -= s[c] * gx[b];
  }
  // G += inverse^T Y, Y the slope by strain at fixed fractional positions.
  void strain(const T (*Y)[3], T (*G)[3]) const {
    for (int c = 0; c < 3; ++c)
      for (int b = 0; b < 3; ++b) G[c][b] += inverse[0][c] * Y[0][b] + inverse[1][c] * Y[1][b] + inverse[2][c] * Y[2][b];
  }
};

template <class T> void zero(T (*m)[3]) {
  for (int i = 0; i < 9; ++i) m[i / 3][i % 3] = T(0.0);
}

// ---- Ewald sum over k, one structure ----------------------------------------------------------------------------------------------

template <class T> struct Waves {  // exp(2 pi i m s) of all atoms for m = 0 .. most: [most + 1][atoms]
  std::vector<T> re, im;
  Waves(const std::vector<T>& s, int axis, int most, int n) : re((most + 1) * (int64_t)n), im(re.size()) {
    for (int i = 0; i < n; ++i) {
      const T phase = T(2 * PI) * (s[3 * i + axis] - T(std::floor(value(s[3 * i + axis]))));
      const T c = cosine(phase), d = sine(phase);
      re[i] = T(1.0);
      im[i] = T(0.0);
      for (int m = 1; m <= most; ++m) {
        const int64_t now = (int64_t)m * n + i, before = now - n;
        re[now] = re[before] * c - im[before] * d;
        im[now] = re[before] * d + im[before] * c;
      }
    }
  }
};

template <class T>
void ewald_one(const Split& S, int n, int64_t start, int64_t structure, const Array<T>& x, const Array<T>& h, const Array<T>& u,
               const Array<T>& phi, const Array<T>& gx, const Array<T>& gh, bool slopes, double constant, double own) {
  const Cell<T> cell(h, structure);
  std::vector<T> s(3 * n), q(n), f(n, T(0.0)), g(3 * n, T(0.0)), zr(n), zi(n), er(n), ei(n);
  T total(0.0);
  for (int i = 0; i < n; ++i) {
    cell.fractional(x, start + i, &s[3 * i]);
    q[i] = u.get(start + i);
    total += q[i];
  }
  int most[3];
  for (int c = 0; c < 3; ++c) {
    double length = 0;
    for (int b = 0; b < 3; ++b) length += value(cell.h[c][b]) * value(cell.h[c][b]);
    most[c] = (int)std::floor(S.cutoff * std::sqrt(length) / (2 * PI));
  }
  const Waves<T> w1(s, 0, most[0], n), w2(s, 1, most[1], n), w3(s, 2, most[2], n);
  T Y[3][3], energy(0.0);
  zero(Y);
  for (int m1 = 0; m1 <= most[0]; ++m1)
    for (int m2 = m1 ? -most[1] : 0; m2 <= most[1]; ++m2) {
      const int64_t o1 = (int64_t)m1 * n, o2 = (int64_t)std::abs(m2) * n;
      const double sign2 = m2 < 0 ? -1 : 1;
      for (int i = 0; i < n; ++i) {
        const T b = T(sign2) * w2.im[o2 + i];
        zr[i] = w1.re[o1 + i] * w2.re[o2 + i] - w1.im[o1 + i] * b;
        zi[i] = w1.re[o1 + i] * b + w1.im[o1 + i] * w2.re[o2 + i];
      }
      for (int m3 = m1 || m2 ? -most[2] : 1; m3 <= most[2]; ++m3) {
        T k[3], k2(0.0);
        for (int a = 0; a < 3; ++a) {
          k[a] = T(2 * PI) * (T(m1) * cell.inverse[a][0] + T(m2) * cell.inverse[a][1] + T(m3) * cell.inverse[a][2]);
          k2 += k[a] * k[a];
        }
        if (value(k2) > S.cutoff * S.cutoff) continue;
        double v[3];
        spectrum(S, value(k2), v);
        T weight, slope;
        lift(k2, 2 * v[0], 2 * v[1], 2 * v[2], weight, slope);
        weight = weight / cell.volume;
        const int64_t o3 = (int64_t)std::abs(m3) * n;
        const double sign3 = m3 < 0 ? -1 : 1;
        T sr(0.0), si(0.0);
        const T *a3 = &w3.re[o3], *b3 = &w3.im[o3];
        for (int i = 0; i < n; ++i) {
          const T b = T(sign3) * b3[i];
          er[i] = zr[i] * a3[i] - zi[i] * b;
          ei[i] = zr[i] * b + zi[i] * a3[i];
          sr += q[i] * er[i];
          si += q[i] * ei[i];
        }
        const T wr = weight * sr, wi = weight * si;
        if (!slopes) {
          for (int i = 0; i < n; ++i) f[i] += wr * er[i] + wi * ei[i];
          continue;
        }
        T* g1 = g.data();
        T* g2 = g1 + n;
        T* g3 = g2 + n;
        for (int i = 0; i < n; ++i) {
          f[i] += wr * er[i] + wi * ei[i];
          const T t = wi * er[i] - wr * ei[i];
          g1[i] += T(m1) * t;
          g2[i] += T(m2) * t;
          g3[i] += T(m3) * t;
        }
        const T square = sr * sr + si * si, along = T(-2.0) * slope * square / cell.volume;
        energy += weight * square;
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < 3; ++b) Y[a][b] += along * k[a] * k[b];
      }
    }
  const T level = T(constant) * total / cell.volume;
  for (int i = 0; i < n; ++i) phi.set(start + i, f[i] + level - T(own) * q[i]);
  if (!slopes) return;
  energy += level * total;
  for (int a = 0; a < 3; ++a) Y[a][a] -= energy;
  T G[3][3];
  zero(G);
  for (int i = 0; i < n; ++i) {
    T gs[3], out[3];
    for (int c = 0; c < 3; ++c) gs[c] = T(4 * PI) * q[i] * g[c * (int64_t)n + i];
    cell.push(&s[3 * i], gs, out, G);
    for (int a = 0; a < 3; ++a) gx.set(3 * (start + i) + a, out[a]);
  }
  cell.strain(Y, G);
  for (int i = 0; i < 9; ++i) gh.set(9 * structure + i, G[i / 3][i % 3]);
}

// ---- all pairs of an open structure -----------------------------------------------------------------------------------------------

template <class T>
void all_pairs(const Split& S, int n, int64_t start, const Array<T>& x, const Array<T>& u, const Array<T>& phi, const Array<T>& gx, bool slopes) {
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < i; ++j) {
      const int64_t a = start + i, b = start + j;
      T d[3], r2(0.0), f, slope;
      for (int c = 0; c < 3; ++c) {
        d[c] = x.get(3 * a + c) - x.get(3 * b + c);
        r2 += d[c] * d[c];
      }
      double v[3];
      if (S.sigma > 0 || S.near) smooth_pair(S, value(r2), v);
      else short_pair(S, value(r2), v);  // the whole of 1/r^p
      lift(r2, v[0], v[1], v[2], f, slope);
      const T ua = u.get(a), ub = u.get(b);
      phi.add(a, ub * f);
      phi.add(b, ua * f);
      if (!slopes) continue;
      const T pull = T(4.0) * ua * ub * slope;
      for (int c = 0; c < 3; ++c) {
        gx.add(3 * a + c, pull * d[c]);
        gx.add(3 * b + c, -(pull * d[c]));
      }
    }
}

// ---- slabs ------------------------------------------------------------------------------------------------------------------------

template <class T> void cross(const T* a, const T* b, T* c) {
  for (int i = 0; i < 3; ++i) c[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

inline double root(double x) { return std::sqrt(x); }
inline Dual root(const Dual& x) { const double r = std::sqrt(x.v); return {r, x.d / (2 * r)}; }

template <class T> struct Plane {  // the periodic plane of a slab: unit normal n and area of the cell in it
  T a[3], b[3], n[3], area;
  Plane(const Array<T>& h, int64_t s, int open) {
    T c[3], square(0.0);
    for (int i = 0; i < 3; ++i) {
      a[i] = h.get(9 * s + 3 * ((open + 1) % 3) + i);
      b[i] = h.get(9 * s + 3 * ((open + 2) % 3) + i);
    }
    cross(a, b, c);
    for (int i = 0; i < 3; ++i) square += c[i] * c[i];
    area = root(square);
    for (int i = 0; i < 3; ++i) n[i] = c[i] / area;
  }
};

// The line of k normal to a slab: sum over nodes of weight cos(k (z_i - z_j)); no nodes stand for the closed form of p = 1.
struct Line {
  const double *k, *weight;
  int64_t count;
};

// What is left of the sum over three directions in a cell that is `length` high, and the slopes of that cell carried to the given one:
// phi_i += sum_j A_ij u_j, for p = 1 A_ij = -(2 pi/(area length)) ((z_i - z_j)^2 + length^2/6).
template <class T>
void slab_one(int64_t start, int64_t end, int64_t structure, int open, double length, const Line& line, const Array<T>& x, const Array<T>& h,
              const Array<T>& u, const Array<T>& phi, const Array<T>& gx, const Array<T>& gh, bool slopes) {
  const Plane<T> plane(h, structure, open);
  const int64_t n = end - start;
  std::vector<T> z(n);
  T q(0.0), m(0.0), mm(0.0), middle(0.0);
  for (int64_t i = 0; i < n; ++i) {
    z[i] = T(0.0);
    for (int a = 0; a < 3; ++a) z[i] += x.get(3 * (start + i) + a) * plane.n[a];
  }
  if (n) middle = T(value(z[0]));
  for (int64_t i = 0; i < n; ++i) {
    const T d = z[i] - middle, w = u.get(start + i);
    q += w;
    m += w * d;
    mm += w * d * d;
  }
  const T scale = T(-2 * PI / length) / plane.area, sixth(length * length / 6);
  T form(0.0), gn[3] = {T(0.0), T(0.0), T(0.0)};
  std::vector<T> f(n, T(0.0)), g(n, T(0.0));
  if (!line.count) {
    form = scale * (T(2.0) * (q * mm - m * m) + sixth * q * q);
    for (int64_t i = 0; i < n; ++i) {
      const T d = z[i] - middle;
      f[i] = scale * (d * d * q - T(2.0) * d * m + mm + sixth * q);
      g[i] = T(4.0) * scale * u.get(start + i) * (q * d - m);
    }
  }
  std::vector<T> re(n), im(n);
  for (int64_t w = 0; w < line.count; ++w) {
    T sr(0.0), si(0.0);
    for (int64_t i = 0; i < n; ++i) {
      const T phase = T(line.k[w]) * (z[i] - middle);
      re[i] = cosine(phase);
      im[i] = sine(phase);
      sr += u.get(start + i) * re[i];
      si += u.get(start + i) * im[i];
    }
    const T weight = T(line.weight[w]) / plane.area;
    form += weight * (sr * sr + si * si);
    for (int64_t i = 0; i < n; ++i) {
      f[i] += weight * (re[i] * sr + im[i] * si);
      g[i] += T(2.0 * line.k[w]) * weight * u.get(start + i) * (re[i] * si - im[i] * sr);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    phi.add(start + i, f[i]);
    if (!slopes) continue;
    const T gz = g[i];
    for (int a = 0; a < 3; ++a) {
      gx.add(3 * (start + i) + a, gz * plane.n[a]);
      gn[a] += gz * x.get(3 * (start + i) + a);
    }
  }
  if (!slopes) return;
  // gh holds slopes by the tall cell; its open vector is length n
  T gc[3], along(0.0), ga[3], gb[3];
  for (int a = 0; a < 3; ++a) gn[a] += T(length) * gh.get(9 * structure + 3 * open + a);
  for (int a = 0; a < 3; ++a) along += gn[a] * plane.n[a];
  for (int a = 0; a < 3; ++a) gc[a] = (gn[a] - along * plane.n[a] - form * plane.n[a]) / plane.area;  // form goes as 1/area
  cross(plane.b, gc, ga);
  cross(gc, plane.a, gb);
  for (int a = 0; a < 3; ++a) {
    gh.add(9 * structure + 3 * ((open + 1) % 3) + a, ga[a]);
    gh.add(9 * structure + 3 * ((open + 2) % 3) + a, gb[a]);
    gh.set(9 * structure + 3 * open + a, T(0.0));
  }
}

// ---- pairs within a cutoff (each listed once) -------------------------------------------------------------------------------------

struct Pairs {
  int64_t atoms;           // of the batch; sites from there on are ghosts
  const int64_t* first;    // [atoms + 1]
  const int32_t* index;    // sites
  const int32_t* owner;    // [ghosts]
  const int32_t* shift;    // [ghosts, 3]
};

// 1/sqrt(x), by two steps of Newton from single precision: division and root of doubles would cost as much as all else of a pair.
inline double inverse_root(double x) {
  double y = (double)(1 / std::sqrt((float)x));
  y *= 1.5 - 0.5 * x * y * y;
  return y * (1.5 - 0.5 * x * y * y);
}

// Values, slopes and weights of a row; this loop is the work.
inline void row(const Split& S, int m, const double* r2, double* f, double* slope) {
  const double limit = S.cutoff * S.cutoff;
  if (S.near) {
    polynomials<false>(S.near, S.terms, S.reach * S.reach, m, r2, f, slope, nullptr);
#pragma omp simd
    for (int j = 0; j < m; ++j) {
      const double ir = inverse_root(r2[j]), inside = r2[j] < limit ? 1.0 : 0.0;
      f[j] = inside * (ir - f[j]);
      slope[j] = inside * (-0.5 * ir * ir * ir - slope[j]);
    }
    return;
  }
  if (S.p == 1 && S.sigma > 0) {
    const double alpha = 1 / (std::sqrt(2.0) * S.sigma), norm = 2 * alpha / std::sqrt(PI);
#pragma omp simd
    for (int j = 0; j < m; ++j) {
      const double ir = 1 / std::sqrt(r2[j]), r = r2[j] * ir, y = alpha * r, e = r2[j] < limit ? std::exp(-y * y) : 0.0;
      f[j] = scaled_erfc(y) * e * ir;
      slope[j] = -0.5 * (f[j] + norm * e) * ir * ir;
    }
    return;
  }
  for (int j = 0; j < m; ++j) {
    double v[3] = {0, 0, 0};
    if (r2[j] < limit) short_pair(S, r2[j], v);
    f[j] = v[0];
    slope[j] = v[1];
  }
}

// Sums are cut in pieces that depend on sizes alone, and added up in their order: the same result for any number of threads.
const int64_t PIECES = 4, LARGE = 4000;
inline int64_t pieces(int64_t n) { return n < LARGE ? 1 : PIECES; }

struct Site { double x, y, z, q; };
struct Out { double f, x, y, z; };

// The rows of local atoms [from, to) of a structure, into out [n + images].
void pair_rows(const Split& S, const Pairs& P, int64_t start, int64_t n, int64_t ghosts, const std::vector<Site>& site, int64_t from, int64_t to, Out* out) {
  int64_t longest = 0;
  for (int64_t i = start + from; i < start + to; ++i) longest = std::max(longest, P.first[i + 1] - P.first[i]);
  const int64_t ld = longest + BLOCK;
  std::vector<double> buffer(7 * ld);
  double *dx = buffer.data(), *dy = dx + ld, *dz = dy + ld, *r2 = dz + ld, *f = r2 + ld, *slope = f + ld, *q = slope + ld;
  std::vector<int32_t> local(ld);
  std::vector<Site> other(ld);
  std::vector<Out> back(ld);
  for (int64_t i = from; i < to; ++i) {
    const int32_t* row_index = P.index + P.first[start + i];
    const int m = (int)(P.first[start + i + 1] - P.first[start + i]);
    const Site me = site[i];
#pragma omp simd
    for (int j = 0; j < m; ++j) local[j] = (int32_t)(row_index[j] < P.atoms ? row_index[j] - start : n + row_index[j] - P.atoms - ghosts);
    for (int j = 0; j < m; ++j) other[j] = site[local[j]];  // whole sites, so that each is one load and one store
#pragma omp simd
    for (int j = 0; j < m; ++j) {
      dx[j] = me.x - other[j].x;
      dy[j] = me.y - other[j].y;
      dz[j] = me.z - other[j].z;
      q[j] = other[j].q;
      r2[j] = dx[j] * dx[j] + dy[j] * dy[j] + dz[j] * dz[j];
    }
    row(S, m, r2, f, slope);
    double potential = 0, fx = 0, fy = 0, fz = 0;
#pragma omp simd reduction(+ : potential, fx, fy, fz)
    for (int j = 0; j < m; ++j) {
      potential += q[j] * f[j];
      const double pull = 4 * me.q * q[j] * slope[j], x = pull * dx[j], y = pull * dy[j], z = pull * dz[j];
      fx += x;
      fy += y;
      fz += z;
      back[j] = {me.q * f[j], -x, -y, -z};
    }
    for (int j = 0; j < m; ++j) {
      Out& o = out[local[j]];
      const double f = o.f + back[j].f, x = o.x + back[j].x, y = o.y + back[j].y, z = o.z + back[j].z;
      o = {f, x, y, z};
    }
    Out& o = out[i];
    o.f += potential;
    o.x += fx;
    o.y += fy;
    o.z += fz;
  }
}

void pairs_one(const Split& S, const Pairs& P, int64_t start, int64_t end, int64_t ghosts, int64_t ghosts_end, int64_t structure,
               const Array<double>& x, const Array<double>& h, const Array<double>& u, const Array<double>& phi, const Array<double>& gx,
               const Array<double>& gh, bool slopes, int64_t threads) {
  const int64_t n = end - start, images = ghosts_end - ghosts, all = n + images, count = pieces(n);
  const Cell<double> cell(h, structure);
  std::vector<Site> site(all);
  std::vector<Out> out(count * all, Out{0, 0, 0, 0});
  for (int64_t i = 0; i < n; ++i) site[i] = {x.v[3 * (start + i)], x.v[3 * (start + i) + 1], x.v[3 * (start + i) + 2], u.v[start + i]};
  for (int64_t g = 0; g < images; ++g) {
    const Site& from = site[P.owner[ghosts + g] - start];
    const int32_t* m = P.shift + 3 * (ghosts + g);
    Site s = from;
    s.x += m[0] * cell.h[0][0] + m[1] * cell.h[1][0] + m[2] * cell.h[2][0];
    s.y += m[0] * cell.h[0][1] + m[1] * cell.h[1][1] + m[2] * cell.h[2][1];
    s.z += m[0] * cell.h[0][2] + m[1] * cell.h[1][2] + m[2] * cell.h[2][2];
    site[n + g] = s;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
  for (int64_t c = 0; c < count; ++c) pair_rows(S, P, start, n, ghosts, site, n * c / count, n * (c + 1) / count, &out[c * all]);
  for (int64_t c = 1; c < count; ++c)
    for (int64_t i = 0; i < all; ++i) {
      const Out& o = out[c * all + i];
      Out& to = out[i];
      to.f += o.f;
      to.x += o.x;
      to.y += o.y;
      to.z += o.z;
    }
  double G[3][3];
  zero(G);
  for (int64_t g = 0; g < images; ++g) {
    const Out o = out[n + g];
    Out& to = out[P.owner[ghosts + g] - start];
    to.f += o.f;
    to.x += o.x;
    to.y += o.y;
    to.z += o.z;
    for (int c = 0; c < 3; ++c) {
      const double m = P.shift[3 * (ghosts + g) + c];
      G[c][0] += m * o.x;
      G[c][1] += m * o.y;
      G[c][2] += m * o.z;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    phi.set(start + i, out[i].f);
    if (!slopes) continue;
    gx.set(3 * (start + i), out[i].x);
    gx.set(3 * (start + i) + 1, out[i].y);
    gx.set(3 * (start + i) + 2, out[i].z);
  }
  if (slopes)
    for (int i = 0; i < 9; ++i) gh.set(9 * structure + i, G[i / 3][i % 3]);
}

// The same with f'', for derivatives along moves.
inline void row(const Split& S, int m, const double* r2, double* f, double* slope, double* bend) {
  const double limit = S.cutoff * S.cutoff;
  if (S.near) {
    polynomials<true>(S.near, S.terms, S.reach * S.reach, m, r2, f, slope, bend);
#pragma omp simd
    for (int j = 0; j < m; ++j) {
      const double ir = 1 / std::sqrt(r2[j]), i3 = ir * ir * ir, inside = r2[j] < limit ? 1.0 : 0.0;
      f[j] = inside * (ir - f[j]);
      slope[j] = inside * (-0.5 * i3 - slope[j]);
      bend[j] = inside * (0.75 * i3 * ir * ir - bend[j]);
    }
    return;
  }
  if (S.p == 1 && S.sigma > 0) {
    const double alpha = 1 / (std::sqrt(2.0) * S.sigma), norm = 2 * alpha / std::sqrt(PI), a2 = alpha * alpha;
#pragma omp simd
    for (int j = 0; j < m; ++j) {
      const double ir = 1 / std::sqrt(r2[j]), i2 = ir * ir, r = r2[j] * ir, y = alpha * r, e = r2[j] < limit ? std::exp(-y * y) : 0.0;
      f[j] = scaled_erfc(y) * e * ir;
      const double sum = f[j] + norm * e;
      slope[j] = -0.5 * sum * i2;
      bend[j] = 0.5 * i2 * (sum * i2 - slope[j] + a2 * norm * e);
    }
    return;
  }
  for (int j = 0; j < m; ++j) {
    double v[3] = {0, 0, 0};
    if (r2[j] < limit) short_pair(S, r2[j], v);
    f[j] = v[0];
    slope[j] = v[1];
    bend[j] = v[2];
  }
}

void pairs_one(const Split& S, const Pairs& P, int64_t start, int64_t end, int64_t ghosts, int64_t, int64_t structure, const Array<Dual>& x,
               const Array<Dual>& h, const Array<Dual>& u, const Array<Dual>& phi, const Array<Dual>& gx, const Array<Dual>& gh, bool slopes, int64_t) {
  (void)ghosts;
  const Cell<Dual> cell(h, structure);
  int64_t longest = 0;
  for (int64_t i = start; i < end; ++i) longest = std::max(longest, P.first[i + 1] - P.first[i]);
  const int64_t ld = longest + BLOCK;
  std::vector<double> buffer(18 * ld);
  double* a[18];
  for (int n = 0; n < 18; ++n) a[n] = buffer.data() + n * ld;
  double *dx = a[0], *dy = a[1], *dz = a[2], *tx = a[3], *ty = a[4], *tz = a[5], *q = a[6], *qt = a[7], *r2 = a[8], *rt = a[9], *f = a[10],
         *slope = a[11], *bend = a[12], *ft = a[13], *pull = a[14], *pullt = a[15], *fo = a[16], *fot = a[17];
  for (int64_t i = start; i < end; ++i) {
    const int64_t from = P.first[i];
    const int m = (int)(P.first[i + 1] - from);
    const Dual X = x.get(3 * i), Y = x.get(3 * i + 1), Z = x.get(3 * i + 2), me = u.get(i);
    for (int e = 0; e < m; ++e) {
      const int64_t site = P.index[from + e];
      const bool image = site >= P.atoms;
      const int64_t j = image ? P.owner[site - P.atoms] : site;
      Dual d[3] = {X - x.get(3 * j), Y - x.get(3 * j + 1), Z - x.get(3 * j + 2)};
      if (image) {
        const int32_t* n = P.shift + 3 * (site - P.atoms);
        for (int b = 0; b < 3; ++b) d[b] -= Dual(n[0]) * cell.h[0][b] + Dual(n[1]) * cell.h[1][b] + Dual(n[2]) * cell.h[2][b];
      }
      dx[e] = d[0].v; dy[e] = d[1].v; dz[e] = d[2].v;
      tx[e] = d[0].d; ty[e] = d[1].d; tz[e] = d[2].d;
      const Dual other = u.get(j);
      q[e] = other.v;
      qt[e] = other.d;
    }
#pragma omp simd
    for (int e = 0; e < m; ++e) {
      r2[e] = dx[e] * dx[e] + dy[e] * dy[e] + dz[e] * dz[e];
      rt[e] = 2 * (dx[e] * tx[e] + dy[e] * ty[e] + dz[e] * tz[e]);
    }
    row(S, m, r2, f, slope, bend);
    double p = 0, pt = 0;
#pragma omp simd reduction(+ : p, pt)
    for (int e = 0; e < m; ++e) {
      ft[e] = slope[e] * rt[e];
      p += q[e] * f[e];
      pt += q[e] * ft[e] + qt[e] * f[e];
      fo[e] = me.v * f[e];
      fot[e] = me.v * ft[e] + me.d * f[e];
      const double qq = 4 * me.v * q[e], qqt = 4 * (me.v * qt[e] + me.d * q[e]);
      pull[e] = qq * slope[e];
      pullt[e] = qq * bend[e] * rt[e] + qqt * slope[e];
    }
    phi.add(i, Dual(p, pt));
    Dual sum[3] = {Dual(0.0), Dual(0.0), Dual(0.0)};
    for (int e = 0; e < m; ++e) {
      const int64_t site = P.index[from + e];
      const bool image = site >= P.atoms;
      const int64_t j = image ? P.owner[site - P.atoms] : site;
      phi.add(j, Dual(fo[e], fot[e]));
      if (!slopes) continue;
      const Dual strength(pull[e], pullt[e]), g[3] = {strength * Dual(dx[e], tx[e]), strength * Dual(dy[e], ty[e]), strength * Dual(dz[e], tz[e])};
      for (int c = 0; c < 3; ++c) {
        sum[c] += g[c];
        gx.add(3 * j + c, -g[c]);
        if (image)
          for (int k = 0; k < 3; ++k) gh.add(9 * structure + 3 * k + c, Dual(-P.shift[3 * (site - P.atoms) + k]) * g[c]);
      }
    }
    if (slopes)
      for (int c = 0; c < 3; ++c) gx.add(3 * i + c, sum[c]);
  }
}

// ---- particle mesh ----------------------------------------------------------------------------------------------------------------

// Values M[0..P-1] and slopes D of the cardinal B-spline at the P mesh points around u, the last of which is floor(u) = u - w.
template <class T, int P> inline void spline(const T& w, T* M, T* D) {
  T m[P];
  m[0] = T(1.0) - w;
  m[1] = w;
  for (int k = 3; k < P; ++k) {
    const T part(1.0 / (k - 1));
    m[k - 1] = part * w * m[k - 2];
    for (int j = 1; j < k - 1; ++j) m[k - 1 - j] = part * ((w + T(j)) * m[k - 2 - j] + (T(k - j) - w) * m[k - 1 - j]);
    m[0] = part * (T(1.0) - w) * m[0];
  }
  D[0] = -m[0];
  for (int j = 1; j < P - 1; ++j) D[j] = m[j - 1] - m[j];
  D[P - 1] = m[P - 2];
  const T part(1.0 / (P - 1));
  M[P - 1] = part * w * m[P - 2];
  for (int j = 1; j < P - 1; ++j) M[P - 1 - j] = part * ((w + T(j)) * m[P - 2 - j] + (T(P - j) - w) * m[P - 1 - j]);
  M[0] = part * (T(1.0) - w) * m[0];
}

template <class T, int P> struct Place {  // where an atom stands on the mesh
  T M[3][P], D[3][P];
  int64_t at[3][P];
  bool contiguous;
  Place(const T* s, const int64_t* size) {
    for (int c = 0; c < 3; ++c) {
      const double cell = std::floor(value(s[c]));
      T u = (s[c] - T(cell)) * T((double)size[c]);
      const double whole = std::floor(value(u));
      spline<T, P>(u - T(whole), M[c], D[c]);
      for (int j = 0; j < P; ++j) {
        int64_t k = ((int64_t)whole - P + 1 + j) % size[c];
        at[c][j] = k < 0 ? k + size[c] : k;
      }
    }
    contiguous = at[2][P - 1] - at[2][0] == P - 1;
  }
};

// Atoms of a structure by blocks of mesh planes, of which those two apart share no point: blocks of one parity are spread side by side.
struct Blocks {
  std::vector<int64_t> first, atoms;  // [count + 1], [n]
  template <class T> Blocks(int64_t n, const Cell<T>& cell, const Array<T>& x, int64_t planes, int order) {
    const int64_t count = n < LARGE ? 1 : std::max<int64_t>(planes / (2 * order) * 2, 1);
    std::vector<int64_t> place(n, 0);
    first.assign(count + 1, 0);
    for (int64_t a = 0; a < n; ++a) {
      if (count > 1) {
        T s[3];
        cell.fractional(x, a, s);
        const double along = (value(s[0]) - std::floor(value(s[0]))) * (double)planes;
        place[a] = std::min((int64_t)along, planes - 1) * count / planes;
      }
      ++first[place[a] + 1];
    }
    for (int64_t b = 0; b < count; ++b) first[b + 1] += first[b];
    atoms.resize(n);
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t a = 0; a < n; ++a) atoms[next[place[a]]++] = a;
  }
  int64_t count() const { return (int64_t)first.size() - 1; }
};

template <class T, int P> void spread_atom(int64_t a, const Cell<T>& cell, const Array<T>& x, const Array<T>& u, const int64_t* size, const Array<T>& mesh) {
  T s[3];
  cell.fractional(x, a, s);
  const Place<T, P> place(s, size);
  const T q = u.get(a);
  for (int i = 0; i < P; ++i)
    for (int j = 0; j < P; ++j) {
      const T w = q * place.M[0][i] * place.M[1][j];
      const int64_t line = (place.at[0][i] * size[1] + place.at[1][j]) * size[2];
      if (place.contiguous) {
        const int64_t from = line + place.at[2][0];
        for (int k = 0; k < P; ++k) mesh.add(from + k, w * place.M[2][k]);
      } else {
        for (int k = 0; k < P; ++k) mesh.add(line + place.at[2][k], w * place.M[2][k]);
      }
    }
}

template <class T, int P>
void spread(int64_t n, const Cell<T>& cell, const Array<T>& x, const Array<T>& u, const int64_t* size, const Array<T>& mesh, int64_t threads) {
  const Blocks blocks(n, cell, x, size[0], P);
  for (int64_t parity = 0; parity < std::min<int64_t>(blocks.count(), 2); ++parity) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && blocks.count() > 1)
    for (int64_t b = parity; b < blocks.count(); b += 2)
      for (int64_t a = blocks.first[b]; a < blocks.first[b + 1]; ++a) spread_atom<T, P>(blocks.atoms[a], cell, x, u, size, mesh);
  }
}

template <class T, int P> struct Gathered {  // the potential at an atom and its slopes by mesh coordinates
  T v, g[3];
  Gathered(const Place<T, P>& place, const int64_t* size, const Array<T>& mesh) : v(0.0), g{T(0.0), T(0.0), T(0.0)} {
    for (int i = 0; i < P; ++i)
      for (int j = 0; j < P; ++j) {
        const int64_t line = (place.at[0][i] * size[1] + place.at[1][j]) * size[2];
        T here(0.0), along(0.0);
        if (place.contiguous) {
          const int64_t from = line + place.at[2][0];
          for (int k = 0; k < P; ++k) {
            const T m = mesh.get(from + k);
            here += m * place.M[2][k];
            along += m * place.D[2][k];
          }
        } else {
          for (int k = 0; k < P; ++k) {
            const T m = mesh.get(line + place.at[2][k]);
            here += m * place.M[2][k];
            along += m * place.D[2][k];
          }
        }
        const T w = place.M[0][i] * place.M[1][j];
        v += w * here;
        g[0] += place.D[0][i] * place.M[1][j] * here;
        g[1] += place.M[0][i] * place.D[1][j] * here;
        g[2] += w * along;
      }
  }
};

template <class T, int P>
void gather(int64_t n, const Cell<T>& cell, const Array<T>& x, const Array<T>& u, const int64_t* size, const Array<T>& mesh, const Array<T>& phi,
            const Array<T>& gx, const Array<T>& gh, T (*Y)[3], bool slopes, double constant, double own, int64_t threads) {
  T total(0.0);
  for (int64_t a = 0; a < n; ++a) total += u.get(a);
  const T level = T(constant) * total / cell.volume;
  for (int a = 0; a < 3; ++a) Y[a][a] -= level * total;
  const int64_t count = pieces(n);
  std::vector<T> parts(9 * count, T(0.0));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
  for (int64_t piece = 0; piece < count; ++piece) {
    T G[3][3];
    zero(G);
    for (int64_t a = n * piece / count; a < n * (piece + 1) / count; ++a) {
      T s[3], g[3], out[3];
      cell.fractional(x, a, s);
      const Gathered<T, P> found(Place<T, P>(s, size), size, mesh);
      phi.set(a, found.v + level - T(own) * u.get(a));
      if (!slopes) continue;
      for (int c = 0; c < 3; ++c) g[c] = T(2.0 * (double)size[c]) * u.get(a) * found.g[c];
      cell.push(s, g, out, G);
      for (int c = 0; c < 3; ++c) gx.set(3 * a + c, out[c]);
    }
    for (int i = 0; i < 9; ++i) parts[9 * piece + i] = G[i / 3][i % 3];
  }
  if (!slopes) return;
  T G[3][3];
  zero(G);
  for (int64_t i = 0; i < 9 * count; ++i) G[i % 9 / 3][i % 3] += parts[i];
  cell.strain(Y, G);
  for (int i = 0; i < 9; ++i) gh.set(i, G[i / 3][i % 3]);
}

// Square of sinc(pi m/n)^P for every m of an axis: the transform of the spline, a function of whole numbers only.
std::vector<double> window(int64_t n, int64_t count, int order) {
  std::vector<double> w(count);
  for (int64_t i = 0; i < count; ++i) {
    const double m = (double)(2 * i <= n ? i : n - i), t = PI * m / (double)n;
    w[i] = m == 0 ? 1.0 : std::pow(std::sin(t) / t, 2 * order);
  }
  return w;
}

inline double norm2(double re, double im) { return re * re + im * im; }

// The spectrum [n0, n1, n2/2 + 1, re/im] times the influence function, in place; Y gets the slope of u A u by strain.
void influence(const Split& S, int order, const Cell<double>& cell, const int64_t* size, const Array<double>& mesh, double (*Y)[3], bool slopes, int64_t threads) {
  const int64_t half = size[2] / 2 + 1;
  const std::vector<double> u0 = window(size[0], size[0], order), u1 = window(size[1], size[1], order), u2 = window(size[2], half, order);
  std::vector<double> sums(7 * size[0], 0.0);  // of each plane: energy, xx, xy, xz, yy, yz, zz
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < size[0]; ++i) {
    std::vector<double> f(half + BLOCK), g(half + BLOCK), square(half + BLOCK);
    for (int64_t j = 0; j < size[1]; ++j) {
      double* line = mesh.v + 2 * (i * size[1] + j) * half;
      const bool edge = 2 * i == size[0] || 2 * j == size[1];
      const double m0 = (double)(2 * i <= size[0] ? i : i - size[0]), m1 = (double)(2 * j <= size[1] ? j : j - size[1]);
      double base[3], step[3];
      for (int a = 0; a < 3; ++a) {
        base[a] = 2 * PI * (m0 * cell.inverse[a][0] + m1 * cell.inverse[a][1]);
        step[a] = 2 * PI * cell.inverse[a][2];
      }
      const double outer = 1 / (cell.volume * u0[i] * u1[j]);
      int64_t last = edge ? 0 : (size[2] % 2 ? half : half - 1);
      const int64_t begin = i || j ? 0 : 1;
#pragma omp simd
      for (int64_t k = 0; k < half; ++k) {
        const double x = base[0] + k * step[0], y = base[1] + k * step[1], z = base[2] + k * step[2];
        square[k] = x * x + y * y + z * z;
      }
      if (S.near) {
        while (last > begin && square[last - 1] >= S.band * S.band) --last;  // beyond the band there is nothing
        polynomials<false>(S.far, S.terms, S.band * S.band, last, square.data(), f.data(), g.data(), nullptr);
#pragma omp simd
        for (int64_t k = begin; k < last; ++k) {
          const double inside = square[k] < S.band * S.band ? 1.0 : 0.0;
          g[k] = 2 * (1 / square[k] - g[k] / f[k]);
          f[k] *= inside * 4 * PI / square[k] * outer / u2[k];
        }
      } else if (S.p == 1) {
        const double w = S.sigma * S.sigma / 2;
#pragma omp simd
        for (int64_t k = begin; k < last; ++k) {
          f[k] = 4 * PI * std::exp(-w * square[k]) / square[k] * outer / u2[k];
          g[k] = 2 * (w + 1 / square[k]);
        }
      } else {
        for (int64_t k = begin; k < last; ++k) {
          double v[3];
          spectrum(S, square[k], v);
          f[k] = v[0] * outer / u2[k];
          g[k] = v[0] != 0 ? -2 * v[1] / v[0] : 0.0;
        }
      }
      for (int64_t k = 0; k < begin && k < half; ++k) line[0] = line[1] = 0;
      for (int64_t k = std::max(begin, last); k < half; ++k) line[2 * k] = line[2 * k + 1] = 0;
      if (slopes) {
        double e = 0, xx = 0, xy = 0, xz = 0, yy = 0, yz = 0, zz = 0;
#pragma omp simd reduction(+ : e, xx, xy, xz, yy, yz, zz)
        for (int64_t k = begin; k < last; ++k) {
          const double x = base[0] + k * step[0], y = base[1] + k * step[1], z = base[2] + k * step[2];
          const double part = (k ? 2 : 1) * f[k] * norm2(line[2 * k], line[2 * k + 1]), t = part * g[k];
          e += part;
          xx += t * x * x;
          xy += t * x * y;
          xz += t * x * z;
          yy += t * y * y;
          yz += t * y * z;
          zz += t * z * z;
        }
        const double line_sums[7] = {e, xx, xy, xz, yy, yz, zz};
        for (int c = 0; c < 7; ++c) sums[7 * i + c] += line_sums[c];
      }
      for (int64_t k = begin; k < last; ++k) {
        line[2 * k] *= f[k];
        line[2 * k + 1] *= f[k];
      }
    }
  }
  double all[7] = {0, 0, 0, 0, 0, 0, 0};
  for (int64_t i = 0; i < 7 * size[0]; ++i) all[i % 7] += sums[i];
  const double Yd[3][3] = {{all[1] - all[0], all[2], all[3]}, {all[2], all[4] - all[0], all[5]}, {all[3], all[5], all[6] - all[0]}};
  for (int c = 0; c < 9; ++c) Y[c / 3][c % 3] = Yd[c / 3][c % 3];
}

void influence(const Split& S, int order, const Cell<Dual>& cell, const int64_t* size, const Array<Dual>& mesh, Dual (*Y)[3], bool slopes, int64_t) {
  const int64_t half = size[2] / 2 + 1;
  const std::vector<double> u0 = window(size[0], size[0], order), u1 = window(size[1], size[1], order), u2 = window(size[2], half, order);
  zero(Y);
  Dual energy(0.0);
  for (int64_t i = 0; i < size[0]; ++i)
    for (int64_t j = 0; j < size[1]; ++j)
      for (int64_t k = 0; k < half; ++k) {
        const int64_t at = 2 * ((i * size[1] + j) * half + k);
        if (2 * i == size[0] || 2 * j == size[1] || 2 * k == size[2] || !(i || j || k)) {
          mesh.set(at, Dual(0.0));
          mesh.set(at + 1, Dual(0.0));
          continue;
        }
        const Dual m0((double)(2 * i <= size[0] ? i : i - size[0])), m1((double)(2 * j <= size[1] ? j : j - size[1])), m2((double)k);
        Dual kv[3], k2(0.0), f, slope;
        for (int a = 0; a < 3; ++a) {
          kv[a] = Dual(2 * PI) * (m0 * cell.inverse[a][0] + m1 * cell.inverse[a][1] + m2 * cell.inverse[a][2]);
          k2 += kv[a] * kv[a];
        }
        double v[3];
        spectrum(S, k2.v, v);
        lift(k2, v[0], v[1], v[2], f, slope);
        const Dual outer = Dual(1.0) / (cell.volume * Dual(u0[i] * u1[j] * u2[k]));
        f = f * outer;
        const Dual re = mesh.get(at), im = mesh.get(at + 1);
        if (slopes) {
          const Dual square = Dual(k ? 2.0 : 1.0) * (re * re + im * im), t = Dual(-2.0) * slope * outer * square;
          energy += f * square;
          for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b) Y[a][b] += t * kv[a] * kv[b];
        }
        mesh.set(at, re * f);
        mesh.set(at + 1, im * f);
      }
  for (int a = 0; a < 3; ++a) Y[a][a] -= energy;
}

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
