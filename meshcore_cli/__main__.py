"""``python -m meshcore_cli`` is ``meshcore``."""

from __future__ import annotations

import sys

from meshcore_cli.main import main

sys.exit(main())
