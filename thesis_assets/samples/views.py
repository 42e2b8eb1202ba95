"""The two photographs of a triplet: linked as they are, or black outside the people; and how much of them people cover."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import ThesisAssetsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LowMaskCoverage(ThesisAssetsError):
    """People cover less of a view than the experiment wants."""


class View:
    """One photograph and its union mask. Read at most once, by the first thread that asks: a reference serves several targets.

    Args:
        mask: None where the scene has no masks, or none is needed: then the view counts as one whole mask.
        blacken: black outside the mask.
    """

    def __init__(self, image: Path, mask: Path | None, *, blacken: bool) -> None:
        self._image = image
        self._mask_path = mask
        self._blacken = blacken
        self._reading = threading.Lock()
        self._making = threading.Lock()
        self._mask: NDArray[np.bool_] | None = None
        self._coverage: float | None = None
        self._content: Path | bytes | None = None

    @property
    def untouched(self) -> bool:
        """Whether the file stays as it is whatever its mask says; false where a mask has to be read first."""
        return self._mask_path is None or not self._blacken

    @property
    def coverage(self) -> float | None:
        """Mean of the mask, in [0, 1]; None without one.

        Raises:
            InvalidFile: the mask cannot be read.
        """
        with self._reading:
            if self._mask_path is not None and self._coverage is None:
                import numpy as np

                from thesis_assets.images.codecs import read_mask

                self._mask = read_mask(self._mask_path)
                self._coverage = np.count_nonzero(self._mask) / self._mask.size
            return self._coverage

    def content(self) -> Path | bytes:
        """What becomes the sample's image: the file itself where no pixel changes, else the bytes of a JPEG.

        Raises:
            InvalidFile: the photograph or its mask cannot be read.
            SizeMismatch: they differ in size.
        """
        with self._making:
            if self._content is None:
                all_people = self.coverage in (None, 1.0)
                self._content = self._image if all_people or not self._blacken else self._blackened()
                self._mask = None  # A megapixel each, and not needed again.
            return self._content

    def _blackened(self) -> bytes:
        from thesis_assets.images.codecs import check_size, encode_blackened, read_rgb

        assert self._mask is not None, "the coverage was read just before"
        image = read_rgb(self._image)
        height, width = self._mask.shape
        check_size((height, width), (image.shape[0], image.shape[1]), str(self._mask_path))
        return encode_blackened(image, self._mask)


@dataclass(frozen=True)
class ViewPair:
    """Target and reference of one triplet, with the coverage that the experiment wants of both."""

    target: View
    reference: View
    min_coverage: float

    def target_content(self) -> Path | bytes:
        """As `View.content`; first of all refuses a pair with too few people in it.

        Raises:
            LowMaskCoverage: the smaller coverage of the two is below the wanted one.
        """
        coverage = self.coverage()
        if coverage is not None and coverage < self.min_coverage:
            raise LowMaskCoverage(
                "people cover too little of the target or the reference",
                key="generation.filtering.min_mask_coverage",
                found=f"{coverage:.4f}",
                wanted=f"at least {self.min_coverage}",
            )
        return self.target.content()

    def coverage(self) -> float | None:
        """The smaller coverage of the two; None in a scene without masks."""
        shares = [share for share in (self.target.coverage, self.reference.coverage) if share is not None]
        return min(shares) if shares else None
