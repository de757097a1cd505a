"""unif2ace_cli: the part of UniF2ace that talks to people. The work is done by unif2ace_core."""

from unif2ace_core import __version__

__all__ = ["__version__"]
