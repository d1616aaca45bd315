"""``python -m syncer``: the command line."""

from __future__ import annotations

import sys

from syncer.cli import main

sys.exit(main())
