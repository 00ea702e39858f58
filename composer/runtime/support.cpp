// Neighbour rows, ghost atoms, sums over ghosts. Built without -ffast-math: the rebuild test must see NaN.
// Indices: i, j atoms of one structure; g ghosts; s structures; e entries of the list. Shifts S count cells: x_j + S.cell.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using Shift = std::array<int32_t, 3>;

static bool is_zero(const Shift &s) { return !(s[0] | s[1] | s[2]); }
static Shift reversed(const Shift &s) { return {-s[0], -s[1], -s[2]}; }

// One structure between its two passes: the pairs as they were found (each once) and the ghosts made from them.
struct Packing {
    int64_t atoms, pairs;
    const uint64_t *pair;   // [pairs, 2]
    const int32_t *shift;   // [pairs, 3]
    bool half;
    std::vector<int64_t> first, ghost_first;  // [atoms + 1]
    std::vector<Shift> ghosts;                // by owner, then by shift

    // visit(i, j, S): atom i has neighbour j in cell S
    template <class Visit> void each(Visit visit) const {
        for (int64_t e = 0; e < pairs; ++e) {
            int64_t i = pair[2 * e], j = pair[2 * e + 1];
            Shift s{shift[3 * e], shift[3 * e + 1], shift[3 * e + 2]};
            if (!half) {
                visit(i, j, s);
                visit(j, i, reversed(s));
                continue;
            }
            // a fair coin that does not depend on the direction of the pair spreads the pairs evenly over the rows
            const bool to_larger = (i + j + s[0] + s[1] + s[2]) & 1;
            const bool turn = i == j ? s < Shift{0, 0, 0} : (i > j) != to_larger;
            if (turn) visit(j, i, reversed(s));
            else visit(i, j, s);
        }
    }

    void count() {
        first.assign(atoms + 1, 0);
        std::vector<int64_t> end(atoms + 1, 0);
        each([&](int64_t i, int64_t j, const Shift &s) { ++first[i + 1]; if (!is_zero(s)) ++end[j + 1]; });
        for (int64_t i = 0; i < atoms; ++i) { first[i + 1] += first[i]; end[i + 1] += end[i]; }
        ghost_first = end;
        ghosts.resize(end[atoms]);
        each([&](int64_t, int64_t j, const Shift &s) { if (!is_zero(s)) ghosts[end[j]++] = s; });
        unite();
    }

    // keep each (owner, shift) once
    void unite() {
        int64_t kept = 0;
        for (int64_t j = 0; j < atoms; ++j) {
            auto begin = ghosts.begin() + ghost_first[j], end = ghosts.begin() + ghost_first[j + 1];
            std::sort(begin, end);
            end = std::unique(begin, end);
            ghost_first[j] = kept;
            kept = std::move(begin, end, ghosts.begin() + kept) - ghosts.begin();
        }
        ghost_first[atoms] = kept;
        ghosts.resize(kept);
        ghosts.shrink_to_fit();
    }

    int64_t ghost_of(int64_t j, const Shift &s) const {
        const auto begin = ghosts.begin() + ghost_first[j], end = ghosts.begin() + ghost_first[j + 1];
        return std::lower_bound(begin, end, s) - ghosts.begin();
    }

    // atom: number of the first atom of the structure; ghost: site number of its first ghost
    void fill(int64_t threads, int64_t atom, int64_t ghost, int32_t *index) const {
        std::vector<int64_t> end(first.begin(), first.end() - 1);
        each([&](int64_t i, int64_t j, const Shift &s) { index[end[i]++] = is_zero(s) ? atom + j : ghost + ghost_of(j, s); });
        #pragma omp parallel for schedule(static) num_threads(threads) if (atoms > 4096)
        for (int64_t i = 0; i < atoms; ++i) std::sort(index + first[i], index + first[i + 1]);
    }
};

// A run of sites of one structure; the cut depends on the batch alone, so sums do not depend on the number of threads.
struct Block { int64_t structure, begin, end; };

static void cut(std::vector<Block> &blocks, int64_t structure, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b += 4096) blocks.push_back({structure, b, std::min(b + 4096, end)});
}

extern "C" {

void *packing_open(int64_t atoms, int64_t pairs, const uint64_t *pair, const int32_t *shift, int32_t half, int64_t *sizes) {
    auto *packing = new Packing{atoms, pairs, pair, shift, half != 0, {}, {}, {}};
    packing->count();
    sizes[0] = packing->first[atoms];
    sizes[1] = packing->ghosts.size();
    return packing;
}

void packing_close(int64_t threads, void *handle, int64_t atom, int64_t ghost, int64_t entry, int64_t *first, int32_t *index, int32_t *owner, int32_t *shift) {
    const auto *packing = static_cast<Packing *>(handle);
    if (index) {
        packing->fill(threads, atom, ghost, index);
        for (int64_t i = 0; i < packing->atoms; ++i) {
            first[i] = entry + packing->first[i + 1];
            for (int64_t g = packing->ghost_first[i]; g < packing->ghost_first[i + 1]; ++g) owner[g] = atom + i;
        }
        if (!packing->ghosts.empty()) std::memcpy(shift, packing->ghosts.data(), packing->ghosts.size() * sizeof(Shift));
    }
    delete packing;
}

// sites [atoms + ghosts, 3] = positions, then positions of owners + shift . cell
void all_positions(int64_t threads, int64_t structures, int64_t atoms, const int64_t *ghost_first, const int32_t *owner, const int32_t *shift,
                   const double *positions, const double *cells, double *sites) {
    std::memcpy(sites, positions, 3 * atoms * sizeof(double));
    #pragma omp parallel for schedule(static) num_threads(threads) if (structures > 1)
    for (int64_t s = 0; s < structures; ++s) {
        const double *c = cells + 9 * s;
        for (int64_t g = ghost_first[s]; g < ghost_first[s + 1]; ++g) {
            const double *x = positions + 3 * int64_t(owner[g]);
            const double a = shift[3 * g], b = shift[3 * g + 1], d = shift[3 * g + 2];
            double *out = sites + 3 * (atoms + g);
            for (int k = 0; k < 3; ++k) out[k] = x[k] + a * c[k] + b * c[3 + k] + d * c[6 + k];
        }
    }
}

// folded [atoms, width] = own values plus those of the ghosts, which stand sorted by owner
void fold(int64_t threads, int64_t structures, int64_t atoms, int64_t width, const int64_t *ghost_first, const int32_t *owner, const double *sites, double *folded) {
    std::memcpy(folded, sites, width * atoms * sizeof(double));
    #pragma omp parallel for schedule(static) num_threads(threads) if (structures > 1)
    for (int64_t s = 0; s < structures; ++s)
        for (int64_t g = ghost_first[s]; g < ghost_first[s + 1]; ++g) {
            double *out = folded + width * int64_t(owner[g]);
            const double *in = sites + width * (atoms + g);
            for (int64_t k = 0; k < width; ++k) out[k] += in[k];
        }
}

// virial [structures, 3, 3] = sum over sites of x (outer) f
void virial(int64_t threads, int64_t structures, int64_t atoms, const int64_t *atom_first, const int64_t *ghost_first, const double *x, const double *f, double *w) {
    std::vector<Block> blocks;
    for (int64_t s = 0; s < structures; ++s) {
        cut(blocks, s, atom_first[s], atom_first[s + 1]);
        cut(blocks, s, atoms + ghost_first[s], atoms + ghost_first[s + 1]);
    }
    std::vector<std::array<double, 9>> part(blocks.size());
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < int64_t(blocks.size()); ++b) {
        std::array<double, 9> sum{};
        for (int64_t i = blocks[b].begin; i < blocks[b].end; ++i)
            for (int k = 0; k < 9; ++k) sum[k] += x[3 * i + k / 3] * f[3 * i + k % 3];
        part[b] = sum;
    }
    std::fill(w, w + 9 * structures, 0.0);
    for (size_t b = 0; b < blocks.size(); ++b)
        for (int k = 0; k < 9; ++k) w[9 * blocks[b].structure + k] += part[b][k];
}

// the first entry of the list whose two sites stand closer than `least`, or the number of entries
int64_t overlap(int64_t threads, int64_t atoms, const int64_t *first, const int32_t *index, const double *sites, double least) {
    int64_t found = first[atoms];
    #pragma omp parallel for schedule(static) num_threads(threads) reduction(min : found)
    for (int64_t i = 0; i < atoms; ++i)
        for (int64_t e = first[i]; e < first[i + 1]; ++e) {
            double square = 0;
            for (int k = 0; k < 3; ++k) square += std::pow(sites[3 * int64_t(index[e]) + k] - sites[3 * i + k], 2);
            if (square < least * least) found = std::min(found, e);
        }
    return found;
}

// whether an atom of any structure has left its old place, carried along with the cell by `deformation` and with the drift of the
// whole structure taken off, by more than the margin of the structure (or is not a number)
int32_t moved(int64_t threads, int64_t structures, const int64_t *atom_first, const double *now, const double *old, const double *deformation,
              const double *margin) {
    int32_t any = 0;
    #pragma omp parallel for schedule(static) num_threads(threads) reduction(| : any) if (structures > 1)
    for (int64_t s = 0; s < structures; ++s) {
        const double *f = deformation + 9 * s;
        const int64_t begin = atom_first[s], end = atom_first[s + 1];
        const auto step = [&](int64_t i, int k) {
            const double *x = old + 3 * i;
            return now[3 * i + k] - (x[0] * f[k] + x[1] * f[3 + k] + x[2] * f[6 + k]);
        };
        double drift[3] = {0, 0, 0};
        for (int64_t i = begin; i < end; ++i)
            for (int k = 0; k < 3; ++k) drift[k] += step(i, k) / double(end - begin);
        for (int64_t i = begin; i < end; ++i) {
            double square = 0;
            for (int k = 0; k < 3; ++k) square += std::pow(step(i, k) - drift[k], 2);
            if (!(std::sqrt(square) <= margin[s])) { any = 1; break; }
        }
    }
    return any;
}
}
