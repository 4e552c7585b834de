#!/usr/bin/env bash
# One experiment as a Slurm job array: each task sums its share of the tokens.
#
#   sbatch --array=1-8 experiments/jobs/slurm.sh experiments/paper/stanford-gpt2-small.yaml
#   universal-neurons merge SPEC runs/NAME.shard-*-of-8      # when all tasks have ended
#
# A task that is cut short is submitted again and goes on from its checkpoint.
#SBATCH --job-name=universal-neurons
#SBATCH --cpus-per-task=32
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
spec=$1
out=runs/$(basename "$spec" .yaml)
share=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
checkpoint=$out.shard-$SLURM_ARRAY_TASK_ID-of-$SLURM_ARRAY_TASK_COUNT.checkpoint
resume=()
[ -e "$checkpoint" ] && resume=(--resume)
exec universal-neurons run "$spec" --shard "$share" --out "$out" \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --checkpoint 600 "${resume[@]}"
