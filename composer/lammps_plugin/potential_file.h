// SPDX-License-Identifier: GPL-2.0-or-later
// potential.txt: what an export says about its library, checked before the library is loaded.
#pragma once
#include "potential.h"
#include "sha256.h"
#include <dlfcn.h>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace composer {

inline std::string contents(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("the file " + path + " cannot be read; give the potential.txt of an export, with its library beside it");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::vector<std::string> words(const std::string &line) {
  std::istringstream stream(line);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

// The instruction sets of this processor, by the names that the system uses.
inline std::set<std::string> processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
      const auto found = words(line.substr(line.find(':') + 1));
      return {found.begin(), found.end()};
    }
  return {};
}

struct Potential {
  std::string path;
  std::vector<std::string> species;
  std::vector<double> charges;    // of the species, e; what they do far away is left to kspace_style
  double cutoff = 0, gewald = 0;
  void *handle = nullptr;
  int (*stages)() = nullptr, (*arrays)() = nullptr, (*energy_array)() = nullptr;
  int (*forward)(int, const int **) = nullptr, (*backward)(int, const int **) = nullptr;
  int64_t (*row)(int64_t) = nullptr, (*scratch)(int64_t) = nullptr;
  void (*stage)(int, const potential_system *) = nullptr;

  explicit Potential(const std::string &file) : path(file) {
    const std::string text = contents(file);
    const size_t tail = text.rfind("end ");
    if (text.rfind("composer potential ", 0) != 0) throw std::runtime_error(file + " is no potential.txt of composer; export the model again");
    if (words(text.substr(19, 8)).at(0) != std::to_string(POTENTIAL_SCHEMA))
      throw std::runtime_error(file + " has schema " + words(text.substr(19, 8)).at(0) + ", this plugin reads " + std::to_string(POTENTIAL_SCHEMA) +
                               "; build the plugin again with composer lammps-plugin");
    if (tail == std::string::npos || words(text.substr(tail + 4)).empty() || sha256(text.substr(0, tail)) != words(text.substr(tail + 4))[0])
      throw std::runtime_error(file + " was changed or cut after it was written; export the model again");
    std::string library, hash;
    std::vector<std::string> cpu;
    std::istringstream lines(text.substr(0, tail));
    for (std::string line; std::getline(lines, line);) {
      const auto w = words(line);
      if (w.size() < 2) continue;
      if (w[0] == "library") library = w[1];
      if (w[0] == "sha256") hash = w[1];
      if (w[0] == "cutoff") cutoff = std::stod(w[1]);
      if (w[0] == "species") species.assign(w.begin() + 1, w.end());
      if (w[0] == "gewald") gewald = std::stod(w[1]);
      if (w[0] == "charges")
        for (size_t n = 1; n < w.size(); n++) charges.push_back(std::stod(w[n]));
      if (w[0] == "cpu") cpu.assign(w.begin() + 1, w.end());
    }
    const auto here = processor();
    for (const auto &feature : cpu)
      if (!here.count(feature))
        throw std::runtime_error(file + " was built for a processor with " + feature + ", which this one lacks; export the model again on this machine");
    load(file.substr(0, file.find_last_of('/') + 1) + library, hash);
  }

  Potential(const Potential &) = delete;
  Potential &operator=(const Potential &) = delete;
  ~Potential() { if (handle) dlclose(handle); }

 private:
  void load(const std::string &name, const std::string &hash) {
    if (sha256(contents(name)) != hash) throw std::runtime_error("the library " + name + " is not the one that was checked when the model was exported (its sha256 differs); export the model again");
    handle = dlopen(name.find('/') == std::string::npos ? ("./" + name).c_str() : name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) throw std::runtime_error(std::string(dlerror()) + "; export the model again on this machine");
    take(stages, "potential_stages"), take(arrays, "potential_arrays"), take(energy_array, "potential_energy_array");
    take(forward, "potential_forward"), take(backward, "potential_backward");
    take(row, "potential_row"), take(scratch, "potential_scratch"), take(stage, "potential_stage");
  }

  template <class F> void take(F &function, const char *name) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    if (!function) throw std::runtime_error(std::string("the library lacks ") + name + "; export the model again");
  }
};

}    // namespace composer
