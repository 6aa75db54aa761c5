"""Where the visual tokens of a clip go: budget arithmetic, anchor seconds, resolution plans."""
