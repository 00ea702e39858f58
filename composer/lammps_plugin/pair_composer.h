// SPDX-License-Identifier: GPL-2.0-or-later   (includes LAMMPS headers)
#pragma once
#include "potential_file.h"
#include "pair.h"
#include <memory>

namespace LAMMPS_NS {

class PairComposer : public Pair {
 public:
  PairComposer(class LAMMPS *);
  ~PairComposer() override;
  void compute(int, int) override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void *extract(const char *, int &) override;
  void write_restart(FILE *) override;
  void read_restart(FILE *) override;
  void write_restart_settings(FILE *) override;
  void read_restart_settings(FILE *) override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

 private:
  std::unique_ptr<composer::Potential> potential;
  bool mapped = false;                 // whether pair_coeff was read
  std::vector<int> species_of_type;    // [types + 1], -1 where the style does not act
  std::vector<int> species;            // [sites]
  std::vector<double> fields;          // [arrays][sites]
  std::vector<double *> field;         // [arrays]
  std::vector<double> own_forces;      // [sites][3], where they cannot be added to those of LAMMPS at once
  std::vector<double> own_virials;     // [sites][6]
  std::vector<double> scratch;

  // what travels now: the arrays and the numbers of each site in them
  std::vector<std::pair<double *, int>> cargo;

  void open(const std::string &);
  void check_charges() const;
  void allocate();
  void act_on_types();
  void prepare(int);
  int longest_row() const;
  void run_stages(potential_system &);
  void exchange(int);
  void finish(int);
  void add_virial(const double *, int);
  std::string read_text(FILE *);
};

}    // namespace LAMMPS_NS
