"""Attention backends that keep packed samples apart: one file each, `NAME` and `attention`."""
