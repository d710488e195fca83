"""Install into the running interpreter's environment: ``python install.py``, Python 3.10 to 3.13.

One command for all of them, because RecBole 1.2.1 requires a ray that has no wheel for Python
3.12 and later: there it is installed without its own requirements. This package never uses ray.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--constraints", default="constraints.txt", help="file of the versions to install"
    )
    arguments = parser.parse_args()
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        sys.stderr.write(
            f"error: Python {sys.version.split()[0]} is not supported: use 3.10 to 3.13\n"
        )
        return 2
    constraints = HERE / arguments.constraints
    torch = next(
        line for line in constraints.read_text().splitlines() if line.startswith("torch==")
    )
    steps = [[torch], ["-c", str(constraints), "-e", f"{HERE}[test]"]]
    if sys.version_info >= (3, 12):
        steps.append(["--no-deps", "recbole==1.2.1"])
    for step in steps:
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *step], check=False)
        if done.returncode:
            sys.stderr.write(f"error: pip install {' '.join(step)} failed\n")
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
