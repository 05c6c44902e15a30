"""`python -m cli` in a checkout, `python -m cosfs.cli` when installed."""

from __future__ import annotations

from .start import main

main()
