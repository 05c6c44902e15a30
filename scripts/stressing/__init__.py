"""Stress runs of mounts."""
