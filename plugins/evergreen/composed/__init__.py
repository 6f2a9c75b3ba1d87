"""The program behind `make up`, `make status`, `make logs` and `make down`: the stack in containers on this host.

Standard library only, so that a host needs Docker and Python, and no environment of its own.
"""
