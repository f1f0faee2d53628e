"""python -m tests.simulation --seeds 300 [--first 0] [--jobs 2] · --seed 17 [--mode ticks] [--engine etcd]
[--trace]"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from tests.simulation.engines import KINDS
from tests.simulation.faults import missing
from tests.simulation.town import run
from tests.simulation.world import Broken

BATCH = 50
"""So many towns, in both modes and on every kind of store, must have seen every fault and put every promise
to the test."""


Task = tuple[int, str | None, str | None]


def one(task: Task) -> tuple[int, str | None, Counter[str], Counter[str]]:
    seed, mode, engine = task
    try:
        result = run(seed, mode=mode, engine=engine)
    except Broken as broken:
        return seed, str(broken), Counter(), Counter()
    return seed, None, result.faults, result.kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate whole towns.")
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--mode", choices=("ticks", "sessions"))
    parser.add_argument("--engine", choices=KINDS, help="what sessions stand on; with it, --mode is sessions")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    if options.engine is not None:
        options.mode = "sessions"
    if options.seed is not None:
        return alone(options.seed, options.mode, options.engine, options.trace)
    seeds = range(options.first, options.first + options.seeds)
    began, failed, done = time.monotonic(), 0, 0
    faults: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    with multiprocessing.Pool(options.jobs) as pool:
        for seed, broken, seed_faults, seed_kept in pool.imap_unordered(
            one, [(seed, options.mode, options.engine) for seed in seeds], chunksize=4
        ):
            done += 1
            faults += seed_faults
            kept += seed_kept
            if broken is not None:
                failed += 1
                lines = broken.splitlines()
                print(f"seed {seed}: {lines[0] if options.keep_going else broken}", flush=True)
                if not options.keep_going:
                    break
    print(f"{done} towns in {time.monotonic() - began:.0f} s, {failed} with a broken promise")
    if done >= BATCH and options.mode is None and not failed and (unseen := missing(faults, kept)):
        failed += 1
        print("no town has shown, or nobody has listed:", ", ".join(unseen))
    for title, counts in (("faults", faults), ("promises kept", kept)):
        print(f"{title}:")
        for name, count in sorted(counts.items()):
            print(f"  {count:9}  {name}")
    return 1 if failed else 0


def alone(seed: int, mode: str | None, engine: str | None, trace: bool) -> int:
    try:
        result = run(seed, mode=mode, engine=engine, record=trace)
    except Broken as broken:
        print("\n".join(broken.trace) if trace else "", broken, sep="\n")
        return 1
    print("\n".join([*result.lines, f"seed {seed}: all promises kept in {result.seconds:.0f} s"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
