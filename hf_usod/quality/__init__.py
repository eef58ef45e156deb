"""How good maps are, as far as that can be said without masks."""
