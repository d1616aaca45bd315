"""Registries that imitate real ones, each with what it is documented to do otherwise than the specification.

``python -m tests.support.personalities`` prints the matrix of all of them.
"""
