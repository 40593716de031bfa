"""Network definitions; import the modules by name, e.g. ``from symbols.retinanet import get_network``."""

from symbols import mxnet_setup  # noqa: F401  (MXNet needs it, whoever imports it)
