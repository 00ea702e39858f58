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
