"""Evergreen keeps models fresh: it retrains, judges, approves, releases and serves them."""
