"""Applying a trained model: read, predict, write plane by plane."""
