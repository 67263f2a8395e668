"""Starts victims, one for each door, and notices when one dies or hangs; goes on behind the input that did it."""

import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO

HANG_SECONDS = 60.0
"""Of silence, not of CPU, which the victim itself measures: a busy machine is not a hang."""
MOST_DEATHS = 20


@dataclass
class Report:
    """What one door did: inputs tried and taken, and what was wrong, by the number of the input."""

    target: str
    seed: int
    tried: int = 0
    taken: int = 0
    problems: dict[int, str] = field(default_factory=dict)


def attack(target: str, seed: int, count: int, first: int = 0) -> Report:
    """Try `count` inputs from number `first` on one door."""
    report = Report(target, seed, tried=count)
    at, end = first, first + count
    deaths = 0
    while at < end:
        died_at = _one_victim(report, at, end)
        if died_at is None:
            break
        deaths += 1
        if deaths >= MOST_DEATHS:
            report.problems[died_at] += "; given up"
            break
        at = died_at + 1
    return report


def _one_victim(report: Report, first: int, last: int) -> int | None:
    """Run one process over a range of inputs; return the input that it did not survive, None where it did."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.victim"]
    victim = subprocess.Popen(
        [*command, report.target, str(report.seed), str(first), str(last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    said: list[str] = []
    readers = [
        threading.Thread(target=_pass_on, args=(victim.stdout, lines), daemon=True),
        threading.Thread(target=lambda: said.extend(victim.stderr or ()), daemon=True),
    ]
    for reader in readers:
        reader.start()
    at = None
    try:
        while (line := lines.get(timeout=HANG_SECONDS)) is not None:
            verb, _, rest = line.strip().partition(" ")
            if verb == "at":
                at = int(rest)
            elif verb == "problem":
                number, problem = json.loads(rest)
                report.problems[number] = problem
            elif verb == "done":
                report.taken += int(rest)
                return None
        code = victim.wait(10)
        readers[1].join(10)
        problem = f"the process ended with {code}: {''.join(said)[-500:]}"
    except queue.Empty:
        problem = f"nothing heard for {HANG_SECONDS:.0f} s"
    finally:
        victim.kill()
        victim.wait(10)
    if at is None:
        raise RuntimeError(f"{report.target}: not even its seeds are taken: {problem}")
    report.problems[at] = problem
    return at


def _pass_on(output: IO[str] | None, lines: "queue.Queue[str | None]") -> None:
    for line in output or ():
        lines.put(line)
    lines.put(None)
