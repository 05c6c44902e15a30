"""The engine for programs: `cosfs.Session` and what it takes and gives. Documented in docs/api.md."""
