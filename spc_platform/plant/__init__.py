"""The embedded plant: a MES server with known truth, from a seed and a virtual clock.

It stands in for a factory's own systems, so it imports nothing of the platform's core: what it knows about
shifts, states and counts it computes by itself, and the platform's figures are compared with that.
"""

from spc_platform.plant.server import PlantServer, serve
from spc_platform.plant.simulation import Plant

__all__ = ["Plant", "PlantServer", "serve"]
