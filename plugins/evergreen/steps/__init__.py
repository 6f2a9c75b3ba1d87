"""One file per step of a run. Steps get ports as arguments and can be killed and run again."""
