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
