#!/usr/bin/env bash
# Run all tests of the GPU path: run.sh PYTHON [fake|real], of an environment with the GPU build of MXNet (make test-gpu).
# fake: on the CPU, by the fake CUDA libraries of this folder; real: on the machine's first two GPUs.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 devices=${2:-fake}
if [ "$devices" = real ]; then
    folders='import glob, sysconfig; print(":".join(glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib")))'
    libraries=$("$python" -c "$folders")
    export NVIDIA_TF32_OVERRIDE=0  # or convolutions would round to 10 bits from Ampere on
    # A run that was killed is compared bit for bit: cuDNN's fastest may add up in any order, and be another each time.
    export MXNET_ENFORCE_DETERMINISM=1 MXNET_CUDNN_AUTOTUNE_DEFAULT=0
else
    libraries=$PWD/build/fake_cuda
    PYTHONPATH=$PWD "$python" tests/gpu/fake_cuda/build.py "$libraries"
    # Memory that MXNet keeps for later arrays, and kernels that it writes itself, could not be checked.
    export MXNET_GPU_MEM_POOL_TYPE=Unpooled MXNET_USE_FUSION=0
fi
export LD_LIBRARY_PATH=$libraries APLOSS_MX_TEST_DEVICE=gpu APLOSS_MX_TEST_CUDA=$devices
export MXNET_CUDNN_LIB_CHECKING=0 OMP_NUM_THREADS=1
# What a fake library says when it ends the program would be lost in a capture of file descriptors. A worker that it ended
# is not replaced, since pytest-xdist may wait for ever then.
exec "$python" -m pytest -n 2 --dist loadfile --max-worker-restart 0 --capture=sys --durations=20 tests/gpu \
    tests/ranking/test_ap_loss_operator.py tests/ranking/test_ap_loss_symbol.py tests/training/test_data_parallel.py \
    tests/losses/test_{box_loss,focal_loss,logit_types,ohem_loss,ranking_loss_blocks}.py
