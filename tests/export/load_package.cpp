// Runs a .pt2 package as a C++ program would: raw arrays of numbers in, energy, forces and virial out.
#include <ATen/ops/empty.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

static at::Tensor array(const std::string &path, std::vector<int64_t> shape, at::ScalarType type) {
  at::Tensor found = at::empty(shape, type);
  std::ifstream(path, std::ios::binary).read(static_cast<char *>(found.data_ptr()), int64_t(found.nbytes()));
  return found;
}

int main(int, char **argv) {
  const std::string folder = argv[1];
  const int64_t n = std::stoll(argv[2]), m = std::stoll(argv[3]);
  std::vector<at::Tensor> inputs = {
      array(folder + "/0", {n, 3}, at::kDouble),    array(folder + "/1", {n}, at::kLong),       array(folder + "/2", {n, m}, at::kLong),
      array(folder + "/3", {n, m, 3}, at::kDouble), array(folder + "/4", {n, m}, at::kBool)};
  torch::inductor::AOTIModelPackageLoader package(folder + "/potential.pt2");
  for (const at::Tensor &found : package.run(inputs)) {
    const at::Tensor numbers = found.contiguous();
    for (int64_t k = 0; k < numbers.numel(); k++) std::printf("%.17g ", numbers.data_ptr<double>()[k]);
  }
}
