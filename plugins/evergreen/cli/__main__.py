"""`python -m evergreen.cli`, where the command is not on PATH."""

from evergreen.cli import main

main()
