"""How much, how fast, and how often a registry is asked."""
