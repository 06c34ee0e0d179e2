"""Factors between units."""

S_PER_NS = 1e-9
