#!/usr/bin/env bash
# One experiment on several machines by MPI; the program is built with `--features mpi`.
# All ranks must see the folder that is written to.
#
#   experiments/jobs/mpi.sh 8 experiments/paper/stanford-gpt2-small/universality.yaml
#   experiments/jobs/mpi.sh 8 experiments/paper/stanford-gpt2-small/universality.yaml --resume
set -euo pipefail
ranks=$1 spec=$2
shift 2
exec mpirun -n "$ranks" universal-neurons run "$spec" --mpi --checkpoint 600 "$@"
