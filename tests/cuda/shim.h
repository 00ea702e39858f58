// CUDA's words for an ordinary C++ compiler: threads run one after the other. Kernels that wait for each other are beyond it.
#include <math.h>
#include <stdint.h>
#include <string.h>
#define __global__ static
#define __device__
#define __constant__ static const
#define __grid_constant__
#define __launch_bounds__(n)
#define __align__(n) alignas(n)
#define __restrict__ __restrict
struct alignas(16) double2 { double x, y; };
template <class T> static inline T __ldg(const T* place) { return *place; }
static inline int64_t __double_as_longlong(double x) { int64_t n; memcpy(&n, &x, sizeof n); return n; }
struct Place3 { int x, y, z; };
static thread_local Place3 blockIdx, threadIdx, blockDim, gridDim;
template <class T> static inline T atomicAdd(T* place, T value) { const T old = *place; *place += value; return old; }
