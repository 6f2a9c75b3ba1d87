"""Versions on trial in one worker: who is answered by them, what is counted, and the guard that takes them off."""
