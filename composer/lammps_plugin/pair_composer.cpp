// SPDX-License-Identifier: GPL-2.0-or-later   (includes LAMMPS headers)
// pair_style composer FILE: runs the library of an exported model. FILE is its potential.txt.
#include "pair_composer.h"
#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

PairComposer::PairComposer(LAMMPS *lmp) : Pair(lmp) {
  manybody_flag = 1;
  one_coeff = 1;
  single_enable = 0;
  comm_forward = 1;
  comm_reverse = comm_reverse_off = 9;    // forces and virials of images, when newton is off
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairComposer::~PairComposer() {
  if (!allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

// ---- input ----

void PairComposer::settings(int narg, char **arg) {
  if (narg != 1) error->all(FLERR, "pair_style composer takes one file. Write pair_style composer FOLDER/potential.txt");
  if (strcmp(update->unit_style, "metal") != 0) error->all(FLERR, "pair_style composer was asked for with units {}. It needs eV and Angstrom. Write units metal", update->unit_style);
  open(arg[0]);
}

void PairComposer::open(const std::string &file) {
  try {
    potential = std::make_unique<composer::Potential>(file);
  } catch (const std::exception &problem) {
    error->all(FLERR, "pair_style composer: {}", problem.what());
  }
  int most = 1;
  for (int n = 0; n < potential->stages(); n++) {
    const int *arrays;
    most = std::max({most, potential->forward(n, &arrays), potential->backward(n, &arrays)});
  }
  ewaldflag = pppmflag = potential->charges.empty() ? 0 : 1;
  comm_forward = most;
  comm_reverse = comm_reverse_off = std::max(most, 9);
}

void PairComposer::allocate() {
  if (allocated) return;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) setflag[i][j] = 0;
  allocated = 1;
}

void PairComposer::coeff(int narg, char **arg) {
  if (!potential) error->all(FLERR, "pair_coeff came before the file of the potential was given. Write pair_style composer FOLDER/potential.txt first");
  if (mapped) error->all(FLERR, "pair_coeff of pair_style composer was given twice, so atom types would be mapped twice. Give one line: pair_coeff * * and a species for each type");
  if (narg < 2 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0) error->all(FLERR, "pair_coeff of pair_style composer must start with * *. Write pair_coeff * * and a species for each atom type");
  if (narg != 2 + atom->ntypes)
    error->all(FLERR, "pair_coeff names {} species, the box has {} atom types. Write one species for each type, NULL for types of other styles", narg - 2, atom->ntypes);
  std::vector<int> chosen(atom->ntypes + 1, -1);
  for (int type = 1; type <= atom->ntypes; type++) {
    const std::string name = arg[1 + type];
    if (name == "NULL") continue;
    const auto &known = potential->species;
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) {
      std::string list;
      for (const auto &symbol : known) list += " " + symbol;
      error->all(FLERR, "pair_coeff names the species {} for atom type {}. The model knows{}. Use one of these", name, type, list);
    }
    chosen[type] = int(found - known.begin());
  }
  species_of_type = chosen;
  mapped = true;
  act_on_types();
}

void PairComposer::act_on_types() {
  allocate();
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = 1; j <= atom->ntypes; j++) setflag[i][j] = species_of_type[i] >= 0 && species_of_type[j] >= 0;
}

void PairComposer::init_style() {
  neighbor->add_request(this, NeighConst::REQ_FULL);
  if (!potential->charges.empty()) check_charges();
}

// Charges do their near part here and the rest in kspace_style: both must mean the same.
void PairComposer::check_charges() const {
  const double gewald = potential->gewald;
  if (!force->kspace || fabs(force->kspace->g_ewald - gewald) > 1e-9 * gewald || force->dielectric != 1.0)
    error->all(FLERR, "pair_style composer leaves the far part of its charges to kspace_style, with its own g_ewald and dielectric 1. Write kspace_style pppm 1e-6 and kspace_modify gewald {:.17g}, as in potential.lmp", gewald);
  for (int i = 0; i < atom->nlocal; i++) {
    const int type = atom->type[i];
    if (species_of_type[type] < 0) continue;
    const double charge = potential->charges[species_of_type[type]];
    if (fabs(atom->q[i] - charge) > 1e-6)
      error->one(FLERR, "An atom of type {} has the charge {:.8g}, and the model was made for {:.8g}. Write set type {} charge {:.17g}", type, atom->q[i], charge, type, charge);
  }
}

// What kspace_style asks for: where the near part of charges ends.
void *PairComposer::extract(const char *name, int &dimension) {
  dimension = 0;
  return strcmp(name, "cut_coul") == 0 && !potential->charges.empty() ? &potential->cutoff : nullptr;
}

double PairComposer::init_one(int, int) { return potential->cutoff; }

// ---- forces ----

void PairComposer::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  const int sites = atom->nlocal + atom->nghost;
  prepare(sites);
  const bool apart = !force->newton_pair || (vflag_global && !vflag_fdotr);
  const bool apart_virials = vflag_atom && !force->newton_pair;
  if (apart) own_forces.assign(3 * size_t(sites), 0.0);
  if (apart_virials) own_virials.assign(6 * size_t(sites), 0.0);
  potential_system system{};
  system.atoms = list->inum;
  system.sites = sites;
  system.x = sites ? atom->x[0] : nullptr;
  system.species = species.data();
  system.rows = list->firstneigh;
  system.counts = list->numneigh;
  system.list = list->ilist;
  system.mask = NEIGHMASK;
  system.site = field.data();
  system.forces = apart ? own_forces.data() : sites ? atom->f[0] : nullptr;
  system.virials = !vflag_atom ? nullptr : apart_virials ? own_virials.data() : sites ? vatom[0] : nullptr;
  system.row = potential->row(longest_row());
  if (int64_t(scratch.size()) < potential->scratch(system.row)) scratch.resize(potential->scratch(system.row));
  system.scratch = scratch.data();
  run_stages(system);
  if (apart) finish(sites);
  const double *energy = field[potential->energy_array()];
  if (eflag_global)
    for (int n = 0; n < list->inum; n++) eng_vdwl += energy[list->ilist[n]];
  if (eflag_atom)
    for (int n = 0; n < list->inum; n++) eatom[list->ilist[n]] += energy[list->ilist[n]];
  if (vflag_fdotr) virial_fdotr_compute();
}

// Species of all sites, and fields that start at zero.
void PairComposer::prepare(int sites) {
  const size_t size = std::max(sites, 1);
  const int arrays = potential->arrays();
  species.resize(size);
  for (int i = 0; i < sites; i++) species[i] = std::max(species_of_type[atom->type[i]], 0);
  fields.assign(arrays * size, 0.0);
  field.resize(arrays);
  for (int n = 0; n < arrays; n++) field[n] = fields.data() + n * size;
}

int PairComposer::longest_row() const {
  int longest = 0;
  for (int n = 0; n < list->inum; n++) longest = std::max(longest, list->numneigh[list->ilist[n]]);
  return longest;
}

void PairComposer::run_stages(potential_system &system) {
  for (int n = 0; n < potential->stages(); n++) {
    potential->stage(n, &system);
    exchange(n);
  }
}

// Between stages: images take the fields of their owners, owners collect what was left on their images.
void PairComposer::exchange(int stage) {
  const int *arrays;
  cargo.clear();
  for (int n = potential->forward(stage, &arrays); n > 0; n--, arrays++) cargo.emplace_back(field[*arrays], 1);
  if (!cargo.empty()) comm->forward_comm(this, int(cargo.size()));
  cargo.clear();
  for (int n = potential->backward(stage, &arrays); n > 0; n--, arrays++) cargo.emplace_back(field[*arrays], 1);
  if (!cargo.empty()) comm->reverse_comm(this, int(cargo.size()));
  for (const auto &[array, width] : cargo) std::fill(array + atom->nlocal, array + atom->nlocal + atom->nghost, 0.0);
}

// Forces that were kept apart: their virial, and with newton off their way home.
void PairComposer::finish(int sites) {
  if (vflag_global) add_virial(own_forces.data(), sites);
  const int added = force->newton_pair ? sites : atom->nlocal;
  if (!force->newton_pair) {
    cargo = {{own_forces.data(), 3}};
    if (vflag_atom) cargo.emplace_back(own_virials.data(), 6);
    comm->reverse_comm(this, vflag_atom ? 9 : 3);
  }
  for (int i = 0; i < added; i++)
    for (int c = 0; c < 3; c++) atom->f[i][c] += own_forces[3 * size_t(i) + c];
  if (vflag_atom && !force->newton_pair)
    for (int i = 0; i < atom->nlocal; i++)
      for (int c = 0; c < 6; c++) vatom[i][c] += own_virials[6 * size_t(i) + c];
}

void PairComposer::add_virial(const double *f, int sites) {
  double **x = atom->x;
  for (int i = 0; i < sites; i++, f += 3) {
    virial[0] += x[i][0] * f[0];
    virial[1] += x[i][1] * f[1];
    virial[2] += x[i][2] * f[2];
    virial[3] += x[i][1] * f[0];
    virial[4] += x[i][2] * f[0];
    virial[5] += x[i][2] * f[1];
  }
}

// ---- communication ----

int PairComposer::pack_forward_comm(int n, int *sent, double *buffer, int, int *) {
  int m = 0;
  for (int k = 0; k < n; k++)
    for (const auto &[array, width] : cargo)
      for (int c = 0; c < width; c++) buffer[m++] = array[width * size_t(sent[k]) + c];
  return m;
}

void PairComposer::unpack_forward_comm(int n, int first, double *buffer) {
  int m = 0;
  for (int i = first; i < first + n; i++)
    for (const auto &[array, width] : cargo)
      for (int c = 0; c < width; c++) array[width * size_t(i) + c] = buffer[m++];
}

int PairComposer::pack_reverse_comm(int n, int first, double *buffer) {
  int m = 0;
  for (int i = first; i < first + n; i++)
    for (const auto &[array, width] : cargo)
      for (int c = 0; c < width; c++) buffer[m++] = array[width * size_t(i) + c];
  return m;
}

void PairComposer::unpack_reverse_comm(int n, int *received, double *buffer) {
  int m = 0;
  for (int k = 0; k < n; k++)
    for (const auto &[array, width] : cargo)
      for (int c = 0; c < width; c++) array[width * size_t(received[k]) + c] += buffer[m++];
}

// ---- restarts: the file of the potential and the species of the types ----

void PairComposer::write_restart_settings(FILE *fp) {
  const int length = int(potential->path.size());
  fwrite(&length, sizeof(int), 1, fp);
  fwrite(potential->path.data(), 1, length, fp);
}

void PairComposer::read_restart_settings(FILE *fp) { open(read_text(fp)); }

void PairComposer::write_restart(FILE *fp) {
  write_restart_settings(fp);
  fwrite(species_of_type.data(), sizeof(int), species_of_type.size(), fp);
}

void PairComposer::read_restart(FILE *fp) {
  read_restart_settings(fp);
  species_of_type.assign(atom->ntypes + 1, -1);
  if (comm->me == 0 && fread(species_of_type.data(), sizeof(int), species_of_type.size(), fp) != species_of_type.size())
    error->one(FLERR, "The restart file ends within pair_style composer. Write pair_style and pair_coeff again after read_restart");
  MPI_Bcast(species_of_type.data(), int(species_of_type.size()), MPI_INT, 0, world);
  act_on_types();
}

std::string PairComposer::read_text(FILE *fp) {
  int length = 0;
  if (comm->me == 0 && (fread(&length, sizeof(int), 1, fp) != 1 || length < 0 || length > 65536))
    error->one(FLERR, "The restart file holds no file name of pair_style composer. Write pair_style and pair_coeff again after read_restart");
  MPI_Bcast(&length, 1, MPI_INT, 0, world);
  std::string text(length, ' ');
  if (comm->me == 0 && int(fread(&text[0], 1, length, fp)) != length)
    error->one(FLERR, "The restart file ends within pair_style composer. Write pair_style and pair_coeff again after read_restart");
  MPI_Bcast(&text[0], length, MPI_CHAR, 0, world);
  return text;
}

double PairComposer::memory_usage() {
  return Pair::memory_usage() + 8.0 * double(fields.size() + own_forces.size() + own_virials.size() + scratch.size()) + 4.0 * double(species.size());
}
