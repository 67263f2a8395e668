"""Tries inputs one after another and says on stdout what it is at, so that whoever watches knows what killed it."""

import argparse
import json
import resource
import time
import warnings

import numpy as np

from tests.fuzz.mutation import Fields, mutate
from tests.fuzz.targets import Target, is_clear, targets

CPU_SECONDS = 1.0
MEMORY_MIB = 512
"""How much the process may grow above what the seeds took: a picture of the default limit, 50 million pixels, takes 8
bytes a pixel while it is decoded, 400 MB."""


def mutated(target: Target, seed: int, number: int) -> Fields:
    """Return an input by its number; the same on every machine."""
    return mutate(np.random.default_rng([seed, number]), target.seeds)


def problem_with(target: Target, fields: Fields) -> tuple[bool, str | None]:
    """Try one input; return whether it was taken, and what was wrong with how it was answered."""
    began = time.process_time()
    taken, problem = False, None
    try:
        target.try_one(fields)
        taken = True
    except target.refusals as error:
        if not is_clear(error):
            problem = f"an unclear refusal: {str(error)[:300]!a}"
    except BaseException as error:
        problem = f"raised {type(error).__name__}: {str(error)[:300]!a}"
    took = time.process_time() - began
    if took > CPU_SECONDS:
        problem = problem or f"took {took:.1f} s of CPU"
    return taken, problem


def peak_mib() -> float:
    """Return the largest resident memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Try the inputs `first` to `last` - 1 of a target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("seed", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    target = targets()[chosen.target]
    for fields in target.seeds:
        target.try_one(fields)  # what is real is taken
    limit = peak_mib() + MEMORY_MIB
    taken = 0
    for number in range(chosen.first, chosen.last):
        print(f"at {number}", flush=True)
        was_taken, problem = problem_with(target, mutated(target, chosen.seed, number))
        taken += was_taken
        if peak_mib() > limit:
            problem = problem or f"memory grew by more than {MEMORY_MIB} MiB"
            limit = peak_mib() + MEMORY_MIB
        if problem:
            print(f"problem {json.dumps([number, problem])}", flush=True)
    print(f"done {taken}", flush=True)


if __name__ == "__main__":
    main()
