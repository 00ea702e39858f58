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
