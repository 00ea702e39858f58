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
