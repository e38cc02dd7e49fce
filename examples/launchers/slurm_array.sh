#!/bin/bash
#SBATCH --job-name=kmedclf
#SBATCH --array=0-4
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# One network, five seeds: the number in the array is the seed.
#
#     sbatch slurm_array.sh
#     sbatch --export=ALL,NETWORK=resnet,DATA=/scratch/cells,OUT=/scratch/runs slurm_array.sh
#
# Two minutes before its time is over, Slurm ends a training, which keeps its last epoch. The task
# then queues again, and goes on from there. For a GPU, add: #SBATCH --gpus-per-task=1
set -euo pipefail

network=${NETWORK:-cnn}
data=${DATA:-bloodmnist}
run=${OUT:-runs}/$network-$SLURM_ARRAY_TASK_ID
terminated=143

if [ -e "$run/model.kmedclf" ]; then
  echo "$run is finished."
  exit
fi
if [ -e "$run.checkpoint/training.json" ]; then
  training=(--resume "$run")
else
  training=("$network" --data "$data" --seed "$SLURM_ARRAY_TASK_ID" --out "$run")
fi
code=0
srun kmedclf train "${training[@]}" --quiet || code=$?
if [ "$code" = "$terminated" ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
