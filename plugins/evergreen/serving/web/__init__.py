"""One worker's HTTP: the short way for the paths that ask a model, and all other pages."""
