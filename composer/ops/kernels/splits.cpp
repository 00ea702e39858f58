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
