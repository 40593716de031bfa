"""AP-loss (Chen et al., CVPR 2019) for one-stage detectors, in Apache MXNet and GluonCV."""

import symbols  # noqa: F401  (prepares the process for `import mxnet`)

__version__ = "0.1.0"
