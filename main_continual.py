"""Train over a sequence of tasks: ``python main_continual.py --help``."""

import sys

from cassle.cli import main_continual

if __name__ == "__main__":
    sys.exit(main_continual(sys.argv[1:]))
