"""What the monitor knows without asking anyone: references, tallies, metrics of a window, rules. Pure; numpy inside."""
