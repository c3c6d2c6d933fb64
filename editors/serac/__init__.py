"""SERAC: a memory, a scope classifier and a counterfactual model (Mitchell et al., 2022)."""
