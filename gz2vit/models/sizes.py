"""Sizes of transformers that fit together; errors that say what would."""

from gz2vit.errors import Gz2vitError


def count_tokens(image_size: int, patch_size: int) -> int:
    """Tokens of an image of `image_size` px in patches of `patch_size` px, and the class token.

    Raises `Gz2vitError` if the patches do not tile the image.
    """
    if not 1 <= patch_size <= image_size or image_size % patch_size:
        fits = [size for size in range(4, image_size + 1) if image_size % size == 0]
        raise Gz2vitError(
            f"patch_size {patch_size} does not divide image_size {image_size}; "
            f"these do: {', '.join(map(str, fits))}"
        )
    return (image_size // patch_size) ** 2 + 1


def check_heads(dim: int, heads: int) -> None:
    """Raise `Gz2vitError` if `heads` attention heads cannot share a width of `dim`."""
    if not 1 <= heads <= dim or dim % heads:
        fits = [number for number in range(1, dim + 1) if dim % number == 0]
        raise Gz2vitError(
            f"heads {heads} does not divide dim {dim}; these do: {', '.join(map(str, fits))}"
        )


def check_positive(**numbers: int) -> None:
    """Raise `Gz2vitError` for a size that is not a whole number from 1 on."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise Gz2vitError(f"{name} is {number!r}; it must be a whole number from 1 on")


def check_dropout(**shares: float) -> None:
    """Raise `Gz2vitError` for a drop probability outside 0 to 1, or of 1, which drops all."""
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise Gz2vitError(f"{name} is {share!r}; it must lie between 0 and 1, below 1")
