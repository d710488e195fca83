"""Run a model from a checkout: ``python run_recbole_fofa.py --help``."""

import sys

from recbole_fofa.command_line import main

if __name__ == "__main__":
    sys.exit(main())
