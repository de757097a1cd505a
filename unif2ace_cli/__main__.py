"""Runs the command line as a module: `python -m unif2ace_cli generate "rosy cheeks"`."""

import sys

from unif2ace_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
