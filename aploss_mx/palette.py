"""Colours that colour-blind readers tell apart: those of Okabe and Ito (2008), "Color Universal Design"."""

from __future__ import annotations

BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

# Of curves, each with a line style of its own, which tells it apart without its colour.
CURVES = ((BLACK, "-"), (BLUE, "--"), (VERMILION, ":"), (GREEN, "-."), (PURPLE, (0, (5, 1, 1, 1, 1, 1))))
