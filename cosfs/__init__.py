"""Tencent Cloud Object Storage as a filesystem and a library."""

__version__ = "0.1.0"
