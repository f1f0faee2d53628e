"""Writes the table of docs/guarantees.md: from what the stores declare, once they have kept every law that is
put to them. The laws are put to real servers; nothing is written if one was broken, or not tried."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from headcount.testing.conformance import laws  # noqa: E402
from tests.conformance.declared import DECLARED, PAGE, page_part, page_with  # noqa: E402
from tools.run_tests import outcomes  # noqa: E402


def kept(results: Path) -> dict[str, set[str]]:
    """By module, the laws that were tried and kept."""
    found: dict[str, set[str]] = {}
    for name, _, outcome in outcomes(results):
        module, _, law = name.partition("::")
        if outcome == "passed":
            found.setdefault(module.rpartition(".")[2], set()).add(law)
    return found


def main() -> int:
    modules = [f"tests/conformance/{one.module}.py" for one in DECLARED]
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch, "results.xml")
        command = [sys.executable, "-m", "pytest", "--quiet", "-n", "2", f"--junit-xml={results}", *modules]
        subprocess.run(command, cwd=ROOT, check=False)
        tried = kept(results)
    missing = [
        f"{one.store}: {law}"
        for one in DECLARED
        for law in sorted(laws(one.guarantees).keys() - tried.get(one.module, set()))
    ]
    if missing:
        print(f"{len(missing)} laws were not kept, or not tried, and so nothing is written:")
        print("\n".join(missing))
        return 1
    PAGE.write_text(page_with(page_part()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
