"""Package description; `pip install -e .[cpu,dev]` sets up a working copy."""

from pathlib import Path

from setuptools import find_packages, setup

# What the losses' mathematics take, for whatever framework; any numpy.
MATHEMATICS = ["numpy>=1.20", "scipy>=1.5"]

# What MXNet 1.9.1 and GluonCV 0.10.5 were tested with; see the README for the versions of Python.
DETECTOR = [
    "gluoncv==0.10.5.post0",
    # MXNet 1.9.1 uses names that numpy 1.24 removed; Python 3.12 has no older numpy and gets them back at import.
    "numpy>=1.20,<1.24; python_version<'3.12'",
    "numpy>=1.26,<2; python_version>='3.12'",
    "setuptools; python_version>='3.12'",
    "defusedxml>=0.7,<1",
    "Jinja2>=3.0,<4",
    "matplotlib>=3.5,<3.11",
    # 4.12 wants numpy 2 on some platforms.
    "opencv-python>=4.5.4,<4.12",
    "pandas>=1.2,<3",
    "Pillow>=9.1,<14",
    "portalocker",
    "pycocotools>=2.0.6,<2.1",
    "PyYAML>=5.4,<7",
    "requests",
    "safetensors>=0.4,<1",
    "scipy<1.16",
    "tensorboardX>=2.5,<3",
    "tqdm>=4.60,<5",
]

MXNET_GPU = "mxnet-cu112==1.9.1"
# The compiler that mx.rtc loads; compiles without a GPU.
NVRTC = "nvidia-cuda-nvrtc-cu11==11.8.*"
# MXNet's CUDA build brings no CUDA; `aploss_mx.cuda` loads these before it.
CUDA = [
    NVRTC,
    "nvidia-cublas-cu11==11.11.*",
    "nvidia-cuda-runtime-cu11==11.8.*",
    "nvidia-cudnn-cu11==8.9.*",
    "nvidia-cufft-cu11==10.9.*",
    "nvidia-curand-cu11==10.3.*",
    "nvidia-cusolver-cu11==11.4.*",
    "nvidia-nccl-cu11==2.16.*",
    "nvidia-nvtx-cu11==11.8.*",
]

# Compiles the ranking losses' passes on the CPU; without it NumPy makes them, with the same bits.
NUMBA = "numba>=0.56"

ONNX = [
    # MXNet 1.9.1 uses onnx.mapping, which 1.18 is the last to have and 1.17 the last to have whole.
    "onnx>=1.8,<1.18",
    "onnxruntime",
    "ml_dtypes<0.6",  # of onnxruntime's quantization; 0.6 takes numpy from 1.25 on
]

if not (Path(__file__).parent / "aploss_mx" / "models").is_dir():
    raise SystemExit("aploss_mx/models is no folder: a ZIP archive loses this link; install a clone, or a tar archive")

setup(
    name="aploss_mx",
    version="0.1.0",
    description="AP-loss (Chen et al., CVPR 2019) for one-stage detectors, in Apache MXNet and GluonCV",
    author="The aploss_mx maintainers",
    license="Apache-2.0",
    url="https://arxiv.org/abs/1904.06373",  # the paper
    keywords=["object detection", "average precision", "ranking loss", "RetinaNet", "MXNet", "GluonCV"],
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.8,<3.13",
    packages=find_packages(include=["aploss_mx", "aploss_mx.*", "symbols"]),
    entry_points={"console_scripts": ["aploss-mx = aploss_mx.cli:main"]},
    package_data={
        "aploss_mx": ["py.typed", "recipes/*.yaml", "ranking/gpu/kernels.cu", "*/templates/*", "models/*"],
    },
    install_requires=MATHEMATICS,
    extras_require={
        "cpu": [*DETECTOR, "mxnet==1.9.1"],
        "gpu": [*DETECTOR, MXNET_GPU, *CUDA],
        # On fake GPUs, whose libraries tests/gpu builds itself; on real ones with "gpu".
        "gpu-test": [*DETECTOR, MXNET_GPU, "hypothesis>=6", NUMBA, NVRTC, "pytest>=7", "pytest-xdist>=3"],
        "onnx": ONNX,
        "fast": [NUMBA],
        "dev": [
            "hypothesis>=6",
            "mypy>=1.8",
            NUMBA,
            NVRTC,
            *ONNX,
            "pytest>=7",
            "pytest-xdist>=3",
            "ruff>=0.17,<0.18",  # each minor version may lay out code in its own way
            "selenium>=4.6",  # drives Chromium, where there is one
            "setuptools",
            "types-PyYAML",
            "wheel",
        ],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
