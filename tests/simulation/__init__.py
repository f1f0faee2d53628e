"""Whole towns of processes on one store, simulated by seed: see `town` for the model, and `engines` for the
stores that expire sessions themselves.

run(seed)      one town, from its founding to its end; raises `Broken` if a promise was not kept. The seed
               chooses the mode and the servers of the store, unless `mode` and `engine` do
hunt(seeds)    the first `Broken` among these seeds, or None: what a planted bug is tried with
"""

from tests.simulation.town import Broken, Result, hunt, run

__all__ = ["Broken", "Result", "hunt", "run"]
