"""unif2ace_core: the model, its training and its evaluation. Prints nothing, imports lazily."""

__version__ = "0.1.0"
