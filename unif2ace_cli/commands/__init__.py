"""One module per command; each has a function `run` that Typer turns into the command."""
