"""What goes wrong in a town, scene by scene. Each scene begins when the town has settled.

A scene is a story: it breaks something, waits, and measures what only quiet can show. Afterwards
everything is healed, and the town has to settle again. Whoever writes a new one puts `@scene` before it.
"""

from tests.simulation.scenes import (
    adversaries,
    calm,
    deaths,
    endings,
    leading,
    names,
    pauses,
    people,
    servers,
    stalls,
    storms,
)
from tests.simulation.scenes.common import SCENES

__all__ = [
    "SCENES",
    "adversaries",
    "calm",
    "deaths",
    "endings",
    "leading",
    "names",
    "pauses",
    "people",
    "servers",
    "stalls",
    "storms",
]
