"""Networks that answer prompts (points, boxes, masks) on a slice: SAM, SAM 2 and SAM 3, used, not trained.

Torch-free but for `sam` and `serve`: the web app talks to them through `client`.
"""
