"""From what a network answers to objects: targets, losses and decoding of instance heads, and stitching."""
