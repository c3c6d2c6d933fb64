"""IKE: in-context knowledge editing (Zheng et al., 2023)."""
