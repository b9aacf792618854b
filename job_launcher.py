"""Run an experiment from a bash script: ``python job_launcher.py --script bash_files/continual/digits/barlow.sh``."""

import sys

from cassle.engine.launch import launch
from cassle.errors import ConfigError

HELP = """usage: job_launcher.py --script SCRIPT [--experiment_dir DIR] [--dry_run] [--overwrite] [--FLAG VALUE ...]

Runs the commands of a script of bash_files/, without a shell. The same command again continues a run that was stopped.

  --script SCRIPT            the script; $VARIABLES in it are expanded from the environment
  --experiment_dir DIR       folder of the experiment (default: the script's --name)
  --base_experiment_dir DIR  folder that holds the folders of experiments (default: experiments)
  --dry_run                  tell what would be run, with an estimate of time and disk; run nothing
  --overwrite                start anew; an existing folder is moved aside
  --FLAG VALUE               any other flag overrides the script's: see main_continual.py --help
"""

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(HELP)
        sys.exit(0 if arguments else 2)
    try:
        sys.exit(launch(arguments))
    except ConfigError as error:
        sys.exit("\n".join(error.problems))
