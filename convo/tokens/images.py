"""What an image costs in a prompt: an estimate, for each model has its own rule and few publish one."""

from math import ceil

# OpenAI's rule for gpt-4o and its like: the image is scaled down to fit a square, then until its short side
# is no longer than this; it costs so much for each tile of it, and so much besides.
_SQUARE, _SHORT_SIDE, _TILE = 2048, 768, 512
_BASE, _EACH_TILE = 85, 170
# Their rule for smaller and newer models: so much for each patch, of so many at most.
_PATCH, _EACH_PATCH = 32, 1.62
_MOST_PATCHES = {"low": 256, "original": 10_000}
_USUAL_PATCHES = 1536


def image_cost(width: int, height: int, detail: str = "auto") -> int:
    """The tokens of an image of this size, by whichever of OpenAI's two rules counts more."""
    return max(_by_tiles(width, height, detail), _by_patches(width, height, detail))


def greatest_cost(detail: str = "auto") -> int:
    """What an image costs at most: for one whose size is not known."""
    return image_cost(100_000, 100_000, detail)


def _by_tiles(width: int, height: int, detail: str) -> int:
    if detail == "low":
        return _BASE
    scale = min(1.0, _SQUARE / max(width, height))
    scale = min(scale, _SHORT_SIDE / min(width, height))
    tiles = ceil(width * scale / _TILE) * ceil(height * scale / _TILE)
    return _BASE + _EACH_TILE * tiles


def _by_patches(width: int, height: int, detail: str) -> int:
    patches = ceil(width / _PATCH) * ceil(height / _PATCH)
    return ceil(min(patches, _MOST_PATCHES.get(detail, _USUAL_PATCHES)) * _EACH_PATCH)
