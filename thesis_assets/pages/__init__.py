"""Pages for a browser: one file each, that loads nothing and runs nothing but itself."""
