"""One outside library per module, each behind a port of core.ports."""
