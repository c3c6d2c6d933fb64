"""MEND: learned transformation of gradient factors (Mitchell et al., 2022)."""
