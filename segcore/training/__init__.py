"""Training: run.py is the map, loop.py the loop, state.py what makes a run resumable."""
