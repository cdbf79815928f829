"""Scores: counts first, scores second, so that tiles, slices and processes can be added up."""
