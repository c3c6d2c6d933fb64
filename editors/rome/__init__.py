"""ROME: rank-one model editing (Meng et al., 2022)."""
