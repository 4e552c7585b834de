#!/usr/bin/env bash
# One experiment as a Slurm job array: each task sums its share of the tokens.
#
#   sbatch --array=1-8 experiments/jobs/slurm.sh experiments/paper/stanford-gpt2-small/universality.yaml
#   universal-neurons merge SPEC runs/NAME.shard-*-of-8      # when all tasks have ended
#
# A task that is cut short is submitted again and goes on from its checkpoint:
#
#   sbatch --array=3 experiments/jobs/slurm.sh SPEC
#
# The first whole array records the number of shares in runs/NAME.shares; SHARES=8 in the
# environment overrides it.
#SBATCH --job-name=universal-neurons
#SBATCH --cpus-per-task=32
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
spec=$1
name=$(sed -n 's/^name: *//p' "$spec")
out=runs/${name:-$(basename "$spec" .yaml)}
task=$SLURM_ARRAY_TASK_ID
count=${SLURM_ARRAY_TASK_COUNT:-1}
first=${SLURM_ARRAY_TASK_MIN:-1} last=${SLURM_ARRAY_TASK_MAX:-$count}
record=$out.shares

fail() {
    echo "error: $1" >&2
    echo "  help: $2" >&2
    exit 2
}

recorded=
[ -e "$record" ] && recorded=$(cat "$record")
whole=
# A single task may be one of several that is submitted again.
[ "$first" = 1 ] && [ "$last" = "$count" ] && [ "$count" -gt 1 ] && whole=$count
shares=${SHARES:-${recorded:-$whole}}
if [ -z "$shares" ]; then
    fail "the array $first-$last does not say how many shares there are" \
        "submit all tasks first, as --array=1-8, or set SHARES to their number"
fi
if [ -z "${SHARES:-}" ] && [ -n "$whole" ] && [ "$whole" != "$shares" ]; then
    fail "the array is of $whole tasks, but $record says $shares shares" \
        "set SHARES to the number of shares, $shares to go on or $whole to begin again"
fi
if [ "$task" -lt 1 ] || [ "$task" -gt "$shares" ]; then
    fail "there is no share $task of $shares" "number the tasks from 1 to $shares"
fi
if [ "$shares" != "$recorded" ]; then
    mkdir -p "$(dirname "$record")"
    # Tasks of one array write the same number, each through a file of its own.
    echo "$shares" >"$record.$task"
    mv "$record.$task" "$record"
fi

resume=()
[ -e "$out.shard-$task-of-$shares.checkpoint" ] && resume=(--resume)
exec universal-neurons run "$spec" --shard "$task/$shares" --out "$out" \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --checkpoint 600 "${resume[@]+"${resume[@]}"}"
