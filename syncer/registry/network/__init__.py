"""The network: one exchange over it, who may be reached, and through what."""
