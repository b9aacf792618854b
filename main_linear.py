"""Probe a checkpoint offline: ``python main_linear.py --help``."""

import sys

from cassle.cli import main_linear

if __name__ == "__main__":
    sys.exit(main_linear(sys.argv[1:]))
