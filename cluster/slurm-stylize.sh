#!/usr/bin/env bash
# SLURM: start Ray on the nodes of this allocation and run the job on it.
#
#   sbatch cluster/slurm-stylize.sh --config configs/demo.yaml --input /shared/photos --output /shared/stylized
#
# Submit it in the root of the repository, on a disk that all nodes share, after `make setup`.
# Canceled, preempted or out of time? Finished units stay: submit the same line again.
#SBATCH --job-name=stylize
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:t4:2
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"

# A token for this allocation alone, because other users reach these ports. srun hands the environment on.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600 # seconds until all nodes must have come

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# symmetric-run starts the head on the first node and workers on the others, runs the job once all have joined, and
# stops Ray after it. --exclusive above is needed because that stops every Ray of yours on a node.
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=1 \
    ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- \
    python jobs/stylize_dataset.py "$@"
