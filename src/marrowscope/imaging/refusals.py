"""Why a file gives no picture, before the file has a name: the format readers raise, ``read_header`` names the file."""

from __future__ import annotations

from marrowscope.errors import ImageError
from marrowscope.records import Fault
from marrowscope.wording import count_of

_EXPORT_AGAIN = "export the image again or remove it"
SAVE_PLAIN = "save it as 8-bit RGB (JPEG, PNG or TIFF)"


class RefusedError(Exception):
    """The file cannot become the right picture: what was found, what was expected, what to do."""

    def __init__(self, found: str, expected: str, action: str = _EXPORT_AGAIN) -> None:
        """Keep the parts of the sentence; the place is added by the caller who knows it."""
        super().__init__(found)
        self.found, self.expected, self.action = found, expected, action

    def at(self, where: str) -> ImageError:
        """Return the error with its place."""
        return image_error(Fault("unreadable_image", where, self.found, self.expected, self.action))


class CutShortError(Exception):
    """The file ends before its image does."""


def image_error(fault: Fault) -> ImageError:
    """Return the error whose sentence is the fault's."""
    return ImageError(fault.sentence(), fault)


def cut_short(where: str, n_bytes: int) -> ImageError:
    """Return the error of a file that ends before its image does."""
    found = f"{count_of(n_bytes, 'byte')} that do not decode"
    fault = Fault("unreadable_image", where, found, "a complete image", "export it again or remove it")
    return ImageError(f"{where}: found an image that ends too early; copy or export it again", fault)


def damaged(kind: str) -> RefusedError:
    """Return the refusal of a file whose content contradicts its format."""
    return RefusedError(f"a damaged {kind}", "a complete image", "copy or export it again")
