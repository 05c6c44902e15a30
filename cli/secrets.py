"""Secrets on the screen: shown as little as will do."""

from __future__ import annotations


def mask(secret: str) -> str:
    """Show only enough of a secret to recognise it."""
    return "*" * 16 + secret[-4:] if len(secret) >= 12 else "*" * 16
