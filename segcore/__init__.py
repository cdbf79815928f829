"""The engine of Segcore Studio: trains segmentation models and applies them to images."""

__version__ = "0.1.0"
