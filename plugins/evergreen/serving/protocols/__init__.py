"""How models are asked: each protocol's bodies, read strictly for one version's schema, and its answers."""
