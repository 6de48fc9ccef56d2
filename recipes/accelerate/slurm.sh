#!/bin/bash
# Any number of machines under SLURM, with torchrun's rendezvous:
#   sbatch --nodes 2 recipes/accelerate/slurm.sh recipes/vqa/vle-large.yaml train.seed=1
# One task a machine; torchrun starts one process a GPU. The recipe is the same on any number of them: the global batch is what
# it says, and one that does not divide is refused. The data and the run folder lie on a file system that all machines see.
#SBATCH --job-name=vle-bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# A job that is preempted or whose machine fails starts again, and goes on from its newest whole checkpoint (--resume below).
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

GPUS_PER_NODE=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
mapfile -t NODES < <(scontrol show hostnames "$SLURM_JOB_NODELIST")

srun --cpus-per-task "${SLURM_CPUS_PER_TASK:-64}" torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc_per_node "$GPUS_PER_NODE" \
    --rdzv_id "$SLURM_JOB_ID" \
    --rdzv_backend c10d \
    --rdzv_endpoint "${NODES[0]}:29500" \
    -m vle_bench train "$@" --resume
