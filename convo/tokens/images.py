"""Estimate the tokens of an image in a prompt. Each model has its own rule, and few rules are published."""

from math import ceil

# OpenAI's rule for gpt-4o and similar models: the image is scaled down to fit a square, then until its short
# side is no longer than the limit. It costs a base amount, and an amount for each tile.
_SQUARE, _SHORT_SIDE, _TILE = 2048, 768, 512
_BASE_COST, _TILE_COST = 85, 170
# OpenAI's rule for smaller and newer models: an amount for each patch, up to a maximum of patches.
_PATCH, _PATCH_COST = 32, 1.62
_MAX_PATCHES = {"low": 256, "original": 10_000}
_DEFAULT_MAX_PATCHES = 1536


def image_cost(width: int, height: int, detail: str = "auto") -> int:
    """Return the tokens of an image of this size, by the rule of OpenAI's that gives more."""
    return max(_by_tiles(width, height, detail), _by_patches(width, height, detail))


def max_image_cost(detail: str = "auto") -> int:
    # This image exceeds every limit, so one of unknown size can't cost more.
    return image_cost(100_000, 100_000, detail)


def _by_tiles(width: int, height: int, detail: str) -> int:
    if detail == "low":
        return _BASE_COST
    scale = min(1.0, _SQUARE / max(width, height))
    scale = min(scale, _SHORT_SIDE / min(width, height))
    tiles = ceil(width * scale / _TILE) * ceil(height * scale / _TILE)
    return _BASE_COST + _TILE_COST * tiles


def _by_patches(width: int, height: int, detail: str) -> int:
    patches = ceil(width / _PATCH) * ceil(height / _PATCH)
    return ceil(min(patches, _MAX_PATCHES.get(detail, _DEFAULT_MAX_PATCHES)) * _PATCH_COST)
