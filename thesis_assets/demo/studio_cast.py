"""Who is in the studio: four pairs, eight individuals with shapes and outfits of their own, six scenes."""

from dataclasses import dataclass

from thesis_assets.demo.studio_outfits import Outfit, Pattern
from thesis_assets.demo.studio_people import Individual

_PALE, _TAN, _BROWN, _DARK = (0.93, 0.76, 0.66), (0.85, 0.65, 0.51), (0.66, 0.46, 0.34), (0.44, 0.29, 0.21)
_WHITE, _NAVY, _BLACK = (0.93, 0.93, 0.90), (0.13, 0.18, 0.40), (0.12, 0.12, 0.13)

PAIRS: dict[str, tuple[Individual, Individual]] = {
    "pair00": (
        Individual(
            "male",
            (1.0, 0.3, 0.8, 0.5, 0.8, -0.3, 0.0, 0.2, 0.5, 0.6),
            Outfit(
                _PALE,
                (0.32, 0.20, 0.12),
                Pattern("stripes", (0.80, 0.16, 0.17), _WHITE, 0.15),
                Pattern("plain", (0.20, 0.29, 0.50)),
                (0.25, 0.16, 0.12),
            ),
        ),
        Individual(
            "female",
            (-1.2, -0.6, 0.3, -0.2, -0.8, 0.6, -0.8, -0.1, 0.3, -0.8),
            Outfit(
                _TAN,
                (0.86, 0.70, 0.34),
                Pattern("plain", (0.10, 0.58, 0.57)),
                Pattern("dots", (0.10, 0.58, 0.57), _WHITE, 0.12),
                (0.90, 0.88, 0.82),
                sleeves=0.2,
                trousers=-1.0,
                hair_style="long",
                skirt=True,
            ),
        ),
    ),
    "pair01": (
        Individual(
            "male",
            (0.4, 0.8, -0.2, 0.4, 1.0, 0.2, 0.6, 0.0, 0.9, 0.5),
            Outfit(
                _TAN,
                (0.10, 0.09, 0.09),
                Pattern("checks", (0.20, 0.55, 0.25), (0.09, 0.22, 0.13), 0.16),
                Pattern("plain", (0.70, 0.62, 0.45)),
                (0.15, 0.15, 0.16),
                sleeves=0.95,
            ),
        ),
        Individual(
            "male",
            (-0.3, -0.5, 0.6, 0.2, 0.1, -0.4, -0.6, 0.3, -0.2, 0.1),
            Outfit(
                _PALE,
                (0.72, 0.35, 0.14),
                Pattern("band", (0.94, 0.78, 0.20), _NAVY, 0.12),
                Pattern("plain", (0.45, 0.47, 0.52)),
                (0.85, 0.25, 0.20),
                sleeves=0.35,
                trousers=0.48,
            ),
        ),
    ),
    "pair02": (
        Individual(
            "female",
            (-0.8, 0.1, 0.2, 0.0, -0.6, 0.9, -0.2, 0.1, 0.4, -0.6),
            Outfit(
                _DARK,
                (0.09, 0.07, 0.07),
                Pattern("stripes", (0.56, 0.32, 0.70), _WHITE, 0.13),
                Pattern("plain", _BLACK),
                (0.55, 0.25, 0.60),
                sleeves=0.7,
                hair_style="bun",
            ),
        ),
        Individual(
            "male",
            (0.7, 1.0, 0.1, 0.3, 0.5, 0.3, 1.4, 0.2, 0.5, 0.6),
            Outfit(
                _PALE,
                (0.66, 0.66, 0.67),
                Pattern("checks", (0.92, 0.52, 0.16), (0.60, 0.22, 0.10), 0.15),
                Pattern("plain", _NAVY),
                (0.35, 0.24, 0.18),
            ),
        ),
    ),
    "pair03": (
        Individual(
            "male",
            (0.9, -0.2, 1.0, 0.8, 0.6, -0.2, -0.3, -0.2, 0.2, 0.7),
            Outfit(
                _DARK,
                (0.08, 0.07, 0.07),
                Pattern("stripes", (0.25, 0.62, 0.85), _NAVY, 0.14),
                Pattern("plain", (0.86, 0.84, 0.78)),
                (0.30, 0.20, 0.15),
                sleeves=0.95,
            ),
        ),
        Individual(
            "female",
            (-0.9, -0.2, 0.5, -0.1, -0.5, 0.4, -0.5, 0.0, 0.5, -0.7),
            Outfit(
                _PALE,
                (0.36, 0.17, 0.10),
                Pattern("plain", (0.90, 0.36, 0.52)),
                Pattern("stripes", (0.90, 0.36, 0.52), (0.96, 0.86, 0.60), 0.14),
                (0.70, 0.15, 0.25),
                sleeves=0.3,
                trousers=-1.0,
                hair_style="bun",
                skirt=True,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class StudioScene:
    """One scene: who, what they do (a choreography), where the pair is turned (degrees about y), its seed.

    `swapped`: the estimate numbers the two people the other way round; the registry says so.
    """

    pair: str
    action: str
    choreography: str
    turned: float
    seed: int
    swapped: bool = False

    @property
    def name(self) -> str:
        return f"studio_{self.pair}_{self.action}"


SCENES = (
    StudioScene("pair00", "dance", "waltz", 10.0, 100),
    StudioScene("pair00", "hug", "hug", -20.0, 101),
    StudioScene("pair01", "dance", "swing", -5.0, 110),
    StudioScene("pair01", "fight", "boxing", 15.0, 111),
    StudioScene("pair02", "hug", "hug", 25.0, 120, swapped=True),
    StudioScene("pair03", "dance", "twirl", 0.0, 130),
)
