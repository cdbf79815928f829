#!/bin/sh
# Train on several GPUs of one host or of several, started by torchrun.
#
# On one host:            deploy/train-torchrun.sh 8 --data.images … --data.labels … --training.batch-size 32
# (there `segcore train --training.devices 8 …` does the same without torchrun)
# On each of 4 hosts:     NODES=4 HEAD=host1 deploy/train-torchrun.sh 8 --data.images … …
#
# All hosts see the workspace (--workspace or SEGCORE_WORKSPACE) and the images under the same paths. The first
# process makes the run and writes; Ctrl-C on its host stops the training and keeps the best model.
set -eu

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
devices=$1
shift
NODES=${NODES:-1}
HEAD=${HEAD:-localhost}
PORT=${PORT:-29500}
BIN=${SEGCORE_BIN:-$(dirname "$0")/../.venv/bin}

if [ "$NODES" -gt 1 ]; then
    # c10d: the hosts find each other at HEAD, in whatever order they start.
    meeting="--nnodes $NODES --rdzv-backend c10d --rdzv-endpoint $HEAD:$PORT --rdzv-id ${RUN_ID:-segcore}"
else
    meeting="--standalone"
fi
# --max-restarts 0: a run that broke off is resumed from its checkpoint (segcore jobs resume), not begun anew.
# shellcheck disable=SC2086
exec "$BIN/python" -m torch.distributed.run $meeting --nproc-per-node "$devices" --max-restarts 0 \
    -m segcore.cli train --training.devices "$devices" --training.num-nodes "$NODES" "$@"
