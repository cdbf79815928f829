"""`python -m segcore.cli` is `segcore`."""

from __future__ import annotations

import sys

from segcore.cli import main

sys.exit(main())
