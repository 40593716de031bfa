"""Sum up what all workers of a run must share: settings, classes and data."""

from __future__ import annotations

import json
import zlib
from typing import Any, Sequence

from aploss_mx.config import Recipe
from aploss_mx.data.sample import Sample


def checksums(recipe: Recipe, classes: Sequence[str], samples: Sequence[Sample]) -> dict[str, int]:
    """Return CRC-32s by what they are of; where the pretrained weights and the images lie is no part of them."""
    settings = {**recipe.to_dict(), "pretrained": None, "classes": None}
    data = 0
    for sample in samples:
        data = zlib.crc32(f"{sample.image_id} {sample.width} {sample.height}".encode(errors="surrogatepass"), data)
        for array in (sample.boxes, sample.labels, sample.trained):
            data = zlib.crc32(array.tobytes(), data)
    return {"settings": checksum(settings), "classes": checksum(list(classes)), "training data": data}


def checksum(value: Any) -> int:
    """Return the CRC-32 of what JSON can hold."""
    return zlib.crc32(json.dumps(value).encode())
