"""The documents of bucket settings: what each may hold, and its two spellings."""
