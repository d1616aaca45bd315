"""The composition root: the only room that sees the adapters and the engine together."""
