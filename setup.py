"""Package description; `pip install -e .[cpu,dev]` sets up a working copy."""

from pathlib import Path

from setuptools import find_packages, setup

# What MXNet 1.9.1 and GluonCV 0.10.5 were tested with; see the README for the versions of Python.
REQUIREMENTS = [
    "gluoncv==0.10.5.post0",
    # MXNet 1.9.1 uses names that numpy 1.24 removed; Python 3.12 has no older numpy and gets them back at import.
    "numpy>=1.20,<1.24; python_version<'3.12'",
    "numpy>=1.26,<2; python_version>='3.12'",
    "setuptools; python_version>='3.12'",
    "defusedxml>=0.7,<1",
    "matplotlib>=3.5,<3.11",
    # 4.12 wants numpy 2 on some platforms.
    "opencv-python>=4.5.4,<4.12",
    "pandas<3",
    "Pillow>=9.1,<14",
    "portalocker",
    "pycocotools>=2.0.6,<2.1",
    "PyYAML>=5.4,<7",
    "requests",
    "safetensors>=0.3,<1",
    "scipy<1.16",
    "tensorboardX>=2.5,<3",
    "tqdm>=4.60,<5",
]

# Compiles the ranking losses' passes on the CPU; without it NumPy makes them, with the same bits.
NUMBA = "numba>=0.56"

setup(
    name="aploss_mx",
    version="0.1.0",
    description="AP-loss (Chen et al., CVPR 2019) for one-stage detectors, in Apache MXNet and GluonCV",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.8,<3.13",
    packages=find_packages(include=["aploss_mx", "aploss_mx.*", "symbols"]),
    entry_points={"console_scripts": ["aploss-mx = aploss_mx.cli:main"]},
    package_data={"aploss_mx": ["recipes/*.yaml", "ranking/gpu/kernels.cu"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "cpu": ["mxnet==1.9.1"],
        "gpu": ["mxnet-cu112==1.9.1"],
        # MXNet 1.9.1 uses onnx.mapping, which 1.18 is the last to have and 1.17 the last to have whole.
        "onnx": ["onnx>=1.8,<1.18"],
        "fast": [NUMBA],
        "dev": [
            "hypothesis>=6",
            NUMBA,
            "nvidia-cuda-nvrtc-cu11==11.8.*",  # the compiler that mx.rtc loads; compiles without a GPU
            "onnx>=1.8,<1.18",
            "onnxruntime",
            "pytest>=7",
            "pytest-xdist>=3",
            "ruff>=0.12",
        ],
    },
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)],
)
